//! SkipLayerNormalization: `LayerNormalization(input + skip + bias)`, and its simplified form, which
//! subtracts no mean.

use onnxq_tensor::{DType, Dim, Tensor};

use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{Real, expect_dims, real_tensor, same_type, with_real},
        quantization::MS,
    },
};

/// Operands: input, skip, gamma, beta (not in the simplified form), bias. Results: output, mean,
/// inverse deviation, and the sum that was normalized.
pub(super) struct SkipLayerNormalization {
    pub(super) name: &'static str,
    pub(super) simplified: bool,
}

impl Operator for SkipLayerNormalization {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_type(cx)?;
        let ty = cx.ty(0)?.clone();
        cx.set_type(3, ty);
        let mut shape = cx.shape(0)?.clone();
        if let Some(last) = shape.last_mut() {
            *last = Dim::known(1);
        }
        for i in 1..3 {
            cx.set_tensor(i, DType::F32, shape.clone());
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, skip) = (cx.tensor(0)?, cx.tensor(1)?);
        let width = x.dims().last().copied().unwrap_or(0);
        let fits = width > 0 && !x.is_empty() && !skip.is_empty();
        if !fits || x.len() % skip.len() != 0 {
            return Err(cx.invalid(format!("{:?} and {:?}", x.dims(), skip.dims())));
        }
        let bias = if self.simplified { 3 } else { 4 };
        let rows = x.len() / width;
        let mut statistics = x.dims().to_vec();
        if let Some(last) = statistics.last_mut() {
            *last = 1;
        }
        with_real!(cx, x.dtype(), T => {
            let skip = T::read(skip)?;
            let mut sum = T::read(x)?.into_owned();
            for (i, s) in sum.iter_mut().enumerate() {
                *s += skip[i % skip.len()];
            }
            if cx.optional(bias)?.is_some() {
                let bias = T::read(expect_dims(cx, bias, &[width])?)?;
                sum.iter_mut().enumerate().for_each(|(i, s)| *s += bias[i % width]);
            }
            let beta = match !self.simplified && cx.optional(3)?.is_some() {
                true => Some(expect_dims(cx, 3, &[width])?),
                false => None,
            };
            let gamma = expect_dims(cx, 2, &[width])?;
            let norm = Norm::of(gamma, beta, cx.op().float("epsilon", 1e-12), self.simplified)?;
            let (mut y, mut means, mut inverses) = (sum.clone(), Vec::new(), Vec::new());
            for row in y.chunks_exact_mut(width) {
                let (mean, inverse) = norm.apply(row);
                means.push(mean as f32);
                inverses.push(inverse as f32);
            }
            debug_assert_eq!(means.len(), rows);
            let mut results = vec![
                real_tensor(x.dtype(), x.dims(), y)?,
                real_tensor(DType::F32, &statistics, means)?,
                real_tensor(DType::F32, &statistics, inverses)?,
                real_tensor(x.dtype(), x.dims(), sum)?,
            ];
            results.truncate(cx.results().max(1));
            Ok(results)
        })
    }
}

/// Normalization of rows, with scale and shift.
pub(super) struct Norm<T> {
    gamma: Vec<T>,
    beta: Option<Vec<T>>,
    epsilon: f64,
    simplified: bool,
}

impl<T: Real> Norm<T> {
    pub(super) fn of(
        gamma: &Tensor,
        beta: Option<&Tensor>,
        epsilon: f32,
        simplified: bool,
    ) -> Result<Norm<T>, EvalError> {
        Ok(Norm {
            gamma: T::read(gamma)?.into_owned(),
            beta: beta.map(T::read).transpose()?.map(|b| b.into_owned()),
            epsilon: f64::from(epsilon),
            simplified,
        })
    }

    /// Normalizes a row as long as `gamma`; returns mean and inverse deviation.
    pub(super) fn apply(&self, row: &mut [T]) -> (f64, f64) {
        let n = row.len() as f64;
        let mean = match self.simplified {
            true => 0.0,
            false => row.iter().map(|x| x.wide()).sum::<f64>() / n,
        };
        let squares: f64 = row.iter().map(|x| (x.wide() - mean).powi(2)).sum();
        let inverse = (squares / n + self.epsilon).sqrt().recip();
        for (i, x) in row.iter_mut().enumerate() {
            *x = T::of((x.wide() - mean) * inverse) * self.gamma[i];
            if let Some(beta) = &self.beta {
                *x += beta[i];
            }
        }
        (mean, inverse)
    }
}
