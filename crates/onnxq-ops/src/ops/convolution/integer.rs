//! ConvInteger and QLinearConv: convolutions of 8-bit integers.
//!
//! The sums are exact 32-bit integers; requantization is `y = sat(rne(f32(acc) * m) + zy)` with
//! `m = f32(f32(sx * sw) / sy)`, as ONNX Runtime has it. Padding is the zero point of the operand,
//! which is zero once that is subtracted.

use onnxq_ir::Op;
use onnxq_tensor::{DType, Tensor};

use super::conv::{conv_shape, problem, result_dims};
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{int_tensor, product},
        quantization::arith::{Requantize, centered, exact_i32},
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

pub(super) struct QLinearConv;

impl Operator for QLinearConv {
    fn name(&self) -> &'static str {
        "QLinearConv"
    }

    fn since(&self) -> &'static [i64] {
        &[10]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(7).or_else(|_| cx.dtype(0))?;
        cx.set_dtype(0, dtype);
        let shape = conv_shape(cx, 0, 3)?;
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, w) = (cx.tensor(0)?, cx.tensor(3)?);
        let (mut acc, dims) = accumulate(cx, (x, cx.optional(2)?), (w, cx.optional(5)?))?;
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
        let y = acc
            .iter()
            .enumerate()
            .map(|(i, &a)| requantize.apply(a, i / positions.max(1) % channels.max(1)))
            .collect();
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
