//! Functions of one element: `quantize(f(dequantize(x)))`, for which 256 values say everything.

use onnxq_ir::Op;

use super::{Parameters, integers, same_type};
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{numeric::int_tensor, quantization::MS},
};

/// Operands X, scale, zero point, and scale and zero point of the result.
pub(super) struct QLinearUnary {
    pub(super) name: &'static str,
    pub(super) function: fn(&Op, f32) -> f32,
}

pub(super) fn sigmoid(_op: &Op, x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

pub(super) fn leaky_relu(op: &Op, x: f32) -> f32 {
    if x >= 0.0 {
        x
    } else {
        op.float("alpha", 0.01) * x
    }
}

impl Operator for QLinearUnary {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_type(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, range) = integers(cx, 0)?;
        let (from, to) = (Parameters::of(cx, 1, 2)?, Parameters::of(cx, 3, 4)?);
        let table: Vec<i64> = (range.0..=range.1)
            .map(|q| to.quantize((self.function)(cx.op(), from.real(q)), range))
            .collect();
        let y = x
            .into_iter()
            .map(|q| table[(q - range.0) as usize])
            .collect();
        let x = cx.tensor(0)?;
        Ok(vec![int_tensor(x.dtype(), x.dims(), y)?])
    }
}
