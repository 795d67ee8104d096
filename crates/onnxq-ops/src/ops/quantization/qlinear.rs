//! ONNX Runtime's operators on quantized tensors (`com.microsoft` QLinear*): operands and results
//! are 8-bit integers, each with a scale and a zero point of its own.

mod combine;
mod lookup;
mod pool;
mod softmax;

use onnxq_tensor::{DType, Tensor};

use super::arith::{int_range, saturate, scalar, zero_point};
use crate::{EvalContext, EvalError, InferContext, Operator, Unknown};

pub(in crate::ops) static OPERATORS: &[&dyn Operator] = &[
    &combine::QLinearBinary {
        name: "QLinearAdd",
        multiply: false,
    },
    &combine::QLinearBinary {
        name: "QLinearMul",
        multiply: true,
    },
    &combine::QLinearConcat,
    &combine::QLinearWhere,
    &lookup::QLinearUnary {
        name: "QLinearLeakyRelu",
        function: lookup::leaky_relu,
    },
    &lookup::QLinearUnary {
        name: "QLinearSigmoid",
        function: lookup::sigmoid,
    },
    &pool::QLinearAveragePool,
    &pool::QLinearGlobalAveragePool,
    &softmax::QLinearSoftmax,
];

/// What the integers of a tensor stand for.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Parameters {
    scale: f32,
    zero: i64,
}

impl Parameters {
    /// From the operands that are the scale and the zero point.
    fn of(cx: &EvalContext<'_>, scale: usize, zero: usize) -> Result<Parameters, EvalError> {
        Ok(Parameters {
            scale: scalar(cx, scale)?,
            zero: zero_point(cx, zero)?,
        })
    }

    fn real(self, q: i64) -> f32 {
        q.wrapping_sub(self.zero) as f32 * self.scale
    }

    fn quantize(self, x: f32, range: (i64, i64)) -> i64 {
        saturate(x / self.scale, self.zero, range)
    }
}

/// The integers of operand `i`, and the range of their type, which has 8 bits.
fn integers(cx: &EvalContext<'_>, i: usize) -> Result<(Vec<i64>, (i64, i64)), EvalError> {
    let t: &Tensor = cx.tensor(i)?;
    if !matches!(t.dtype(), DType::I8 | DType::U8) {
        return Err(cx.unsupported_type(t.dtype()));
    }
    let range = int_range(t.dtype()).ok_or_else(|| cx.unsupported_type(t.dtype()))?;
    Ok((t.to_i64s()?, range))
}

/// Result 0 has the type of operand 0.
fn same_type(cx: &mut InferContext<'_>) -> Result<(), Unknown> {
    crate::ops::numeric::same_type(cx)
}
