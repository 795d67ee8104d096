//! Masks: what is added before Softmax to leave elements out, and what 8 bits make of it.
//!
//! A mask holds 0 and a number far below, the lowest of all floats often. Codes of such a range
//! tell masked elements from others and nothing else: all others have the same code, and attention
//! becomes a mean.

use onnxq_ir::{Graph, NodeId, ValueId};
use onnxq_pass::{PassContext, describe};
use onnxq_quant::{QRange, Ranges, ValueRange};

use super::{
    super::options::complain,
    marks::{Mark, Marks, Source},
    settings::StaticSettings,
};

/// The widest step between codes that Softmax is given: rounding changes weights by 28 % then.
/// The scores of MiniLM's attention, without the mask, have steps below 0.4.
const WIDEST_STEP: f64 = 0.5;

/// An input of Softmax that codes make nothing of.
#[derive(Clone, Debug)]
pub(in crate::quantize) struct Masked {
    name: String,
    range: ValueRange,
    /// The nodes that it connects.
    pub(in crate::quantize) nodes: Vec<NodeId>,
    described: Vec<String>,
}

/// Finds such inputs.
pub(in crate::quantize) fn masked(
    graph: &Graph,
    settings: &StaticSettings,
    marks: &Marks,
    ranges: &Ranges,
) -> Vec<Masked> {
    let steps = f64::from(QRange::full(settings.activation_type).steps());
    let masked = |(&v, mark): (&ValueId, &Mark)| {
        let before_softmax = |&n: &NodeId| graph.is(n, "Softmax") && graph.operand(n, 0) == Some(v);
        if mark.source != Source::Activation || !mark.askers.iter().any(before_softmax) {
            return None;
        }
        let name = &graph.value(v).name;
        let range = ranges.get(name)?.whole();
        let width = f64::from(range.hi) - f64::from(range.lo);
        (width / steps > WIDEST_STEP).then(|| Masked {
            name: name.clone(),
            range,
            nodes: mark.askers.to_vec(),
            described: mark
                .askers
                .iter()
                .map(|&n| describe(graph, n).to_string())
                .collect(),
        })
    };
    marks.tensors.iter().filter_map(masked).collect()
}

/// Says of such inputs which nodes stay float.
pub(in crate::quantize) fn of_masked(inputs: &[Masked], cx: &mut PassContext) {
    let Some(Masked { name, range, .. }) = inputs.first() else {
        return;
    };
    let nodes: Vec<String> = inputs.iter().flat_map(|i| i.described.clone()).collect();
    let Some(nodes) = complain::few(&nodes) else {
        return;
    };
    cx.warning(format_args!(
        "`{name}`, which goes into Softmax, ranges from {:e} to {:e}, as with a mask, and codes \
         would make all of it but the mask equal: {nodes} stay float",
        range.lo, range.hi
    ));
}
