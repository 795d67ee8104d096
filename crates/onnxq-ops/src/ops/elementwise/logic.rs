//! Functions of one tensor whose result is a truth value or a pattern of bits: `Not`,
//! `BitwiseNot`, `IsNaN`, `IsInf`.

use onnxq_tensor::{DType, Dim, Tensor};

use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        number::{self, for_int},
        values,
    },
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&Not, &BitwiseNot, &IsNaN, &IsInf];

/// Sets result 0 to the shape of operand 0 and this element type.
fn same_shape(cx: &mut InferContext<'_>, dtype: DType) -> Result<(), Unknown> {
    cx.set_dtype(0, dtype);
    cx.set_tensor(0, dtype, cx.shape(0)?.clone());
    Ok(())
}

struct Not;

impl Operator for Not {
    fn name(&self) -> &'static str {
        "Not"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_shape(cx, DType::Bool)?;
        values::follow_unary(cx, DType::Bool, |d| Dim::known(1) - d);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let out = x.as_bools()?.into_iter().map(|x| !x).collect();
        Ok(vec![Tensor::from_bools(x.dims(), out)?.into()])
    }
}

struct BitwiseNot;

impl Operator for BitwiseNot {
    fn name(&self) -> &'static str {
        "BitwiseNot"
    }

    fn since(&self) -> &'static [i64] {
        &[18]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_type(0, cx.ty(0)?.clone());
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let out = for_int!(
            x.dtype(),
            T => Tensor::from_vec(x.dims(), x.as_slice::<T>()?.iter().map(|&v| !v).collect())?,
            return Err(cx.unsupported_type(x.dtype()))
        );
        Ok(vec![out.into()])
    }
}

struct IsNaN;

impl Operator for IsNaN {
    fn name(&self) -> &'static str {
        "IsNaN"
    }

    fn since(&self) -> &'static [i64] {
        &[9, 13, 20]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_shape(cx, DType::Bool)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        test(cx, f64::is_nan)
    }
}

struct IsInf;

impl Operator for IsInf {
    fn name(&self) -> &'static str {
        "IsInf"
    }

    fn since(&self) -> &'static [i64] {
        &[10, 20]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_shape(cx, DType::Bool)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let positive = cx.op().int("detect_positive", 1) != 0;
        let negative = cx.op().int("detect_negative", 1) != 0;
        test(cx, |x| {
            x.is_infinite() && (if x > 0.0 { positive } else { negative })
        })
    }
}

/// The truth of `f` for every element of a float tensor.
fn test(cx: &EvalContext<'_>, f: impl Fn(f64) -> bool) -> Result<Vec<Value>, EvalError> {
    let x = number::widen(cx.tensor(0)?)?;
    let out = if x.dtype() == DType::F64 {
        x.as_slice::<f64>()?.iter().map(|&x| f(x)).collect()
    } else {
        x.to_f32s()?.iter().map(|&x| f(f64::from(x))).collect()
    };
    Ok(vec![Tensor::from_bools(x.dims(), out)?.into()])
}
