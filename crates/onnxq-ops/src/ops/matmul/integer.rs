//! Products of 8-bit integers: MatMulInteger, QLinearMatMul, and ONNX Runtime's MatMulIntegerToFloat,
//! DynamicQuantizeMatMul and QGemm.
//!
//! Sums are exact 32-bit integers; [`arith`](crate::ops::quantization::arith) has the rest.

use onnxq_ir::Op;
use onnxq_tensor::{DType, Shape, Tensor};

use super::{
    gemm::{each_broadcast, gemm_plan, gemm_shape},
    product::{Stacks, infer_product},
};
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{Real, int_tensor, product, real_tensor},
        quantization::{
            MS,
            arith::{Requantize, centered, exact_i32, scalar},
            dynamic::{dynamic_parameters, quantize_u8},
        },
    },
};

pub(super) struct MatMulInteger;

impl Operator for MatMulInteger {
    fn name(&self) -> &'static str {
        "MatMulInteger"
    }

    fn since(&self) -> &'static [i64] {
        &[10]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        infer_product(cx, 0, 1, Some(DType::I32))
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (plan, acc) = accumulate(cx, (0, 2), (1, 3))?;
        let acc = acc.into_iter().map(i64::from).collect();
        Ok(vec![int_tensor(DType::I32, &plan.dims, acc)?])
    }
}

pub(super) struct QLinearMatMul {
    pub(super) domain: &'static str,
}

impl Operator for QLinearMatMul {
    fn domain(&self) -> &'static str {
        self.domain
    }

    fn name(&self) -> &'static str {
        "QLinearMatMul"
    }

    fn since(&self) -> &'static [i64] {
        &[10, 21]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(7).or_else(|_| cx.dtype(0))?;
        infer_product(cx, 0, 3, Some(dtype))
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (plan, acc) = accumulate(cx, (0, 2), (3, 5))?;
        let (n, scales) = (plan.columns.max(1), cx.tensor(4)?);
        // One for each column of each matrix: dimensions `[..., 1, N]`.
        let by_matrix = scales.rank() > 1 && scales.len() != 1;
        let channels = match by_matrix {
            true => cx.tensor(3)?.len() / plan.depth.max(1),
            false => plan.columns,
        };
        let requantize = Requantize::of(cx, 1, 4, 6, 7, channels)?;
        let size = plan.rows.max(1) * n;
        let channel = |i: usize| match by_matrix {
            true => plan.right(i / size) * n + i % n,
            false => i % n,
        };
        let sums = acc.iter().enumerate();
        let y = sums
            .map(|(i, &a)| requantize.apply(a, channel(i)))
            .collect();
        Ok(vec![int_tensor(requantize.dtype, &plan.dims, y)?])
    }
}

/// `f32(acc) * f32(sa * sb) + bias`: operands A, B, scales, zero points, bias.
pub(super) struct MatMulIntegerToFloat;

impl Operator for MatMulIntegerToFloat {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "MatMulIntegerToFloat"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(2)?;
        infer_product(cx, 0, 1, Some(dtype))
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (plan, acc) = accumulate(cx, (0, 4), (1, 5))?;
        let dtype = cx.tensor(2)?.dtype();
        to_float(cx, &plan, &acc, scalar(cx, 2)?, 3, 6, dtype)
    }
}

/// The same with A quantized on the fly: operands A, B, scale and zero point of B, bias.
pub(super) struct DynamicQuantizeMatMul;

impl Operator for DynamicQuantizeMatMul {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "DynamicQuantizeMatMul"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        infer_product(cx, 0, 1, Some(DType::F32))
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (a, b) = (cx.tensor(0)?, cx.tensor(1)?);
        let data = f32::read(a)?;
        let (scale, zero) = dynamic_parameters(&data);
        let quantized = quantize_u8(&data, scale, zero);
        let left: Vec<f64> = quantized
            .into_iter()
            .map(|q| f64::from(q) - f64::from(zero))
            .collect();
        let right = columns_centered(b, cx.optional(3)?)?;
        let plan = Stacks::of(a.dims(), b.dims(), false, false)?;
        let acc: Vec<i32> = plan
            .multiply(&left, &right, 1.0)
            .into_iter()
            .map(exact_i32)
            .collect();
        to_float(cx, &plan, &acc, scale, 2, 4, DType::F32)
    }
}

/// Gemm of integers: operands A and its scale and zero point, the same of B, C, and of Y; without a
/// scale of Y the result is float.
pub(super) struct QGemm;

