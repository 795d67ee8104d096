//! LayerNormalization and RMSNormalization: each slice over the last axes by its own statistics,
//! which are computed in float whatever the element type (`stash_type`).

use onnxq_ir::Op;
use onnxq_tensor::{DType, Dim};

use super::{moments, scaling};
use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, Value,
    ops::numeric::{Real, axis_attr, broadcast_dims, product, real_tensor, same_type, with_real},
};

pub(super) struct LayerNormalization;

/// RMSNormalization, and ONNX Runtime's operator before there was that, whose second result is the
/// inverse of what is divided by.
pub(super) struct RmsNormalization {
    pub(super) name: &'static str,
    pub(super) since: &'static [i64],
}

impl Operator for LayerNormalization {
    fn name(&self) -> &'static str {
        "LayerNormalization"
    }

    fn since(&self) -> &'static [i64] {
        &[17]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_type(cx)?;
        infer_statistics(cx, 2)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        normalize(cx, true, |row| moments(row.iter().copied()))
    }

    fn quant(&self, op: &Op) -> QuantRole {
        scaling(op)
    }
}

impl Operator for RmsNormalization {
    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        self.since
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_type(cx)?;
        infer_statistics(cx, 1)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        normalize(cx, false, |row| {
            let squares: f64 = row.iter().map(|x| x * x).sum();
            (0.0, squares / row.len() as f64)
        })
    }
}

/// The types of the results after the first: `count` statistics of each slice.
fn infer_statistics(cx: &mut InferContext<'_>, count: usize) -> Result<(), Unknown> {
    let stash = stash_type(cx.op());
    let mut shape = cx.shape(0)?.clone();
    let axis = axis_attr(cx.op(), "axis", -1, shape.len()).map_err(Unknown)?;
    shape.iter_mut().skip(axis).for_each(|d| *d = Dim::known(1));
    for i in 1..=count {
        cx.set_tensor(i, stash, shape.clone());
    }
    Ok(())
}

fn stash_type(op: &Op) -> DType {
    let code = i32::try_from(op.int("stash_type", 1)).ok();
    code.and_then(DType::from_onnx).unwrap_or(DType::F32)
}

/// `(X - mean) / sqrt(var + epsilon) * operand 1 + operand 2`, with the statistics of each slice. The
/// results after the first are the means, if there are any, and what is multiplied with.
fn normalize(
    cx: &EvalContext<'_>,
    with_mean: bool,
    statistics: impl Fn(&[f64]) -> (f64, f64),
) -> Result<Vec<Value>, EvalError> {
    let x = cx.tensor(0)?;
    let axis = axis_attr(cx.op(), "axis", -1, x.rank()).map_err(|e| cx.invalid(e))?;
    let epsilon = f64::from(cx.op().float("epsilon", 1e-5));
    let (rows, size) = (product(&x.dims()[..axis]), product(&x.dims()[axis..]));
    if x.is_empty() {
        return Ok(vec![x.clone().into(); cx.results().min(1)]);
    }
    let mut reduced = x.dims().to_vec();
    reduced[axis..].fill(1);
    with_real!(cx, x.dtype(), T => {
        let mut y = T::read(x)?.into_owned();
        let parameter = |i: usize| match cx.optional(i)? {
            None => Ok(None),
            // Nearly always of the slice's size; a broadcast from the left is written out.
            Some(p) if broadcast_dims(p.dims(), x.dims()).as_deref() == Some(x.dims()) => {
                let p = crate::ops::matmul::broadcast_to::<T>(cx, i, x.dims())?;
                Ok(Some(p))
            }
            Some(p) => Err(cx.invalid(format!("{:?} does not broadcast to {:?}", p.dims(), x.dims()))),
        };
        let (scale, bias) = (parameter(1)?, parameter(2)?);
        let (mut means, mut inverses) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let mut row = vec![0.0; size];
        for (n, y) in y.chunks_exact_mut(size).enumerate() {
            row.iter_mut().zip(&*y).for_each(|(r, y)| *r = y.wide());
            let (mean, var) = statistics(&row);
            let inverse = (var + epsilon).sqrt().recip();
            for (i, y) in y.iter_mut().enumerate() {
                // The first stage ends here: what follows is in the type of X.
                let mut value = T::of((row[i] - mean) * inverse);
                if let Some(scale) = &scale {
                    value *= scale[n * size + i];
                }
                if let Some(bias) = &bias {
                    value += bias[n * size + i];
                }
                *y = value;
            }
            means.push(mean as f32);
            inverses.push(inverse as f32);
        }
        let mut results = vec![real_tensor(x.dtype(), x.dims(), y)?];
        let statistics = [means, inverses].into_iter().skip(usize::from(!with_mean));
        for statistic in statistics.take(cx.results().saturating_sub(1)) {
            results.push(real_tensor(stash_type(cx.op()), &reduced, statistic)?);
        }
        Ok(results)
    })
}
