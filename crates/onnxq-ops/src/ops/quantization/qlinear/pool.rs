//! QLinearAveragePool and QLinearGlobalAveragePool: operands X, scale, zero point, and scale and
//! zero point of the result.
//!
//! With `channels_last` the channels are the last axis of operand and result.

use onnxq_tensor::{Dim, Shape, Tensor};

use super::{Parameters, integers};
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        convolution::{average, pooled_shape},
        numeric::{int_tensor, product},
        quantization::{
            MS,
            arith::saturate,
            channels::{channels_back, channels_first, channels_last, to_first, to_last},
        },
    },
};

pub(super) struct QLinearAveragePool;
pub(super) struct QLinearGlobalAveragePool;

impl Operator for QLinearAveragePool {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "QLinearAveragePool"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let last = channels_last(cx.op());
        let shape = pooled_shape(cx, &to_first(cx.shape(0)?, last))?;
        cx.set_tensor(0, dtype, to_last(&shape, last).into());
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, range) = integers(cx, 0)?;
        let (from, to) = (Parameters::of(cx, 1, 2)?, Parameters::of(cx, 3, 4)?);
        let (t, last) = (cx.tensor(0)?, channels_last(cx.op()));
        let real: Vec<f32> = x.into_iter().map(|q| from.real(q)).collect();
        let real = Tensor::from_vec(
            to_first(t.dims(), last),
            channels_first(real, t.dims(), last),
        )?;
        let (mean, dims) = average(cx, &real)?;
        // Here the zero point is added before rounding.
        let quantize = |x: f32| saturate(x / to.scale + to.zero as f32, 0, range);
        let y = mean.into_iter().map(quantize).collect();
        let y = channels_back(y, &dims, last);
        Ok(vec![int_tensor(t.dtype(), &to_last(&dims, last), y)?])
    }
}

impl Operator for QLinearGlobalAveragePool {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "QLinearGlobalAveragePool"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let last = channels_last(cx.op());
        let mut shape: Shape = to_first(cx.shape(0)?, last).into();
        shape.iter_mut().skip(2).for_each(|d| *d = Dim::known(1));
        cx.set_tensor(0, dtype, to_last(&shape, last).into());
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, range) = integers(cx, 0)?;
        let (from, to) = (Parameters::of(cx, 1, 2)?, Parameters::of(cx, 3, 4)?);
        let (t, last) = (cx.tensor(0)?, channels_last(cx.op()));
        let mut dims = to_first(t.dims(), last);
        let size = product(dims.get(2..).unwrap_or_default());
        if dims.len() < 3 || t.is_empty() {
            return Err(cx.invalid(format!("an operand of {:?}", t.dims())));
        }
        let x = channels_first(x, t.dims(), last);
        let factor = from.scale / (to.scale * size as f32);
        let y = x.chunks_exact(size).map(|row| {
            let sum: i64 = row
                .iter()
                .fold(0, |s: i64, q| s.wrapping_add(q.wrapping_sub(from.zero)));
            saturate(sum as f32 * factor, to.zero, range)
        });
        let y = y.collect();
        dims[2..].fill(1);
        let y = channels_back(y, &dims, last);
        Ok(vec![int_tensor(t.dtype(), &to_last(&dims, last), y)?])
    }
}
