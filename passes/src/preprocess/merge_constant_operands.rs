//! Makes one addition, or one multiplication, of two by constants.
//!
//! ```text
//! y = Mul(Mul(x, a), b)   =>   y = Mul(x, a * b)
//! y = Add(Add(x, a), b)   =>   y = Add(x, a + b)
//! ```
//!
//! Does not fire
//! - where the first result has another use, a result of the graph included;
//! - for other types than `float`, whose numbers are computed in f64 and rounded once;
//! - where a constant is one that callers may override, or a new number is not finite;
//! - where the new constant is larger than the two, and takes more than 64 KiB;
//! - before opset 7, where broadcasting was another.

use onnxq_ir::{NodeId, Op, ValueId};
use onnxq_ops::{EvalContext, EvalError, Value, lookup};
use onnxq_pass::{PassInfo, Rewrite, Rewriter, rewrites};
use onnxq_tensor::{DType, Tensor};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "merge-constant-operands",
    summary: "make one of two additions of constants, and of two multiplications",
    options: &[],
    build: |_| rewrites("merge-constant-operands", REWRITES),
};

const REWRITES: &[Rewrite] = &[Rewrite {
    name: "merge-constant-operands",
    apply: merge,
}];

/// Bytes of a constant that may be larger than those it takes the place of.
const SMALL: usize = 64 << 10;

fn merge(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    let op = rw.op(n).filter(|op| op.is("Mul") || op.is("Add"))?.clone();
    (rw.opset() >= 7).then_some(())?;
    let (between, outer) = operands(rw, n)?;
    let first = rw.producer(between, &op.op_type)?;
    rw.sole_use(between)?;
    let (x, inner) = operands(rw, first)?;
    if rw.dtype(x) != Some(DType::F32) {
        return rw.miss(n, "the type is not float");
    }
    let [a, b] = [inner, outer].map(|v| rw.constant(v));
    let (a, b) = (a?, b?);
    let both = combined(rw, &op, &a, &b)?;
    if both.byte_len() > SMALL.max(a.byte_len() + b.byte_len()) {
        return rw.miss(n, "the constant would be large");
    }
    let finite = both.to_f32s().ok()?.iter().all(|x| x.is_finite());
    if !finite {
        return rw.miss(n, "a number would not be finite");
    }
    let name = rw.derive(outer, "merged");
    let both = rw.insert_constant(name, both);
    let constant = usize::from(rw.operand(n, 1) == Some(outer));
    rw.set_operand(n, constant, Some(both));
    rw.set_operand(n, 1 - constant, Some(x));
    Some(())
}

/// What is computed, and the constant, of a node with one of each.
fn operands(rw: &Rewriter<'_>, n: NodeId) -> Option<(ValueId, ValueId)> {
    let (a, b) = (rw.operand(n, 0)?, rw.operand(n, 1)?);
    match [a, b].map(|v| rw.constant(v).is_some()) {
        [false, true] => Some((a, b)),
        [true, false] => Some((b, a)),
        _ => None,
    }
}

/// The operation on both constants, in f64, rounded once.
fn combined(rw: &Rewriter<'_>, op: &Op, a: &Tensor, b: &Tensor) -> Option<Tensor> {
    let wide = |tensor: &Tensor| {
        let values: Vec<f64> = tensor
            .to_f32s()
            .ok()?
            .iter()
            .map(|&x| f64::from(x))
            .collect();
        let tensor = Tensor::from_vec(tensor.dims(), values).ok()?;
        Some(Some(Value::Tensor(tensor)))
    };
    let operands = [wide(a)?, wide(b)?];
    let no_region = |_: &onnxq_ir::Graph, _| Err(EvalError::Unsupported("regions".to_owned()));
    let cx = EvalContext::new(op, rw.opset(), &operands, 1, &no_region);
    let results = lookup("", &op.op_type)?.eval(&cx).ok()?;
    let result = results.into_iter().next()?.as_tensor()?.clone();
    let values: Vec<f32> = result.to_f64s().ok()?.iter().map(|&x| x as f32).collect();
    Tensor::from_vec(result.dims(), values).ok()
}
