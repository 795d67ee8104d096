//! Operands that say what is so without them.

use onnxq_ir::{NodeId, ValueId};
use onnxq_pass::Rewriter;
use onnxq_tensor::Tensor;

/// `LSTM(x, W, R, B, lengths, zeros, zeros)` => `LSTM(x, W, R, B, lengths)`, and so for `GRU` and `RNN`: the
/// first state is zero where none is given.
///
/// Not where zero has a sign.
pub(super) fn zero_states(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    let operands = match rw.op(n)? {
        op if op.is("LSTM") => 5..7,
        op if op.is("GRU") || op.is("RNN") => 5..6,
        _ => return None,
    };
    let zero = |i: &usize| rw.operand(n, *i).is_some_and(|v| is_zero(rw, v));
    let zero: Vec<usize> = operands.filter(zero).collect();
    for &i in &zero {
        rw.set_operand(n, i, None);
    }
    (!zero.is_empty()).then_some(())
}

/// Operators whose result has elements of their first operand, and no others.
const MOVING: &[&str] = &[
    "Expand",
    "Flatten",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

/// Whether `v` is nothing but zeros.
fn is_zero(rw: &Rewriter<'_>, mut v: ValueId) -> bool {
    let zeros = |tensor: &Tensor| {
        let plain = |x: &f32| x.to_bits() == 0;
        tensor.to_f32s().is_ok_and(|x| x.iter().all(plain))
    };
    loop {
        if let Some(tensor) = rw.constant(v) {
            return zeros(&tensor);
        }
        let Some(op) = rw.op(v.node) else {
            return false;
        };
        if op.is("ConstantOfShape") {
            let value = op.attr("value").and_then(|value| value.as_tensor());
            return value.is_none_or(zeros);
        }
        if !MOVING.iter().any(|moving| op.is(moving)) {
            return false;
        }
        let Some(operand) = rw.operand(v.node, 0) else {
            return false;
        };
        v = operand;
    }
}
