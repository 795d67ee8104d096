//! DynamicQuantizeLinear: scale and zero point from the data, then QuantizeLinear to uint8.

use onnxq_tensor::{DType, Shape, Tensor};

use super::arith::saturate;
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::numeric::{Real, int_tensor},
};

pub(super) struct DynamicQuantizeLinear;

impl Operator for DynamicQuantizeLinear {
    fn name(&self) -> &'static str {
        "DynamicQuantizeLinear"
    }

    fn since(&self) -> &'static [i64] {
        &[11]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_dtype(0, DType::U8);
        cx.set_tensor(1, DType::F32, Shape::new());
        cx.set_tensor(2, DType::U8, Shape::new());
        let shape = cx.shape(0)?.clone();
        cx.set_tensor(0, DType::U8, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let data = f32::read(x)?;
        let (scale, zero) = dynamic_parameters(&data);
        let y = quantize_u8(&data, scale, zero);
        let y = y.into_iter().map(i64::from).collect();
        Ok(vec![
            int_tensor(DType::U8, x.dims(), y)?,
            Tensor::scalar(scale).into(),
            Tensor::scalar(zero).into(),
        ])
    }
}

/// Scale and zero point that `x` gets when it is quantized to uint8 on the fly.
pub(crate) fn dynamic_parameters(x: &[f32]) -> (f32, u8) {
    let (lo, hi) = x
        .iter()
        .fold((0f32, 0f32), |(lo, hi), &x| (lo.min(x), hi.max(x)));
    if lo == hi {
        return (1.0, 0);
    }
    let scale = (hi - lo) / 255.0;
    let zero = saturate(0.0 - lo / scale, 0, (0, 255));
    (scale, zero as u8)
}

/// `x` quantized to uint8.
pub(crate) fn quantize_u8(x: &[f32], scale: f32, zero: u8) -> Vec<u8> {
    x.iter()
        .map(|x| saturate(x / scale, i64::from(zero), (0, 255)) as u8)
        .collect()
}
