//! QLinearSoftmax: exponentials from a table, the quotients quantized.
//!
//! The attribute `opset` says which Softmax is meant: before 13 all axes from `axis` on are one.
//! The table is that of ONNX Runtime: exponentials are scaled so that their sum stays finite, and
//! the scale of the result enters as the whole number `floor(1 / scale)`.

use super::{Parameters, integers, same_type};
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{around, axis_attr, int_tensor, product},
        quantization::{MS, arith::saturate},
    },
};

pub(super) struct QLinearSoftmax;

impl Operator for QLinearSoftmax {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "QLinearSoftmax"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_type(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, (lo, hi)) = integers(cx, 0)?;
        let (from, to) = (Parameters::of(cx, 1, 2)?, Parameters::of(cx, 3, 4)?);
        let t = cx.tensor(0)?;
        if t.is_empty() {
            return Ok(vec![t.clone().into()]);
        }
        let old = cx.op().int("opset", 13) < 13;
        let default = if old { 1 } else { -1 };
        let axis = axis_attr(cx.op(), "axis", default, t.rank()).map_err(|e| cx.invalid(e))?;
        let (before, n, after) = match old {
            true => (product(&t.dims()[..axis]), product(&t.dims()[axis..]), 1),
            false => around(t.dims(), axis),
        };
        let table = table(from.scale, n);
        let scale = (1.0 / to.scale).floor();
        let mut y = vec![0; x.len()];
        for i in 0..before {
            for j in 0..after {
                let at = |k: usize| (i * n + k) * after + j;
                let max = (0..n).map(|k| x[at(k)]).max().unwrap_or(lo);
                // The largest takes the last entry.
                let exp = |k: usize| table[(255 - (max - x[at(k)])) as usize];
                let sum = (0..n).fold(0f32, |sum, k| sum + exp(k));
                for k in 0..n {
                    y[at(k)] = saturate(exp(k) * scale / sum, to.zero, (lo, hi));
                }
            }
        }
        Ok(vec![int_tensor(t.dtype(), t.dims(), y)?])
    }
}

/// Exponentials of the distances to the largest element, the last being that of zero, all times
/// the same factor.
fn table(scale: f32, n: usize) -> Vec<f32> {
    const RESERVE: f64 = 5.0;
    let scale = f64::from(scale);
    let room = (f64::from(f32::MAX / n as f32).ln() - RESERVE).max(0.0);
    (0..256)
        .map(|i| ((f64::from(i) - 255.0) * scale + room).exp() as f32)
        .collect()
}
