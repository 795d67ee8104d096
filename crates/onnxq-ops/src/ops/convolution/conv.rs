//! Conv, and the shape rule it shares with its integer forms.
//!
//! `Y[n, m] = B[m] + Σ_c X[n, c] * W[m, c]` (cross-correlation) within each group of channels.

use onnxq_ir::Op;
use onnxq_tensor::{Dim, Shape};

use super::{
    product::{Problem, add_bias},
    window::Window,
};
use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, Value,
    ops::numeric::{Real, expect_dims, product, real_tensor, with_real},
};

pub(super) struct Conv;

impl Operator for Conv {
    fn name(&self) -> &'static str {
        "Conv"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 11, 22]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0).or_else(|_| cx.dtype(1))?;
        cx.set_dtype(0, dtype);
        let shape = conv_shape(cx, 0, 1)?;
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, w) = (cx.tensor(0)?, cx.tensor(1)?);
        let problem = problem(cx, x.dims(), w.dims())?;
        let dims = result_dims(&problem, x.dims().len());
        let channels = problem.groups * problem.outputs;
        with_real!(cx, x.dtype(), T => {
            let mut y = problem.forward(&T::read(x)?, &T::read(w)?)?;
            if cx.optional(2)?.is_some() {
                let bias = T::read(expect_dims(cx, 2, &[channels])?)?;
                add_bias(&mut y, &bias, product(&dims[2..]));
            }
            Ok(vec![real_tensor(x.dtype(), &dims, y)?])
        })
    }

    fn quant(&self, _op: &Op) -> QuantRole {
        QuantRole::Affine {
            activation: 0,
            weight: 1,
            bias: Some(2),
            channel_axis: 0,
        }
    }
}

/// The shape of a convolution of operand `x` with operand `w`.
pub(super) fn conv_shape(cx: &InferContext<'_>, x: usize, w: usize) -> Result<Shape, Unknown> {
    conv_shape_of(cx, cx.shape(x).cloned(), w)
}

/// The shape of a convolution of what has shape `x` with operand `w`.
pub(super) fn conv_shape_of(
    cx: &InferContext<'_>,
    x: Result<Shape, Unknown>,
    w: usize,
) -> Result<Shape, Unknown> {
    let weight = cx.shape(w).ok();
    let rank = match (&x, weight) {
        (Ok(x), _) => x.len(),
        (_, Some(w)) => w.len(),
        (Err(e), None) => return Err(e.clone()),
    };
    let spatial = rank
        .checked_sub(2)
        .ok_or_else(|| Unknown::new("an operand of rank under 2"))?;
    if weight.is_some_and(|w| w.len() != rank) {
        return Err(Unknown::new("operands of different rank"));
    }
    let x = x.unwrap_or_else(|_| Shape::from_elem(Dim::UNKNOWN, rank));
    let kernel: Option<Vec<i64>> = weight.and_then(|w| w[2..].iter().map(Dim::as_const).collect());
    let window = Window::of(cx.op(), spatial, kernel.as_deref());
    let channels = weight.map_or(Dim::UNKNOWN, |w| w[0].clone());
    let mut shape = Shape::from_iter([x[0].clone(), channels]);
    match window {
        Ok(window) => shape.extend((0..spatial).map(|i| window.small_dim(i, &x[2 + i]))),
        Err(_) if kernel.is_none() && cx.op().ints("kernel_shape").is_none() => {
            shape.extend((0..spatial).map(|_| Dim::UNKNOWN));
        }
        Err(e) => return Err(Unknown(e)),
    }
    Ok(shape)
}

/// The convolution of operands of these dimensions.
pub(super) fn problem(
    cx: &EvalContext<'_>,
    x: &[usize],
    w: &[usize],
) -> Result<Problem, EvalError> {
    if x.len() < 2 || x.len() != w.len() {
        return Err(cx.invalid(format!("a convolution of {x:?} with {w:?}")));
    }
    let groups = groups(cx)?;
    if x[1] != w[1].saturating_mul(groups) || !w[0].is_multiple_of(groups) {
        return Err(cx.invalid(format!("{x:?} with {w:?} in {groups} groups")));
    }
    let kernel: Vec<i64> = w[2..].iter().map(|&k| k as i64).collect();
    let window = Window::of(cx.op(), kernel.len(), Some(&kernel)).map_err(|e| cx.invalid(e))?;
    Ok(Problem {
        batch: x[0],
        groups,
        inputs: w[1],
        outputs: w[0] / groups,
        window: window.place(&x[2..]).map_err(|e| cx.invalid(e))?,
    })
}

/// The attribute `group`.
pub(super) fn groups(cx: &EvalContext<'_>) -> Result<usize, EvalError> {
    let groups = cx.op().int("group", 1);
    usize::try_from(groups)
        .ok()
        .filter(|&g| g > 0)
        .ok_or_else(|| cx.invalid(format!("attribute 'group' is {groups}")))
}

/// The dimensions of the result; `rank` is that of the operands.
pub(super) fn result_dims(problem: &Problem, rank: usize) -> Vec<usize> {
    let mut dims = vec![problem.batch, problem.groups * problem.outputs];
    dims.extend(&problem.window.small[..rank - 2]);
    dims
}
