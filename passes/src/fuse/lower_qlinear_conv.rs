//! Convolves codes.
//!
//! ```text
//! y = QuantizeLinear(Conv(DequantizeLinear(x, ...), DequantizeLinear(W, ...), bias), ...)
//! =>
//! y = QLinearConv(x, x_scale, x_zero, W, W_scale, W_zero, y_scale, y_zero, bias_quantized)
//! ```
//!
//! All parameters are constant, with one scale, or for `W` one for each output channel. The bias is
//! constant and becomes `int32` at the scale `x_scale * W_scale`, as the quantization tool of ONNX
//! Runtime computes it; it mostly is that already.
//!
//! Does not fire where the result of Conv has another use, the types are no combination that ONNX
//! Runtime convolves (the result has the type of `x`, and `int8` activations have `int8` weights),
//! zero points of `W` differ, or the bias does not fit into `int32` or would move by more than a
//! small part of a step of the result.

use onnxq_ir::{NodeId, Op};
use onnxq_pass::{PassInfo, Rewriter, rewriting};
use onnxq_tensor::DType;

use super::{
    product,
    qdq::{self, Dequantized, Params},
    qlinear_bias::{self, Bias},
};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "lower-qlinear-conv",
    summary: "convolve codes (QLinearConv) instead of floats",
    options: &[product::COMPAT],
    build: |opts| {
        let compat = opts.take("compat", false)?;
        rewriting(INFO.name, move |rw, n| lower(rw, n, compat))
    },
};

/// Goes on if ONNX Runtime has kernels for products of these types.
pub(super) fn types_fit(
    rw: &mut Rewriter<'_>,
    n: NodeId,
    x: &Params,
    w: &Params,
    y: &Params,
) -> Option<()> {
    operands_fit(rw, n, x, w)?;
    if !y.is_plain_scalar() || x.qtype != y.qtype {
        return rw.miss(n, "the codes of operand and result differ in type");
    }
    Some(())
}

/// The same of the operands alone.
pub(super) fn operands_fit(rw: &mut Rewriter<'_>, n: NodeId, x: &Params, w: &Params) -> Option<()> {
    if !(x.is_plain_scalar() && w.is_plain()) {
        return rw.miss(n, "operators on codes take 8 bits with scales of float");
    }
    if x.qtype == DType::I8 && w.qtype == DType::U8 {
        return rw.miss(n, "no runtime multiplies int8 activations by uint8 weights");
    }
    Some(())
}

fn lower(rw: &mut Rewriter<'_>, n: NodeId, compat: bool) -> Option<()> {
    rw.is(n, "Conv")?;
    let x = qdq::dequantized(rw, rw.operand(n, 0)?)?;
    let w = qdq::dequantized(rw, rw.operand(n, 1)?)?;
    let Some(q) = qdq::quantized(rw, rw.result(n, 0)) else {
        return rw.miss(n, "the result is not only quantized");
    };
    types_fit(rw, n, &x.params, &w.params, &q.params)?;
    weight_fits(rw, n, &w)?;
    let bias = match rw.operand(n, 2) {
        Some(b) => Some(qlinear_bias::read(rw, n, b, Bias::of(&x, &w, &q))?),
        None => None,
    };
    let op = Op {
        op_type: "QLinearConv".to_owned(),
        ..rw.op(n)?.clone()
    };
    let mut operands = vec![Some(x.codes)];
    operands.extend(x.params.operands(rw));
    operands.push(Some(w.codes));
    operands.extend(w.params.operands(rw));
    operands.extend(q.params.operands(rw));
    if let Some(bias) = bias {
        operands.push(Some(bias.insert(rw)));
    }
    qdq::replace(rw, (n, q.node), op, &operands, compat)
}

fn weight_fits(rw: &mut Rewriter<'_>, n: NodeId, w: &Dequantized) -> Option<()> {
    let rank = rw.shape(w.codes).map(|shape| shape.len() as i64);
    let first = |axis: i64| axis == 0 || rank.is_some_and(|rank| axis + rank == 0);
    if w.params.axis.is_some_and(|axis| !first(axis)) {
        return rw.miss(
            n,
            "the scales of the weight are not those of output channels",
        );
    }
    let zeros = w.params.zeros()?;
    if zeros.windows(2).any(|pair| pair[0] != pair[1]) {
        return rw.miss(
            n,
            "the zero points of the weight differ, and QLinearConv takes one",
        );
    }
    Some(())
}
