//! LRN and LpNormalization: division by a norm of neighbours, or of an axis.

use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::numeric::{Real, around, axis_attr, product, real_tensor, same_type, with_real},
};

/// `X / (bias + alpha / size * Σ X²)^beta`, the sum over `size` neighbouring channels.
pub(super) struct Lrn;

/// `X / |X|`, along an axis; where the norm is zero, zero.
pub(super) struct LpNormalization;

impl Operator for Lrn {
    fn name(&self) -> &'static str {
        "LRN"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 13]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_type(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        if x.rank() < 2 {
            return Err(cx.invalid(format!("an operand of rank {}", x.rank())));
        }
        let op = cx.op();
        let size = usize::try_from(op.int("size", 0)).ok().filter(|&n| n > 0);
        let size = size.ok_or_else(|| cx.invalid("attribute 'size' is not positive"))?;
        let alpha = f64::from(op.float("alpha", 1e-4)) / size as f64;
        let (beta, bias) = (
            f64::from(op.float("beta", 0.75)),
            f64::from(op.float("bias", 1.0)),
        );
        let (channels, plane) = (x.dims()[1], product(&x.dims()[2..]));
        let (before, after) = ((size - 1) / 2, size - 1 - (size - 1) / 2);
        with_real!(cx, x.dtype(), T => {
            let data = T::read(x)?;
            let mut y = data.to_vec();
            let mut sum = vec![0.0f64; if x.is_empty() { 0 } else { plane }];
            for (i, y) in y.chunks_exact_mut(plane.max(1)).enumerate() {
                let (image, c) = (i / channels * channels, i % channels);
                let from = c.saturating_sub(before);
                let to = c.saturating_add(after).min(channels - 1);
                sum.fill(0.0);
                for near in from..=to {
                    let row = &data[(image + near) * plane..][..plane];
                    sum.iter_mut().zip(row).for_each(|(s, x)| *s += x.wide() * x.wide());
                }
                for (y, s) in y.iter_mut().zip(&sum) {
                    *y = T::of(y.wide() / (bias + alpha * s).powf(beta));
                }
            }
            Ok(vec![real_tensor(x.dtype(), x.dims(), y)?])
        })
    }
}

impl Operator for LpNormalization {
    fn name(&self) -> &'static str {
        "LpNormalization"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 22]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_type(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        if x.is_empty() {
            return Ok(vec![x.clone().into()]);
        }
        let axis = axis_attr(cx.op(), "axis", -1, x.rank()).map_err(|e| cx.invalid(e))?;
        let (before, n, after) = around(x.dims(), axis);
        let p = cx.op().int("p", 2);
        with_real!(cx, x.dtype(), T => {
            let mut y = T::read(x)?.into_owned();
            for i in 0..before {
                for j in 0..after {
                    let at = |k: usize| (i * n + k) * after + j;
                    let values = (0..n).map(|k| y[at(k)].wide());
                    let norm = match p {
                        1 => values.map(f64::abs).sum(),
                        2 => values.map(|x| x * x).sum::<f64>().sqrt(),
                        p => return Err(cx.invalid(format!("attribute 'p' is {p}"))),
                    };
                    for k in 0..n {
                        let x = y[at(k)].wide();
                        y[at(k)] = T::of(if norm == 0.0 { 0.0 } else { x / norm });
                    }
                }
            }
            Ok(vec![real_tensor(x.dtype(), x.dims(), y)?])
        })
    }
}
