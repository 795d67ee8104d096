//! `Cast`, `CastLike`, `BitCast`.

use onnxq_ir as ir;
use onnxq_tensor::{DType, Dim, narrow::ScaleRounding};

use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, UpgradeContext, UpgradeError, Value,
    ops::{rules::Misfit, values},
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&Cast, &CastLike, &BitCast];

/// The element type in attribute `to`: a code, or before opset 6 a name.
fn target(op: &ir::Op) -> Result<DType, Misfit> {
    let dtype = match op.attr("to") {
        Some(ir::Attr::Int(code)) => i32::try_from(*code).ok().and_then(DType::from_onnx),
        Some(ir::Attr::String(name)) => std::str::from_utf8(name)
            .ok()
            .and_then(|name| DType::from_name(&name.to_lowercase())),
        _ => return Err(Misfit::new("attribute 'to' is missing")),
    };
    dtype.ok_or_else(|| Misfit::new("attribute 'to' is no element type"))
}

/// Sets result 0 to operand 0 cast to `dtype`.
fn infer_cast(cx: &mut InferContext<'_>, dtype: DType) -> Result<(), Unknown> {
    cx.set_dtype(0, dtype);
    cx.set_tensor(0, dtype, cx.shape(0)?.clone());
    if dtype == DType::Bool {
        values::follow_unary(cx, dtype, |d| match d.as_const() {
            Some(d) => Dim::known(i64::from(d != 0)),
            None if d.provably_ne(&Dim::known(0)) => Dim::known(1),
            None => Dim::UNKNOWN,
        });
    } else if dtype.is_int() || dtype.is_float() {
        values::follow_unary(cx, dtype, Dim::clone);
    }
    Ok(())
}

fn eval_cast(cx: &EvalContext<'_>, dtype: DType) -> Result<Vec<Value>, EvalError> {
    let saturate = cx.op().int("saturate", 1) != 0;
    let rounding = match cx.op().str("round_mode") {
        Some("down") => ScaleRounding::Down,
        Some("nearest") => ScaleRounding::Nearest,
        _ => ScaleRounding::Up,
    };
    let y = cx.tensor(0)?.cast_rounded(dtype, saturate, rounding)?;
    Ok(vec![y.into()])
}

struct Cast;

impl Operator for Cast {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 6, 9, 13, 19, 21, 23, 24, 25, 28]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        infer_cast(cx, target(cx.op())?)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        eval_cast(cx, target(cx.op())?)
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.crosses(6) {
            let to = i64::from(target(cx.op())?.onnx());
            cx.op_mut().attrs.insert("to".to_owned(), to.into());
        }
        Ok(())
    }
}

struct CastLike;

impl Operator for CastLike {
    fn name(&self) -> &'static str {
        "CastLike"
    }

    fn since(&self) -> &'static [i64] {
        &[15, 19, 21, 23, 24, 25]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(1)?;
        infer_cast(cx, dtype)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        eval_cast(cx, cx.tensor(1)?.dtype())
    }
}

/// The same bits as another type of equal width.
struct BitCast;

impl Operator for BitCast {
    fn name(&self) -> &'static str {
        "BitCast"
    }

    fn since(&self) -> &'static [i64] {
        &[26]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = target(cx.op())?;
        cx.set_dtype(0, dtype);
        cx.set_tensor(0, dtype, cx.shape(0)?.clone());
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        Ok(vec![cx.tensor(0)?.bit_cast(target(cx.op())?)?.into()])
    }
}
