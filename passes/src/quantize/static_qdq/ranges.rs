//! Which tensors need a range, and which range each gets.
//!
//! A tensor that Relu or Clip alone uses gets the range behind it: what they cut off needs no
//! codes. Softmax gives values from 0 to 1, whatever was observed.

use std::collections::HashMap;

use indexmap::IndexMap;
use onnxq_ir::{Graph, NodeId, ValueId};
use onnxq_quant::{Ranges, ValueRange};

use super::{
    marks::{Constraints, Marks, Source, eligible},
    settings::StaticSettings,
};

/// Where the range of a tensor comes from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in crate::quantize) enum RangeOf {
    /// It is known.
    Fixed(ValueRange),
    /// What is observed of this tensor.
    Tensor(ValueId),
}

/// The tensors of which the range comes from elsewhere than their own values.
pub(in crate::quantize) fn adjusted(
    graph: &Graph,
    settings: &StaticSettings,
    constraints: &Constraints,
    nodes: impl Iterator<Item = NodeId>,
) -> HashMap<ValueId, RangeOf> {
    let mut adjusted = HashMap::new();
    for n in nodes {
        let Some(op) = eligible(settings, graph, n) else {
            continue;
        };
        if constraints.excluded.contains(&n) {
            continue;
        }
        if op.is("Softmax") {
            let range = RangeOf::Fixed(ValueRange::new(0.0, 1.0));
            adjusted.insert(graph.result(n, 0), range);
        }
        if (op.is("Relu") || op.is("Clip"))
            && let Some(x) = graph.operand(n, 0)
            && graph.sole_use(x).is_some()
        {
            adjusted.insert(x, RangeOf::Tensor(graph.result(n, 0)));
        }
    }
    adjusted
}

/// The tensors of a graph whose range is needed, each with where it comes from.
pub(in crate::quantize) fn needed(
    graph: &Graph,
    settings: &StaticSettings,
    marks: &Marks,
    constraints: &Constraints,
) -> IndexMap<ValueId, RangeOf> {
    let adjusted = adjusted(graph, settings, constraints, marks.nodes.keys().copied());
    let needs = |&v: &ValueId| {
        let mark = &marks.tensors[&v];
        let given = settings.overrides.get(&graph.value(v).name);
        let known = given.is_some_and(|o| {
            o.convert.is_none() && (o.params.is_some() || o.rmin.is_some() && o.rmax.is_some())
        });
        mark.source == Source::Activation && mark.constant.is_none() && !known
    };
    let tensors = marks.tensors.keys().copied().filter(needs);
    tensors
        .map(|v| (v, *adjusted.get(&v).unwrap_or(&RangeOf::Tensor(v))))
        .collect()
}

/// The range of `v`, if there is one: its own where the one that it should have is not there.
pub(in crate::quantize) fn range(
    graph: &Graph,
    ranges: &Ranges,
    v: ValueId,
    from: RangeOf,
) -> Option<ValueRange> {
    let of = |v: ValueId| ranges.get(&graph.value(v).name).map(|r| r.whole());
    match from {
        RangeOf::Fixed(range) => Some(range),
        RangeOf::Tensor(source) => of(source).or_else(|| of(v)),
    }
}
