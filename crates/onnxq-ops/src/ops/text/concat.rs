//! StringConcat: strings joined element by element, broadcast.

use onnxq_tensor::{Bytes, DType, Tensor};

use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{data, numeric::broadcast_dims, rules},
};

pub(super) struct StringConcat;

impl Operator for StringConcat {
    fn name(&self) -> &'static str {
        "StringConcat"
    }

    fn since(&self) -> &'static [i64] {
        &[20]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_dtype(0, DType::String);
        let shape = rules::broadcast(cx.shape(0)?, cx.shape(1)?)?;
        cx.set_tensor(0, DType::String, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (a, b) = (cx.tensor(0)?, cx.tensor(1)?);
        let strings = |t: &'_ Tensor| t.strings().cloned();
        let (Some(x), Some(y)) = (strings(a), strings(b)) else {
            return Err(cx.invalid("operands that are no strings"));
        };
        let wrong = || {
            cx.invalid(format!(
                "{:?} and {:?} do not broadcast",
                a.dims(),
                b.dims()
            ))
        };
        let dims = broadcast_dims(a.dims(), b.dims()).ok_or_else(wrong)?;
        rules::limited(&dims)?;
        let join = |x: &Bytes, y: &Bytes| Bytes::from([&x[..], &y[..]].concat());
        let joined = data::zip((&x, a.dims()), (&y, b.dims()), &dims, join);
        Ok(vec![Tensor::from_strings(dims, joined)?.into()])
    }
}
