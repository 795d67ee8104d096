//! What goes wrong with quantization often enough to be said beforehand.

use onnxq_ir::{Graph, NodeId, ValueId};
use onnxq_pass::{PassContext, describe};
use onnxq_quant::{Method, QuantType, Ranges, TensorRange, ValueRange};

use super::{
    super::options::complain,
    marks::{Marks, Source},
    rules::{self, Rule},
    settings::StaticSettings,
};

/// How much wider than the median channel the widest may be before most channels are lost: at a
/// factor of 64 the median channel has 4 steps of 256 left. A table of physical quantities is at
/// several thousand.
const MOST_SPREAD: f32 = 64.0;

/// The axis of the channels of an input whose ranges are worth knowing one by one: rows of so many
/// features. `None` where the range of all would not follow from theirs: thresholds and means of
/// channels are not those of the tensor, the smallest and the largest value are.
pub fn feature_axis(graph: &Graph, v: ValueId, method: &Method) -> Option<i64> {
    let is_extremes = matches!(
        method,
        Method::MinMax {
            moving_average: false,
            ..
        }
    );
    let is_input = graph.inputs().contains(&v.node) && graph.node(v.node).is_input();
    let [_, features] = graph.ty(v)?.shape()?.as_slice() else {
        return None;
    };
    // Rows of another length each, such as sounds, have no features.
    (is_extremes && is_input && features.as_const().is_some()).then_some(1)
}

/// An input whose channels one scale does not do justice.
#[derive(Clone, Debug)]
pub(in crate::quantize) struct WideInput {
    name: String,
    spread: f32,
    /// What would be computed from its codes.
    pub(in crate::quantize) users: Vec<NodeId>,
    described: Vec<String>,
}

/// Finds such inputs, as far as the ranges of channels are known.
pub(in crate::quantize) fn wide_inputs(
    graph: &Graph,
    marks: &Marks,
    ranges: &Ranges,
) -> Vec<WideInput> {
    let wide = |&input: &NodeId| {
        let v = graph.result(input, 0);
        let mark = marks.tensors.get(&v)?;
        let name = &graph.value(v).name;
        let Some(TensorRange::Channels { ranges, .. }) = ranges.get(name) else {
            return None;
        };
        let spread = spread(ranges)?;
        let describe = |&n: &NodeId| describe(graph, n).to_string();
        (spread > MOST_SPREAD).then(|| WideInput {
            name: name.clone(),
            spread,
            described: mark.askers.iter().map(describe).collect(),
            users: mark.askers.to_vec(),
        })
    };
    graph.inputs().iter().filter_map(wide).collect()
}

/// How much farther from 0 the widest channel reaches than the median one does.
fn spread(ranges: &[ValueRange]) -> Option<f32> {
    let mut farthest: Vec<f32> = ranges.iter().map(|r| r.hi.max(-r.lo)).collect();
    // Channels of zeros lose nothing.
    farthest.retain(|&f| f > 0.0);
    farthest.sort_unstable_by(f32::total_cmp);
    Some(farthest.last()? / farthest.get(farthest.len() / 2)?)
}

fn is_product(graph: &Graph, n: NodeId) -> bool {
    let rule = |op| rules::rule(op, false, false);
    let rule = graph.op(n).map(rule);
    matches!(rule, Some(Rule::Product { .. } | Rule::MatMul))
}

/// Warns of such inputs; `left` if what uses them stays float.
pub(in crate::quantize) fn of_wide_inputs(inputs: &[WideInput], left: bool, cx: &mut PassContext) {
    for input in inputs {
        let WideInput { name, spread, .. } = input;
        let Some(nodes) = complain::few(&input.described) else {
            continue;
        };
        let what = match left {
            true => format!(
                "{nodes} stays float; bring the channels to one range before the model to \
                 quantize it too"
            ),
            false => format!("most are lost to {nodes}: leave it out with `exclude-nodes`"),
        };
        cx.warning(format_args!(
            "the widest channel of input `{name}` is {spread:.0} times as wide as the median, and \
             all would share one scale: {what}"
        ));
    }
}

/// What is said of a graph as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::quantize) struct Figures {
    products: usize,
    /// Element-wise operators and the like.
    others: usize,
    /// Pairs of QuantizeLinear and DequantizeLinear.
    pairs: usize,
}

impl Figures {
    pub(in crate::quantize) fn add(&mut self, graph: &Graph, marks: &Marks) {
        for (&n, &takes_part) in &marks.nodes {
            if takes_part && is_product(graph, n) {
                self.products += 1;
            } else if takes_part {
                self.others += 1;
            }
        }
        let activations = marks.tensors.values();
        self.pairs += activations
            .filter(|m| m.constant.is_none() && m.source == Source::Activation)
            .count();
    }

    /// Warns where quantization is not worth it, and notes what to know of the processor.
    pub(in crate::quantize) fn warn(self, settings: &StaticSettings, cx: &mut PassContext) {
        let Figures {
            products,
            others,
            pairs,
        } = self;
        if products == 0 && others > 0 {
            cx.warning(format_args!(
                "no product is quantized, but {others} other nodes are, with {pairs} pairs of \
                 QuantizeLinear and DequantizeLinear: the model will be slower; quantize a model \
                 with Conv, Gemm or MatMul, or list operators in `op-types`"
            ));
        }
        let pair_sums = settings.activation_type == QuantType::UInt8
            && settings.weight_type == QuantType::Int8
            && !settings.reduce_range;
        if products > 0 && pair_sums {
            cx.note(
                "on x86 processors without VNNI, runtimes may add pairs of uint8 x int8 products in \
                 16 bits, which saturate: use `reduce-range` for those",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_of_zeros_do_not_count() {
        let ranges = |all: &[f32]| -> Vec<ValueRange> {
            all.iter().map(|&r| ValueRange::new(-r, r / 2.0)).collect()
        };
        assert_eq!(spread(&ranges(&[1.0, 0.0, 0.0, 8.0, 1.0])), Some(8.0));
        assert_eq!(spread(&ranges(&[0.0])), None);
        assert_eq!(spread(&[]), None);
    }
}
