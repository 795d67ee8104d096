//! ConvInteger and QLinearConv: convolutions of 8-bit integers.
//!
//! The sums are exact 32-bit integers; requantization is `y = sat(rne(f32(acc) * m) + zy)` with
//! `m = f32(f32(sx * sw) / sy)`, as ONNX Runtime has it. Padding is the zero point of the operand,
//! which is zero once that is subtracted.

use onnxq_ir::Op;
use onnxq_tensor::{DType, Shape, Tensor};

use super::conv::{conv_shape, conv_shape_of, problem, result_dims};
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{int_tensor, product},
        quantization::{
            arith::{Requantize, centered, exact_i32},
            channels::{channels_back, channels_first, channels_last, to_first, to_last},
        },
    },
};

pub(super) struct ConvInteger;

impl Operator for ConvInteger {
    fn name(&self) -> &'static str {
        "ConvInteger"
    }

    fn since(&self) -> &'static [i64] {
        &[10]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_dtype(0, DType::I32);
        let shape = conv_shape(cx, 0, 1)?;
        cx.set_tensor(0, DType::I32, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, w) = (cx.tensor(0)?, cx.tensor(1)?);
        let (acc, dims) = accumulate(cx, (x, cx.optional(2)?), (w, cx.optional(3)?))?;
        let acc = acc.into_iter().map(i64::from).collect();
        Ok(vec![int_tensor(DType::I32, &dims, acc)?])
    }
}

/// In ONNX Runtime's domain the channels may be at the end.
pub(super) struct QLinearConv {
    pub(super) domain: &'static str,
}

impl Operator for QLinearConv {
    fn domain(&self) -> &'static str {
        self.domain
    }

    fn name(&self) -> &'static str {
        "QLinearConv"
    }

    fn since(&self) -> &'static [i64] {
        if self.domain.is_empty() { &[10] } else { &[1] }
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(7).or_else(|_| cx.dtype(0))?;
        cx.set_dtype(0, dtype);
        let last = channels_last(cx.op());
        let x = cx.shape(0).map(|x| Shape::from(to_first(x, last)));
        let shape = conv_shape_of(cx, x, 3)?;
        cx.set_tensor(0, dtype, to_last(&shape, last).into());
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (mut x, w, last) = (cx.tensor(0)?.clone(), cx.tensor(3)?, channels_last(cx.op()));
        if last && x.dtype().bits() != 8 {
            return Err(cx.unsupported_type(x.dtype()));
        }
        if last {
            let moved = channels_first(x.bytes().to_vec(), x.dims(), last);
            x = Tensor::new(x.dtype(), to_first(x.dims(), last), moved)?;
        }
        let (mut acc, dims) = accumulate(cx, (&x, cx.optional(2)?), (w, cx.optional(5)?))?;
        let (channels, positions) = (dims[1], product(&dims[2..]));
        if let Some(bias) = cx.optional(8)? {
            let bias = bias.as_slice::<i32>()?;
            if bias.len() != channels {
                return Err(cx.invalid(format!("{} biases, {channels} channels", bias.len())));
            }
            for (i, a) in acc.iter_mut().enumerate() {
                *a = a.wrapping_add(bias[i / positions.max(1) % channels]);
            }
        }
        let requantize = Requantize::of(cx, 1, 4, 6, 7, channels)?;
        let sums = acc.iter().enumerate();
        let y = sums.map(|(i, &a)| requantize.apply(a, i / positions.max(1) % channels.max(1)));
        let y = channels_back(y.collect(), &dims, last);
        let dims = to_last(&dims, last);
        Ok(vec![int_tensor(requantize.dtype, &dims, y)?])
    }

    fn quant(&self, _op: &Op) -> crate::QuantRole {
        crate::QuantRole::NotQuantizable
    }
}

/// The exact sums of `x` and `w`, each with its zero point, and their dimensions.
fn accumulate(
    cx: &EvalContext<'_>,
    (x, x_zero): (&Tensor, Option<&Tensor>),
    (w, w_zero): (&Tensor, Option<&Tensor>),
) -> Result<(Vec<i32>, Vec<usize>), EvalError> {
    let problem = problem(cx, x.dims(), w.dims())?;
    let dims = result_dims(&problem, x.rank());
    let x = centered(x, x_zero, None)?;
    let w = centered(w, w_zero, Some(0))?;
    let acc = problem.forward(&x, &w)?;
    Ok((acc.into_iter().map(exact_i32).collect(), dims))
}
