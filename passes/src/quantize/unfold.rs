//! Weights that stand behind operations on constants.
//!
//! ```text
//! Transpose(Reshape(W, shape))     the tensor it always is
//! ```
//!
//! Constant nodes, and what only moves or converts their elements. Constants that more is computed
//! from are for constant folding, which comes earlier.

use std::collections::HashMap;

use onnxq_ir::{Attr, Graph, NodeId, Op, ValueId};
use onnxq_ops::{EvalContext, EvalError, Value, lookup};
use onnxq_tensor::Tensor;

/// Operations that a weight may stand behind; operand 0 is the weight.
const MOVES: &[&str] = &[
    "Cast",
    "Flatten",
    "Identity",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// The longest way back from an operand to a constant.
const MAX_STEPS: usize = 16;

/// Tensors by where they come from and what was done to them, so that a weight used twice, or in
/// two regions, is one tensor.
#[derive(Default)]
pub(super) struct Unfolder {
    done: HashMap<String, Option<Tensor>>,
}

/// A tensor behind a value.
pub(super) struct Unfolded {
    pub(super) tensor: Tensor,
    /// The vertex it comes from: a constant or a Constant node.
    pub(super) source: NodeId,
}

impl Unfolder {
    /// The tensor that `v` always is.
    pub(super) fn tensor(&mut self, graph: &Graph, v: ValueId, opset: i64) -> Option<Unfolded> {
        let mut moves = Vec::new();
        let mut at = v;
        let base = loop {
            if let Some(tensor) = literal(graph, at) {
                break tensor;
            }
            let op = graph.op(at.node)?;
            let moving = op.domain.is_empty() && MOVES.contains(&&*op.op_type);
            if !moving || moves.len() == MAX_STEPS {
                return None;
            }
            moves.push(at.node);
            at = graph.operand(at.node, 0)?;
        };
        let source = at.node;
        if moves.is_empty() {
            return Some(Unfolded {
                tensor: base,
                source,
            });
        }
        let mut key = format!("{:p} {base:?}", base.bytes().as_ptr());
        let mut steps = Vec::new();
        for &n in moves.iter().rev() {
            let op = graph.op(n)?;
            let more: Option<Vec<Option<Tensor>>> = graph.operands(n)[1..]
                .iter()
                .map(|v| v.map_or(Some(None), |v| literal(graph, v).map(Some)))
                .collect();
            let more = more?;
            let ints = |t: &Option<Tensor>| t.as_ref().and_then(|t| t.to_i64s().ok());
            let numbers: Vec<_> = more.iter().map(ints).collect();
            key += &format!(" {} {:?} {numbers:?}", op.op_type, op.attrs);
            steps.push((op, more));
        }
        let apply = || {
            let apply = |t, (op, more): (&Op, Vec<_>)| evaluate(op, opset, t, more);
            steps.into_iter().try_fold(base, apply)
        };
        let tensor = self.done.entry(key).or_insert_with(apply).clone()?;
        Some(Unfolded { tensor, source })
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

fn evaluate(op: &Op, opset: i64, tensor: Tensor, more: Vec<Option<Tensor>>) -> Option<Tensor> {
    let operator = lookup("", &op.op_type)?;
    let rest = more.into_iter().map(|t| t.map(Value::Tensor));
    let operands: Vec<Option<Value>> = [Some(Value::Tensor(tensor))]
        .into_iter()
        .chain(rest)
        .collect();
    let no_region = |_: &Graph, _| Err(EvalError::Unsupported("regions".to_owned()));
    let cx = EvalContext::new(op, opset, &operands, 1, &no_region);
    match operator.eval(&cx).ok()?.into_iter().next()? {
        Value::Tensor(t) => Some(t),
        _ => None,
    }
}
