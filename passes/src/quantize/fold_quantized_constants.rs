//! Computes what QuantizeLinear makes of constants.
//!
//! ```text
//! QuantizeLinear(W, scale, zero_point)   =>   W_quantized
//! ```
//!
//! Models trained for quantization hold weights in float and quantize them when they run: with
//! their own parameters, which stay. Does not fire where the codes are more than a byte each, or
//! the operands are not all constant.

use onnxq_ir::{Graph, NodeId};
use onnxq_ops::{EvalContext, EvalError, Value, lookup};
use onnxq_pass::{PassInfo, Rewrite, Rewriter, rewrites};
use onnxq_tensor::DType;

pub(crate) const INFO: PassInfo = PassInfo {
    name: "fold-quantized-constants",
    summary: "compute what QuantizeLinear makes of constants",
    options: &[],
    build: |_| rewrites("fold-quantized-constants", REWRITES),
};

const REWRITES: &[Rewrite] = &[Rewrite {
    name: "fold-quantized-constant",
    apply: fold,
}];

fn fold(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "QuantizeLinear")?;
    let weight = rw.operand(n, 0)?;
    let mut operands = Vec::new();
    for v in rw.graph().operands(n) {
        operands.push(match v {
            Some(v) => Some(Value::Tensor(rw.constant(v)?)),
            None => None,
        });
    }
    let no_region = |_: &Graph, _| Err(EvalError::Unsupported("regions".to_owned()));
    let op = rw.op(n)?;
    let cx = EvalContext::new(op, rw.opset(), &operands, 1, &no_region);
    let results = lookup("", "QuantizeLinear")?.eval(&cx).ok()?;
    let codes = results.into_iter().next()?.as_tensor()?.clone();
    if !matches!(codes.dtype(), DType::I8 | DType::U8) {
        return None;
    }
    if let Some(Value::Tensor(weight)) = operands.first().and_then(Option::as_ref) {
        weight.release();
    }
    let codes = rw.insert_constant(rw.derive(weight, "quantized"), codes);
    rw.replace(rw.result(n, 0), codes)
}
