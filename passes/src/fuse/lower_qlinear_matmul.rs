//! Multiplies codes.
//!
//! ```text
//! y = QuantizeLinear(MatMul(DequantizeLinear(a, ...), DequantizeLinear(b, ...)), ...)
//! =>
//! y = QLinearMatMul(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero)
//! ```
//!
//! All parameters are constant, with one scale, or for `b` one for each column. A Gemm without a
//! bias, of a constant `b`, is the same: transposed at once, with `alpha` in the scales.
//!
//! Does not fire where the product has another use, for types that ONNX Runtime does not
//! multiply (the result has the type of `a`, and `int8` goes with `int8`), for scales along the axis
//! that is summed over, nor for scales of columns of more than one matrix, which the operator
//! takes for each matrix anew.

use onnxq_ir::{Model, NodeId, Op, ValueId};
use onnxq_pass::{Pass, PassContext, PassError, PassInfo, Rewriter, Rule, apply_rewrites};
use onnxq_tensor::{DType, Dims, Tensor};

use super::{
    lower_qlinear_conv::types_fit,
    pattern::{self, Derived},
    product,
    qdq::{self, Dequantized, Params},
};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "lower-qlinear-matmul",
    summary: "multiply codes (QLinearMatMul) instead of floats",
    options: &[product::COMPAT],
    build: |opts| {
        let compat = opts.take("compat", false)?;
        Ok(Box::new(LowerQLinearMatMul { compat }))
    },
};

struct LowerQLinearMatMul {
    compat: bool,
}

impl Pass for LowerQLinearMatMul {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        let derived = Derived::default();
        let matmul = |rw: &mut Rewriter<'_>, n| lower(rw, n, self.compat);
        let gemm = |rw: &mut Rewriter<'_>, n| lower_gemm(rw, n, &derived, self.compat);
        let rules = [
            Rule {
                name: INFO.name,
                apply: &matmul,
            },
            Rule {
                name: "lower-qlinear-gemm",
                apply: &gemm,
            },
        ];
        apply_rewrites(model, cx, &rules)
    }
}

/// Goes on if `b` has one scale, or is a matrix with those of its columns, along this axis.
pub(super) fn columns_fit(
    rw: &mut Rewriter<'_>,
    n: NodeId,
    b: &Dequantized,
    columns: i64,
) -> Option<()> {
    let Some(axis) = b.params.axis else {
        return Some(());
    };
    if rw.shape(b.codes)?.len() != 2 || axis.rem_euclid(2) != columns {
        return rw.miss(n, "the scales are not those of columns of a matrix");
    }
    Some(())
}

fn lower(rw: &mut Rewriter<'_>, n: NodeId, compat: bool) -> Option<()> {
    rw.is(n, "MatMul")?;
    let a = qdq::dequantized(rw, rw.operand(n, 0)?)?;
    let b = qdq::dequantized(rw, rw.operand(n, 1)?)?;
    let Some(q) = qdq::quantized(rw, rw.result(n, 0)) else {
        return rw.miss(n, "the result is not only quantized");
    };
    types_fit(rw, n, &a.params, &b.params, &q.params)?;
    columns_fit(rw, n, &b, 1)?;
    let mut operands = vec![Some(a.codes)];
    operands.extend(a.params.operands(rw));
    operands.push(Some(b.codes));
    operands.extend(b.params.operands(rw));
    operands.extend(q.params.operands(rw));
    qdq::replace(rw, (n, q.node), Op::new("QLinearMatMul"), &operands, compat)
}

fn lower_gemm(rw: &mut Rewriter<'_>, n: NodeId, derived: &Derived, compat: bool) -> Option<()> {
    rw.is(n, "Gemm")?;
    let a = qdq::dequantized(rw, rw.operand(n, 0)?)?;
    let b = qdq::dequantized(rw, rw.operand(n, 1)?)?;
    let q = qdq::quantized(rw, rw.result(n, 0))?;
    types_fit(rw, n, &a.params, &b.params, &q.params)?;
    let has_bias = rw.operand(n, 2).is_some() && rw.attr_float(n, "beta", 1.0) != 0.0;
    if has_bias || rw.attr_int(n, "transA", 0) != 0 {
        return rw.miss(n, "QLinearMatMul has no bias and does not transpose");
    }
    let alpha = rw.attr_float(n, "alpha", 1.0);
    if !(alpha > 0.0 && alpha.is_finite()) {
        return rw.miss(n, "alpha is not positive");
    }
    let transposed = rw.attr_int(n, "transB", 0) != 0;
    columns_fit(rw, n, &b, i64::from(!transposed))?;
    let codes = match transposed {
        true => Some(transposed_codes(rw, b.codes, derived)?),
        false => None,
    };
    let scale = scaled(&b.params, alpha)?;
    let mut operands = vec![Some(a.codes)];
    operands.extend(a.params.operands(rw));
    operands.push(Some(match codes {
        Some(codes) => pattern::insert_like(rw, b.codes, codes),
        None => b.codes,
    }));
    let [_, zero_point] = b.params.operands(rw);
    operands.push(Some(match alpha {
        1.0 => b.params.scale,
        _ => pattern::insert_like(rw, b.params.scale, scale),
    }));
    operands.push(zero_point);
    operands.extend(q.params.operands(rw));
    qdq::replace(rw, (n, q.node), Op::new("QLinearMatMul"), &operands, compat)
}

fn transposed_codes(rw: &Rewriter<'_>, codes: ValueId, derived: &Derived) -> Option<Tensor> {
    let tensor = rw.constant(codes)?;
    let eight_bits = matches!(tensor.dtype(), DType::I8 | DType::U8) && tensor.rank() == 2;
    eight_bits.then_some(())?;
    derived.tensor(&tensor, || pattern::transpose(&tensor))
}

fn scaled(params: &Params, alpha: f32) -> Option<Tensor> {
    let scales = params.scales()?.iter().map(|s| s * alpha).collect();
    Tensor::from_vec(Dims::from_slice(params.scales.dims()), scales).ok()
}
