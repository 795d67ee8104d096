//! Leaves clamping to the saturation of the codes.
//!
//! ```text
//! QuantizeLinear(Relu(x), scale, zero_point)   =>   QuantizeLinear(x, scale, zero_point)
//! QuantizeLinear(Clip(x, lo, hi), ...)         =>   QuantizeLinear(x, ...)
//! ```
//!
//! where the code of the lower bound is the least there is and that of the upper bound the
//! greatest: rounding is monotone, so clamping before it is clamping the codes. Where
//! saturation does not do it, and `x` is a product that can be computed in codes, or codes with
//! the same parameters, what is clamped are the codes:
//!
//! ```text
//! q = QuantizeLinear(Relu(x), scale, zero_point)   =>   q = Clip(QuantizeLinear(x, ...), zero_point)
//! ```
//!
//! Does not fire where the clamped value has another use than QuantizeLinear, for more than one
//! scale, and on codes before opset 12, when Clip learned of them.

use onnxq_ir::{NodeId, Op, Value, ValueId};
use onnxq_pass::{PassInfo, Rewrite, Rewriter, rewrites};

use super::qdq::{self, Quantized};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "fuse-clamp-quantize",
    summary: "leave Relu and Clip to the saturation of QuantizeLinear",
    options: &[],
    build: |_| rewrites("fuse-clamp-quantize", REWRITES),
};

const REWRITES: &[Rewrite] = &[
    Rewrite {
        name: "saturate",
        apply: saturate,
    },
    Rewrite {
        name: "clamp-codes",
        apply: clamp_codes,
    },
];

/// The bounds of the clamp at `n`.
fn bounds(rw: &Rewriter<'_>, n: NodeId) -> Option<(f32, f32)> {
    if rw.is(n, "Relu").is_some() {
        return Some((0.0, f32::INFINITY));
    }
    rw.is(n, "Clip")?;
    let bound = |i, key, default| match rw.operand(n, i) {
        Some(v) => Some(rw.constant(v)?.scalar_f64().ok()? as f32),
        None => Some(rw.attr_float(n, key, default)),
    };
    let lo = bound(1, "min", f32::NEG_INFINITY)?;
    let hi = bound(2, "max", f32::INFINITY)?;
    (lo <= hi).then_some((lo, hi))
}

/// The codes of the bounds.
fn code_bounds(q: &Quantized, (lo, hi): (f32, f32)) -> Option<(i64, i64)> {
    q.params.is_plain_scalar().then_some(())?;
    Some((q.params.quantize(lo)?, q.params.quantize(hi)?))
}

fn saturate(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    let bounds = bounds(rw, n)?;
    let x = rw.operand(n, 0)?;
    let uses = rw.graph().uses(rw.result(n, 0));
    let saturates = |q: &Quantized| code_bounds(q, bounds) == q.params.range();
    let redundant = uses
        .iter()
        .all(|u| u.operand == 0 && qdq::quantize(rw, u.node).as_ref().is_some_and(saturates));
    if !redundant {
        return None;
    }
    rw.replace(rw.result(n, 0), x)
}

/// Whether QuantizeLinear of `x` goes, once nothing is between the two.
fn is_lowered(rw: &Rewriter<'_>, x: ValueId, q: &Quantized) -> bool {
    if let Some(x) = qdq::dequantized(rw, x) {
        return x.params.same(&q.params);
    }
    let product = ["Conv", "MatMul"]
        .iter()
        .any(|op| rw.producer(x, op).is_some());
    let operand = |i| rw.operand(x.node, i).and_then(|v| qdq::dequantized(rw, v));
    product && rw.sole_use(x).is_some() && operand(0).is_some() && operand(1).is_some()
}

fn clamp_codes(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    let bounds = bounds(rw, n)?;
    let x = rw.operand(n, 0)?;
    let q = qdq::quantized(rw, rw.result(n, 0))?;
    let (lo, hi) = code_bounds(&q, bounds)?;
    if rw.opset() < 12 {
        rw.miss(n, "Clip of codes needs opset 12")?;
    }
    if !is_lowered(rw, x, &q) {
        return None;
    }
    let (least, greatest) = q.params.range()?;
    let (lo_code, hi_code) = (qdq::code(&q.params, lo)?, qdq::code(&q.params, hi)?);
    let y = rw.result(n, 0);
    let mut operands = vec![None];
    let min = (lo > least).then(|| rw.insert_constant(rw.derive(y, "min"), lo_code));
    operands.push(min);
    if hi < greatest {
        operands.push(Some(rw.insert_constant(rw.derive(y, "max"), hi_code)));
    }
    let old = rw.result(q.node, 0);
    let codes: Value = Value::new(rw.derive(x, "quantized"), rw.ty(old).cloned());
    let op = rw.op(q.node)?.clone();
    let mut of = rw.graph().operands(q.node);
    of[0] = Some(x);
    let name = rw.graph().node(q.node).name.clone();
    let quantize = rw.insert_node(name, op, &of, [codes]);
    operands[0] = Some(rw.result(quantize, 0));
    let result = rw.graph().value(old).clone();
    let name = rw.graph().node(n).name.clone();
    let clip = rw.insert_node(name, Op::new("Clip"), &operands, [result]);
    rw.replace(old, rw.result(clip, 0))
}
