//! Gemm: `alpha * A' * B' + beta * C`, with `C` broadcast.
//!
//! Before opset 7 the attribute `broadcast` allowed that; before 11 `C` had to be there.

use onnxq_ir::Op;
use onnxq_tensor::{Shape, Tensor};

use super::product::{Stacks, multiply, wrapped};
use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::numeric::{Real, advance, broadcast_strides, int_tensor, product, real_tensor, with_real},
};

pub(super) struct Gemm;

impl Operator for Gemm {
    fn name(&self) -> &'static str {
        "Gemm"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 6, 7, 9, 11, 13]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0).or_else(|_| cx.dtype(1))?;
        cx.set_dtype(0, dtype);
        let shape = gemm_shape(cx, 0, 1)?;
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (a, b) = (cx.tensor(0)?, cx.tensor(1)?);
        let plan = gemm_plan(cx, a, b)?;
        let (alpha, beta) = (cx.op().float("alpha", 1.0), cx.op().float("beta", 1.0));
        let y = multiply(cx, &plan, a, b, f64::from(alpha))?;
        let Some(c) = cx.optional(2)? else {
            return Ok(vec![y]);
        };
        let y = y.as_tensor().expect("a product is a tensor");
        if a.dtype().is_int() {
            if alpha != 1.0 || beta != 1.0 {
                return Err(cx.unsupported("scaling of integers"));
            }
            let mut sum = wrapped(y)?;
            let c = wrapped(c)?;
            each_broadcast(cx, 2, y.dims(), |i, j| sum[i] = sum[i].wrapping_add(c[j]))?;
            return Ok(vec![int_tensor(a.dtype(), y.dims(), sum)?]);
        }
        with_real!(cx, a.dtype(), T => {
            let mut sum = T::read(y)?.into_owned();
            let (c, beta) = (T::read(c)?, T::of(f64::from(beta)));
            each_broadcast(cx, 2, y.dims(), |i, j| sum[i] += beta * c[j])?;
            Ok(vec![real_tensor(a.dtype(), y.dims(), sum)?])
        })
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.crosses(7) {
            cx.op_mut().attrs.shift_remove("broadcast");
        }
        Ok(())
    }

    fn quant(&self, op: &Op) -> QuantRole {
        QuantRole::Affine {
            activation: 0,
            weight: 1,
            bias: Some(2),
            channel_axis: if op.int("transB", 0) != 0 { 0 } else { 1 },
        }
    }
}

/// The shape of the product of operands `a` and `b`, transposed as the attributes say.
pub(super) fn gemm_shape(cx: &InferContext<'_>, a: usize, b: usize) -> Result<Shape, Unknown> {
    let side = |i: usize, flag: &str, at: usize| {
        let shape = cx.shape(i)?;
        if shape.len() != 2 {
            return Err(Unknown(format!("operand {i} has rank {}", shape.len())));
        }
        let turned = cx.op().int(flag, 0) != 0;
        Ok(shape[if turned { 1 - at } else { at }].clone())
    };
    Ok(Shape::from_iter([
        side(a, "transA", 0)?,
        side(b, "transB", 1)?,
    ]))
}

/// The product of `a` and `b`, transposed as the attributes say.
pub(super) fn gemm_plan(cx: &EvalContext<'_>, a: &Tensor, b: &Tensor) -> Result<Stacks, EvalError> {
    if a.rank() != 2 || b.rank() != 2 {
        return Err(cx.invalid(format!("a product of {:?} and {:?}", a.dims(), b.dims())));
    }
    let flag = |key| cx.op().int(key, 0) != 0;
    Stacks::of(a.dims(), b.dims(), flag("transA"), flag("transB"))
}

/// Calls `f` with the number of each element of a tensor of `dims`, and of the element of operand
/// `i`, broadcast to it.
pub(super) fn each_broadcast(
    cx: &EvalContext<'_>,
    i: usize,
    dims: &[usize],
    mut f: impl FnMut(usize, usize),
) -> Result<(), EvalError> {
    let c = cx.tensor(i)?.dims();
    let missing = dims.len().checked_sub(c.len());
    let fits = missing.is_some_and(|skip| {
        let pairs = c.iter().zip(&dims[skip..]);
        pairs.into_iter().all(|(&c, &d)| c == d || c == 1)
    });
    if !fits {
        return Err(EvalError::Operand {
            index: i,
            message: format!("{c:?} does not broadcast to {dims:?}"),
        });
    }
    if dims.contains(&0) {
        return Ok(());
    }
    let strides = broadcast_strides(c, dims);
    let (mut index, mut at, mut n) = (vec![0; dims.len()], [0], 0);
    loop {
        f(n, at[0]);
        n += 1;
        if !advance(&mut index, dims, [&strides], &mut at) {
            return Ok(());
        }
    }
}

/// The elements of operand `i`, broadcast to `dims`.
pub(in crate::ops) fn broadcast_to<T: Real>(
    cx: &EvalContext<'_>,
    i: usize,
    dims: &[usize],
) -> Result<Vec<T>, EvalError> {
    let data = T::read(cx.tensor(i)?)?;
    let mut out = Vec::with_capacity(product(dims));
    each_broadcast(cx, i, dims, |_, at| out.push(data[at]))?;
    Ok(out)
}
