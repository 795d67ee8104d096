//! What a graph says about a node or a value that static quantization asks for.

use std::collections::HashMap;

use onnxq_ir::{Graph, NodeId, Op, ValueId};
use onnxq_quant::QuantType;

use super::{super::unfold::literal, rules};

/// Whether `v` is the result of a DequantizeLinear.
pub(in crate::quantize) fn is_dequantized(graph: &Graph, v: ValueId) -> bool {
    graph
        .op(v.node)
        .is_some_and(|op| rules::quantizes(op) && op.op_type == "DequantizeLinear")
}

/// Whether DequantizeLinear `n` has codes that are computed, of activations, with one scale.
pub(in crate::quantize) fn has_one_scale(graph: &Graph, n: NodeId) -> bool {
    let operand = |i| graph.operand(n, i);
    let scale = operand(1).and_then(|v| literal(graph, v));
    let codes = operand(0).and_then(|v| graph.ty(v)?.dtype());
    let is_constant = operand(0).is_some_and(|v| literal(graph, v).is_some());
    scale.is_some_and(|s| s.len() == 1)
        && !is_constant
        && codes.is_none_or(|t| QuantType::from_dtype(t).is_some())
}

/// The values that a QuantizeLinear quantizes already, with the DequantizeLinear behind it.
pub(in crate::quantize) fn quantized(graph: &Graph, order: &[NodeId]) -> HashMap<ValueId, ValueId> {
    let mut found = HashMap::new();
    for &n in order {
        let is_quantize = |op: &Op| rules::quantizes(op) && op.op_type == "QuantizeLinear";
        let Some(v) = graph.operand(n, 0) else {
            continue;
        };
        if graph.op(n).is_some_and(is_quantize) {
            let codes = graph.result(n, 0);
            let back = graph.uses(codes).into_iter().find_map(|u| {
                let op = graph.op(u.node)?;
                let back = u.operand == 0 && rules::quantizes(op);
                back.then(|| graph.result(u.node, 0))
            });
            // Codes that something else takes go by themselves.
            found.entry(v).or_insert(back.unwrap_or(codes));
        }
    }
    found
}

/// Between which bounds a Relu or Clip limits its operand; `None` where a bound is computed.
pub(in crate::quantize) fn clip_bounds(graph: &Graph, n: NodeId) -> Option<(f32, f32)> {
    let op = graph.op(n)?;
    if op.is("Relu") {
        return Some((0.0, f32::INFINITY));
    }
    let bound = |i: usize, key: &str, default: f32| match graph.operand(n, i) {
        Some(v) => literal(graph, v)?.to_f32s().ok()?.first().copied(),
        None => Some(op.float(key, default)),
    };
    Some((
        bound(1, "min", f32::NEG_INFINITY)?,
        bound(2, "max", f32::INFINITY)?,
    ))
}

/// The axes of a reduction, where they are constant.
pub(in crate::quantize) fn reduced_axes(graph: &Graph, n: NodeId) -> Option<Vec<i64>> {
    match graph.operand(n, 1) {
        Some(v) => literal(graph, v)?.to_i64s().ok(),
        None => Some(graph.op(n)?.ints("axes")?.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use onnxq_ir::{Model, text};

    use super::*;

    #[test]
    fn bounds_of_relu_and_clip() {
        let source = r#"<ir_version: 8, opset_import: ["": 17]>
            main (float[4] x) => (float[4] a, float[4] b, float[4] c)
            <float lo = {-1}>
            { a = Relu (x)  b = Clip (x, lo)  c = Clip (x) }"#;
        let model = Model::from_def(text::parse(source, &()).unwrap()).unwrap();
        let graph = &model.graph;
        let bounds: Vec<_> = graph
            .results()
            .into_iter()
            .flatten()
            .map(|v| clip_bounds(graph, v.node).unwrap())
            .collect();
        let far = f32::INFINITY;
        assert_eq!(bounds, [(0.0, far), (-1.0, far), (-far, far)]);
    }
}
