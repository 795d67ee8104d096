//! Multiplies codes in a Gemm, with ONNX Runtime's own operators.
//!
//! ```text
//! y = QuantizeLinear(Gemm <alpha, beta, transA, transB> (DequantizeLinear(a, ...), DequantizeLinear(b, ...), c), ...)
//! =>
//! y = com.microsoft.QGemm <alpha, transA, transB> (a, a_scale, a_zero, b, b_scale, b_zero,
//!                                                  c_quantized, y_scale, y_zero)
//! ```
//!
//! and without QuantizeLinear the result is float, as it is of a MatMul:
//!
//! ```text
//! y = com.microsoft.MatMulIntegerToFloat(a, b, a_scale, b_scale, a_zero, b_zero)
//! ```
//!
//! With `contrib-ops` only. Parameters are constant, with one scale or for `b` one for each column.
//! The bias is constant and becomes `int32` at the scale `alpha * (a_scale * b_scale)` of the sums, to
//! which the operator adds it; `beta` goes into it.
//!
//! Does not fire where types are none that ONNX Runtime multiplies, the bias does not fit into
//! `int32`, or is not one number for each column, or `alpha` is not positive.

use onnxq_ir::{Model, NodeId, Op, ValueId};
use onnxq_pass::{Pass, PassContext, PassError, PassInfo, Rewriter, Rule, apply_rewrites};
use onnxq_tensor::{Dims, Tensor};

use super::{
    lower_matmul::{CONTRIB_OPS, import},
    lower_qlinear_conv::operands_fit,
    lower_qlinear_matmul::columns_fit,
    pattern::MICROSOFT,
    product,
    qdq::{self, Dequantized, Quantized},
    qlinear_bias::{self, Bias, Codes},
};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "lower-qgemm",
    summary: "with contrib-ops, multiply codes (QGemm, MatMulIntegerToFloat) instead of floats",
    options: &[CONTRIB_OPS, product::COMPAT],
    build: |opts| {
        Ok(Box::new(LowerQGemm {
            contrib_ops: opts.take("contrib-ops", false)?,
            compat: opts.take("compat", false)?,
        }))
    },
};

struct LowerQGemm {
    contrib_ops: bool,
    compat: bool,
}

impl Pass for LowerQGemm {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        if !self.contrib_ops {
            return Ok(());
        }
        let gemm = |rw: &mut Rewriter<'_>, n| lower_gemm(rw, n, self.compat);
        let rules = [
            Rule {
                name: INFO.name,
                apply: &gemm,
            },
            Rule {
                name: "lower-matmul-to-float",
                apply: &lower_matmul_to_float,
            },
        ];
        apply_rewrites(model, cx, &rules)?;
        import(model);
        Ok(())
    }
}

fn lower_gemm(rw: &mut Rewriter<'_>, n: NodeId, compat: bool) -> Option<()> {
    rw.is(n, "Gemm")?;
    let a = qdq::dequantized(rw, rw.operand(n, 0)?)?;
    let b = qdq::dequantized(rw, rw.operand(n, 1)?)?;
    let q = qdq::quantized(rw, rw.result(n, 0));
    operands_fit(rw, n, &a.params, &b.params)?;
    // Codes of another type are made of floats.
    let fits = |q: &Quantized| q.params.is_plain_scalar() && q.params.qtype == a.params.qtype;
    let q = q.filter(fits);
    let transposed = rw.attr_int(n, "transB", 0) != 0;
    columns_fit(rw, n, &b, i64::from(!transposed))?;
    let (alpha, beta) = (
        rw.attr_float(n, "alpha", 1.0),
        rw.attr_float(n, "beta", 1.0),
    );
    if !(alpha > 0.0 && alpha.is_finite() && beta.is_finite()) {
        return rw.miss(n, "alpha is not positive");
    }
    let c = match rw.operand(n, 2).filter(|_| beta != 0.0) {
        Some(c) => Some(bias(rw, n, c, (&a, &b, q.as_ref()), (alpha, beta))?),
        None => None,
    };
    let mut op = Op {
        op_type: "QGemm".to_owned(),
        domain: MICROSOFT.to_owned(),
        ..rw.op(n)?.clone()
    };
    op.attrs.shift_remove("beta");
    let mut operands = vec![Some(a.codes)];
    operands.extend(a.params.operands(rw));
    operands.push(Some(b.codes));
    operands.extend(b.params.operands(rw));
    let c = c.map(|c| c.insert(rw));
    let Some(q) = q else {
        operands.extend(c.map(Some));
        return rw.replace_node(n, op, &operands).map(drop);
    };
    operands.push(c);
    operands.extend(q.params.operands(rw));
    qdq::replace(rw, (n, q.node), op, &operands, compat)
}

/// The bias `c` of the Gemm `n`, one number for each column.
fn bias(
    rw: &mut Rewriter<'_>,
    n: NodeId,
    c: ValueId,
    (a, b, q): (&Dequantized, &Dequantized, Option<&Quantized>),
    (alpha, beta): (f32, f32),
) -> Option<Codes> {
    // Without a step of the result, a bias may move by a part of what a step would be.
    let step = match q {
        Some(q) => *q.params.scales()?.first()?,
        None => f32::INFINITY,
    };
    let at = Bias::at(a, b, step)?.times(alpha, beta);
    let at_columns = usize::from(rw.attr_int(n, "transB", 0) == 0);
    let columns = rw.shape(b.codes)?.get(at_columns)?.as_const()?;
    let columns = usize::try_from(columns).ok()?;
    match qlinear_bias::read(rw, n, c, Some(at))? {
        Codes::Is(v) => {
            let one = rw.constant(v).is_some_and(|t| t.dims() == [columns]);
            if !one {
                rw.miss(n, "the bias is not one number for each column")?;
            }
            Some(Codes::Is(v))
        }
        Codes::New(name, tensor) => {
            if tensor.len() != columns || tensor.dims().last() != Some(&columns) {
                rw.miss(n, "the bias is not one number for each column")?;
            }
            let tensor: Tensor = tensor.reshape(Dims::from_slice(&[columns])).ok()?;
            Some(Codes::New(name, tensor))
        }
    }
}

/// A MatMul whose result is wanted as floats.
fn lower_matmul_to_float(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "MatMul")?;
    let a = qdq::dequantized(rw, rw.operand(n, 0)?)?;
    let b = qdq::dequantized(rw, rw.operand(n, 1)?)?;
    operands_fit(rw, n, &a.params, &b.params)?;
    columns_fit(rw, n, &b, 1)?;
    let same_type = |q: Quantized| q.params.is_plain_scalar() && q.params.qtype == a.params.qtype;
    if qdq::quantized(rw, rw.result(n, 0)).is_some_and(same_type) {
        return None;
    }
    let [a_scale, a_zero] = a.params.operands(rw);
    let [b_scale, b_zero] = b.params.operands(rw);
    let operands = [
        Some(a.codes),
        Some(b.codes),
        a_scale,
        b_scale,
        a_zero,
        b_zero,
    ];
    let op = Op::in_domain(MICROSOFT, "MatMulIntegerToFloat");
    rw.replace_node(n, op, &operands).map(drop)
}
