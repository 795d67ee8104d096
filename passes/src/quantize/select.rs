//! Which nodes are quantized, and with which of their operands.
//!
//! A node counts if the options pick it and its operator is one that computes with integers, or
//! looks them up. The rest of this stage asks here, so that weights and activations agree.

use std::borrow::Cow;

use onnxq_ir::{Graph, Node, NodeId, Op, ValueId};
use onnxq_ops::{QuantRole, lookup};
use onnxq_tensor::DType;

use super::options::{DYNAMIC_OPS, Settings, complain};

/// What a node is to dynamic quantization.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// `activation` is multiplied with `weight`.
    Product {
        activation: usize,
        weight: usize,
        /// The axis of the weight that runs over output channels; negative counts from the end.
        channels: i64,
    },
    /// Rows of a table, operand 0.
    Table,
    /// Operand 0 is multiplied with the weights 1 and 2, of the shape `[directions, 4 * hidden, _]`.
    Recurrent,
}

/// Why a node is not quantized.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Skip {
    /// It has nothing to do with quantization: not worth a word.
    Other,
    /// The reason, in words.
    Because(Cow<'static, str>),
}

use Skip::Other;

impl Skip {
    pub(super) fn because(reason: impl Into<Cow<'static, str>>) -> Skip {
        Skip::Because(reason.into())
    }
}

/// What the operator of a node is to dynamic quantization, whatever the options say.
pub(super) fn role(op: &Op) -> Result<Role, Skip> {
    let operator = lookup(&op.domain, &op.op_type).ok_or(Other)?;
    let known = DYNAMIC_OPS.contains(&&*op.op_type);
    match operator.quant(op) {
        QuantRole::Affine {
            activation,
            weight,
            channel_axis,
            ..
        } if known => Ok(Role::Product {
            activation,
            weight,
            channels: channel_axis,
        }),
        QuantRole::Embedding if known => Ok(Role::Table),
        QuantRole::Recurrent if known => Ok(Role::Recurrent),
        QuantRole::Recurrent => Err(Skip::because("it has no integer form")),
        _ if op.is("ConvTranspose") => Err(Skip::because("it has no integer form")),
        _ => Err(Other),
    }
}

/// What a node is to dynamic quantization under these options.
pub(super) fn selected(settings: &Settings, node: &Node) -> Result<Role, Skip> {
    let op = node.op().ok_or(Other)?;
    let role = role(op)?;
    if !settings.op_types.contains(&op.op_type) {
        return Err(Skip::because("op-types does not list the operator"));
    }
    if settings.excludes(&node.name) {
        return Err(Skip::because("exclude-nodes lists the node"));
    }
    if !settings.names(&node.name) {
        return Err(Skip::because("nodes does not list the node"));
    }
    let factors = ["alpha", "beta"].map(|key| op.float(key, 1.0));
    if settings.compat && op.is("Gemm") && (factors != [1.0, 1.0] || op.int("transA", 0) != 0) {
        return Err(Skip::because("compat: it is not a plain product"));
    }
    Ok(role)
}

/// Whether operand `i` of `n` is computed, of a float type that is quantized, and not itself
/// dequantized (and then converted, perhaps).
pub(super) fn computes_floats(graph: &Graph, n: NodeId, i: usize) -> bool {
    let Some(v) = graph.operand(n, i) else {
        return false;
    };
    let dtype = graph.ty(v).and_then(|ty| ty.dtype());
    matches!(dtype, Some(DType::F32 | DType::F16)) && is_computed(graph, v)
}

/// Whether `v` is computed, and not by dequantizing something.
pub(super) fn is_computed(graph: &Graph, v: ValueId) -> bool {
    let source = match graph.is(v.node, "Cast") {
        true => graph.operand(v.node, 0).unwrap_or(v),
        false => v,
    };
    let node = graph.node(source.node);
    node.op()
        .map_or(node.is_input(), |op| !op.is("DequantizeLinear"))
}

/// Calls `visit` for every graph in which nodes are quantized, regions first, in an order that
/// does not depend on what `visit` changes. Bodies of functions are not among them: what a
/// function does to its operands, it does for all its callers.
pub(super) fn for_each_graph(
    settings: &Settings,
    graph: &mut Graph,
    mut visit: impl FnMut(&mut Graph),
) {
    if settings.subgraphs {
        graph.for_each_graph_mut(&mut visit);
    } else {
        visit(graph);
    }
}

/// What lists of the options say and no node answers to.
pub(super) fn complaints(settings: &Settings, graph: &Graph) -> Vec<String> {
    let mut complaints = Vec::new();
    for op in &settings.op_types {
        if !DYNAMIC_OPS.contains(&&**op) {
            let known = DYNAMIC_OPS.join(", ");
            complaints.push(format!(
                "op-types lists {op}, which dynamic quantization leaves alone (it knows {known})"
            ));
        }
    }
    let names = (settings.nodes.as_ref(), settings.exclude_nodes.as_ref());
    complaints.extend(complain::of_names(graph, names.0, names.1));
    complaints
}
