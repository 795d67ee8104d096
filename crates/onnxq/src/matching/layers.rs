//! [`Layer`]: what computes a matched tensor, and from which others.

use std::collections::{HashMap, HashSet};

use onnxq_ir::{Graph, NodeId, ValueId};

use super::{FloatPlace, Graphs, MatchedActivation, Place};

/// What computes a tensor of a float model from matched tensors: a node, or several where the
/// tensors in between have no twin, as between Conv and Relu where they are fused.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Layer {
    /// The name of the node that stands for the layer: of several, the one with weights that is
    /// nearest to the tensor. Empty where it has none, and for an input of the model.
    pub node: String,
    /// Its operator; empty for an input.
    pub op: String,
    /// What the layer reads: indices of matched activations.
    pub inputs: Vec<usize>,
}

/// Operators with weights.
const WITH_WEIGHTS: &[&str] = &[
    "Attention",
    "Conv",
    "ConvTranspose",
    "Einsum",
    "FusedConv",
    "FusedMatMul",
    "GRU",
    "Gemm",
    "LSTM",
    "MatMul",
    "RNN",
];

/// The most nodes of a layer.
const LARGEST: usize = 64;

/// Finds the layer of every activation.
pub(super) fn find(floats: &[Graphs<'_>], activations: &mut [MatchedActivation]) {
    let index: HashMap<FloatPlace, usize> = activations
        .iter()
        .enumerate()
        .map(|(i, a)| (a.float, i))
        .collect();
    for activation in activations {
        let float = activation.float;
        let graph = floats[float.model].graph(float.place.graph);
        let matched = |value: ValueId| {
            let place = Place {
                value,
                ..float.place
            };
            index.get(&FloatPlace { place, ..float }).copied()
        };
        activation.layer = layer(graph, float.place.value, &matched);
    }
}

fn layer(graph: &Graph, v: ValueId, matched: &dyn Fn(ValueId) -> Option<usize>) -> Layer {
    let mut layer = Layer::default();
    let mut nodes: Vec<NodeId> = vec![v.node];
    let mut seen: HashSet<NodeId> = nodes.iter().copied().collect();
    let mut next = 0;
    while next < nodes.len().min(LARGEST) {
        for operand in graph.operands(nodes[next]).into_iter().flatten() {
            match matched(operand) {
                Some(i) if !layer.inputs.contains(&i) => layer.inputs.push(i),
                Some(_) => {}
                None if graph.op(operand.node).is_some() && seen.insert(operand.node) => {
                    nodes.push(operand.node);
                }
                None => {}
            }
        }
        next += 1;
    }
    let op = |n: &NodeId| graph.op(*n).map_or("", |op| op.op_type.as_str());
    let weighted = nodes.iter().find(|n| WITH_WEIGHTS.contains(&op(n)));
    let node = *weighted.unwrap_or(&v.node);
    layer.op = graph.op(node).map(|op| op.qualified()).unwrap_or_default();
    if !layer.op.is_empty() {
        layer.node.clone_from(&graph.node(node).name);
    }
    layer
}