impl Operator for QGemm {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "QGemm"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = match cx.has(7) {
            true => cx.dtype(8).or_else(|_| cx.dtype(0))?,
            false => DType::F32,
        };
        cx.set_dtype(0, dtype);
        let shape: Shape = gemm_shape(cx, 0, 3)?;
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (a, b) = (cx.tensor(0)?, cx.tensor(3)?);
        let plan = gemm_plan(cx, a, b)?;
        let axis = if is_set(cx.op(), "transB") { 0 } else { 1 };
        let left = centered(a, cx.optional(2)?, None)?;
        let right = centered(b, cx.optional(5)?, Some(axis))?;
        let acc = plan.multiply(&left, &right, 1.0);
        let mut acc: Vec<i32> = acc.into_iter().map(exact_i32).collect();
        if let Some(c) = cx.optional(6)? {
            let c = c.as_slice::<i32>()?;
            each_broadcast(cx, 6, &plan.dims, |i, j| acc[i] = acc[i].wrapping_add(c[j]))?;
        }
        let alpha = cx.op().float("alpha", 1.0);
        let columns = plan.columns;
        let scales = f32::read(cx.tensor(4)?)?;
        if scales.len() != 1 && scales.len() != columns {
            return Err(cx.invalid(format!("{} scales, {columns} columns", scales.len())));
        }
        let sa = scalar(cx, 1)?;
        let scale = |i: usize| alpha * sa * scales[if scales.len() == 1 { 0 } else { i % columns }];
        if cx.optional(7)?.is_none() {
            let y = acc.iter().enumerate().map(|(i, &a)| a as f32 * scale(i));
            return Ok(vec![real_tensor(DType::F32, &plan.dims, y.collect())?]);
        }
        let requantize = Requantize::of(cx, 1, 4, 7, 8, columns)?.scaled(alpha);
        let y = acc
            .iter()
            .enumerate()
            .map(|(i, &a)| requantize.apply(a, i % columns))
            .collect();
        Ok(vec![int_tensor(requantize.dtype, &plan.dims, y)?])
    }
}

fn is_set(op: &Op, key: &str) -> bool {
    op.int(key, 0) != 0
}

/// The exact sums of the operands `a` and `b`, each given with that of its zero point.
fn accumulate(
    cx: &EvalContext<'_>,
    (a, a_zero): (usize, usize),
    (b, b_zero): (usize, usize),
) -> Result<(Stacks, Vec<i32>), EvalError> {
    let (a, b) = (cx.tensor(a)?, cx.tensor(b)?);
    let plan = Stacks::of(a.dims(), b.dims(), false, false)?;
    // Zero points of the left factor may differ by row.
    let left = match cx.optional(a_zero)? {
        Some(zero) if zero.len() > 1 => {
            let rows = &a.dims()[..a.rank().saturating_sub(1)];
            let per_row = zero.rank() == 1 && rows.last() == Some(&zero.len());
            if !per_row && zero.len() != product(rows) {
                return Err(cx.invalid("zero points that do not fit the rows"));
            }
            let (zero, depth) = (zero.to_i64s()?, plan.depth.max(1));
            let row = |(i, x): (usize, f64)| x - zero[i / depth % zero.len()] as f64;
            let values = centered(a, None, None)?;
            values.into_iter().enumerate().map(row).collect()
        }
        zero => centered(a, zero, None)?,
    };
    let right = columns_centered(b, cx.optional(b_zero)?)?;
    let acc = plan.multiply(&left, &right, 1.0);
    Ok((plan, acc.into_iter().map(exact_i32).collect()))
}

/// The elements of a right factor less the zero point of all, of their column, or of the column in
/// their matrix (dimensions `[..., 1, N]`).
fn columns_centered(b: &Tensor, zero: Option<&Tensor>) -> Result<Vec<f64>, EvalError> {
    let Some(zero) = zero.filter(|z| z.rank() > 1 && z.len() > 1) else {
        return centered(b, zero, b.rank().checked_sub(1));
    };
    let mut expected = b.dims().to_vec();
    if let [.., rows, _] = &mut expected[..] {
        *rows = 1;
    }
    let (values, n) = (centered(b, None, None)?, *expected.last().unwrap_or(&1));
    let matrix = b.dims().iter().rev().take(2).product::<usize>();
    if zero.dims() != expected && zero.len() != n {
        return Err(EvalError::Invalid(
            "zero points that do not fit the columns".to_owned(),
        ));
    }
    let zero = zero.to_i64s()?;
    let column = |(i, x): (usize, f64)| x - zero[(i / matrix * n + i % n) % zero.len()] as f64;
    Ok(values.into_iter().enumerate().map(column).collect())
}

/// `f32(acc) * f32(sa * sb) + bias`, for the operands that are the scale of B and the bias.
fn to_float(
    cx: &EvalContext<'_>,
    plan: &Stacks,
    acc: &[i32],
    sa: f32,
    b_scale: usize,
    bias: usize,
    dtype: DType,
) -> Result<Vec<Value>, EvalError> {
    let sb = f32::read(cx.tensor(b_scale)?)?;
    let columns = plan.columns;
    if sb.len() != 1 && sb.len() != columns {
        return Err(cx.invalid(format!("{} scales, {columns} columns", sb.len())));
    }
    let scale = |i: usize| sa * sb[if sb.len() == 1 { 0 } else { i % columns }];
    let real = |(i, &a): (usize, &i32)| a as f32 * scale(i);
    let mut y: Vec<f32> = acc.iter().enumerate().map(real).collect();
    if let Some(bias) = cx.optional(bias)? {
        let bias = f32::read(bias)?;
        if bias.len() != columns {
            return Err(cx.invalid(format!("{} biases, {columns} columns", bias.len())));
        }
        for (i, y) in y.iter_mut().enumerate() {
            *y += bias[i % columns];
        }
    }
    Ok(vec![real_tensor(dtype, &plan.dims, y)?])
}
