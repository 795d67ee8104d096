//! Weights that stand behind operations on constants.
//!
//! ```text
//! Transpose(Reshape(W, shape))                    the tensor it always is
//! Concat(Slice(W, ...), Slice(W, ...))            so do exporters reorder the gates of an LSTM
//! ```
//!
//! Constant nodes, and what only moves or converts their elements: constant folding may have left
//! such operations, since their results together are larger than what they are computed from.

use std::{collections::HashMap, fmt::Write};

use onnxq_ir::{Attr, Graph, NodeId, Op, ValueId};
use onnxq_ops::{EvalContext, EvalError, Value, lookup};
use onnxq_tensor::Tensor;

/// Operations that a weight may stand behind.
const MOVES: &[&str] = &[
    "Cast",
    "Concat",
    "Flatten",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// The most operations between an operand and its constants.
const MAX_STEPS: usize = 32;

/// Tensors by the expression they come from, so that a weight used twice, or in two regions, is
/// one tensor.
#[derive(Default)]
pub(super) struct Unfolder {
    done: HashMap<String, Option<Tensor>>,
}

/// A tensor behind a value.
pub(super) struct Unfolded {
    pub(super) tensor: Tensor,
    /// The vertex it comes from, the first if it comes from more: a constant or a Constant node.
    pub(super) source: NodeId,
}

impl Unfolder {
    /// The tensor that `v` always is.
    pub(super) fn tensor(&mut self, graph: &Graph, v: ValueId, opset: i64) -> Option<Unfolded> {
        if let Some(tensor) = literal(graph, v) {
            return Some(Unfolded {
                tensor,
                source: v.node,
            });
        }
        let mut key = String::new();
        let mut steps = 0;
        let source = describe(graph, v, &mut key, &mut steps)?;
        let evaluate = || evaluate(graph, v, opset);
        let tensor = self.done.entry(key).or_insert_with(evaluate).clone()?;
        Some(Unfolded { tensor, source })
    }
}

/// Writes the expression that `v` is, down to its constants; gives the first of those. `None`
/// where it is not constant, or too far away.
///
/// The recursion is no deeper than [`MAX_STEPS`].
fn describe(graph: &Graph, v: ValueId, key: &mut String, steps: &mut usize) -> Option<NodeId> {
    /// What is longer goes by its address.
    const SHORT: usize = 256;
    if let Some(tensor) = literal(graph, v) {
        let bytes = tensor.bytes();
        let _ = match bytes.len() {
            0..SHORT => write!(key, "{tensor:?}{bytes:?}"),
            _ => write!(key, "{tensor:?}{:p}", bytes.as_ptr()),
        };
        return Some(v.node);
    }
    let op = moving(graph, v)?;
    *steps += 1;
    if *steps > MAX_STEPS {
        return None;
    }
    let _ = write!(key, "{}.{}{:?}(", op.op_type, v.result, op.attrs);
    let mut first = None;
    for operand in graph.operands(v.node) {
        if let Some(operand) = operand {
            let source = describe(graph, operand, key, steps)?;
            first = first.or(Some(source));
        }
        key.push(',');
    }
    key.push(')');
    first
}

fn moving(graph: &Graph, v: ValueId) -> Option<&Op> {
    let op = graph.op(v.node)?;
    (op.domain.is_empty() && MOVES.contains(&&*op.op_type)).then_some(op)
}

/// Computes an expression that has been described.
fn evaluate(graph: &Graph, v: ValueId, opset: i64) -> Option<Tensor> {
    if let Some(tensor) = literal(graph, v) {
        return Some(tensor);
    }
    let op = moving(graph, v)?;
    let mut operands = Vec::new();
    for operand in graph.operands(v.node) {
        operands.push(match operand {
            Some(operand) => Some(Value::Tensor(evaluate(graph, operand, opset)?)),
            None => None,
        });
    }
    let no_region = |_: &Graph, _| Err(EvalError::Unsupported("regions".to_owned()));
    let results = graph.node(v.node).results.len();
    let cx = EvalContext::new(op, opset, &operands, results, &no_region);
    let results = lookup("", &op.op_type)?.eval(&cx).ok()?;
    match results.into_iter().nth(v.result as usize)? {
        Value::Tensor(t) => Some(t),
        _ => None,
    }
}

/// The tensor, if `v` is a constant or the result of a Constant node.
pub(super) fn literal(graph: &Graph, v: ValueId) -> Option<Tensor> {
    if let Some(tensor) = graph.tensor(v) {
        return Some(tensor.clone());
    }
    let op = graph.op(v.node).filter(|op| op.is("Constant"))?;
    match op.attrs.iter().next()? {
        (key, Attr::Tensor(t)) if key == "value" => Some(t.clone()),
        (key, Attr::Int(i)) if key == "value_int" => Some(Tensor::scalar(*i)),
        (key, Attr::Ints(v)) if key == "value_ints" => Some(Tensor::vector(v.clone())),
        (key, Attr::Float(x)) if key == "value_float" => Some(Tensor::scalar(*x)),
        (key, Attr::Floats(v)) if key == "value_floats" => Some(Tensor::vector(v.clone())),
        _ => None,
    }
}
