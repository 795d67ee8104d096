//! BatchNormalization: `(X - mean) / sqrt(var + epsilon) * scale + B`, each parameter one number
//! for each channel.
//!
//! | opset | change |
//! |---|---|
//! | 7 | `is_test` went; more than one result means training |
//! | 9 | `spatial` went, which at 0 had parameters for each element of an instance |
//! | 14 | `training_mode`; two statistics as results instead of four |

use onnxq_ir::Op;
use onnxq_tensor::Shape;

use super::{moments, scaling};
use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::numeric::{Real, product, real_tensor, with_real},
};

pub(super) struct BatchNormalization;

impl Operator for BatchNormalization {
    fn name(&self) -> &'static str {
        "BatchNormalization"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 6, 7, 9, 14, 15]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let statistics = cx.dtype(3).unwrap_or(dtype);
        let shape = cx.shape(0)?.clone();
        let channels: Shape = shape.iter().skip(1).take(1).cloned().collect();
        for i in 1..cx.results() {
            cx.set_tensor(i, statistics, channels.clone());
        }
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let training = cx.op().int("training_mode", 0) != 0;
        if cx.results() > 1 && !training {
            return Err(cx.unsupported("training mode"));
        }
        // Without spatial axes, or a channel, the batch has rows of one channel each.
        let channels = x.dims().get(1).copied().unwrap_or(1);
        let epsilon = f64::from(cx.op().float("epsilon", 1e-5));
        let per_element = cx.op().int("spatial", 1) == 0;
        let (count, size) = match per_element {
            true => (product(x.dims().get(1..).unwrap_or_default()), 1),
            false => (channels, product(x.dims().get(2..).unwrap_or_default())),
        };
        with_real!(cx, x.dtype(), T => {
            let mut y = T::read(x)?.into_owned();
            let parameter = |i: usize| {
                let p = T::read(cx.tensor(i)?)?;
                match p.len() == count {
                    true => Ok(p),
                    false => Err(cx.invalid(format!("{} parameters for {count}", p.len()))),
                }
            };
            let (scale, bias) = (parameter(1)?, parameter(2)?);
            let (mut mean, mut var) = (parameter(3)?, parameter(4)?);
            let mut results = Vec::new();
            if training {
                let momentum = f64::from(cx.op().float("momentum", 0.9));
                let current: Vec<(f64, f64)> = (0..count)
                    .map(|c| {
                        let rows = y.chunks_exact(size.max(1)).skip(c).step_by(count);
                        moments(rows.flatten().map(|x| x.wide()))
                    })
                    .collect();
                let running = |old: &[T], new: &dyn Fn(usize) -> f64| -> Vec<T> {
                    let mix = |(i, o): (usize, &T)| {
                        T::of(o.wide() * momentum + new(i) * (1.0 - momentum))
                    };
                    old.iter().enumerate().map(mix).collect()
                };
                let statistics = cx.tensor(3)?.dtype();
                for values in [running(&mean, &|i| current[i].0), running(&var, &|i| current[i].1)] {
                    results.push(real_tensor(statistics, &[count], values)?);
                }
                mean = current.iter().map(|m| T::of(m.0)).collect();
                var = current.iter().map(|m| T::of(m.1)).collect();
            }
            let factors: Vec<(T, T)> = (0..count)
                .map(|c| {
                    // One factor and one term for each channel, each rounded once.
                    let factor = scale[c].wide() / (var[c].wide() + epsilon).sqrt();
                    (T::of(factor), T::of(bias[c].wide() - mean[c].wide() * factor))
                })
                .collect();
            if size > 0 && count > 0 {
                for (i, row) in y.chunks_exact_mut(size).enumerate() {
                    let (factor, term) = factors[i % count];
                    row.iter_mut().for_each(|y| *y = *y * factor + term);
                }
            }
            results.insert(0, real_tensor(x.dtype(), x.dims(), y)?);
            Ok(results)
        })
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        let training = cx.graph.node(cx.node).results.len() > 1;
        if cx.crosses(14) && training {
            return Err(UpgradeError::new("it is in training mode"));
        }
        if cx.crosses(9) && cx.op().int("spatial", 1) == 0 {
            return Err(UpgradeError::new("attribute 'spatial' is 0"));
        }
        let gone: [(i64, &[&str]); 3] = [
            (6, &["consumed_inputs"]),
            (7, &["is_test"]),
            (9, &["spatial"]),
        ];
        for (opset, keys) in gone {
            if cx.crosses(opset) {
                for key in keys {
                    cx.op_mut().attrs.shift_remove(*key);
                }
            }
        }
        Ok(())
    }

    fn quant(&self, op: &Op) -> QuantRole {
        scaling(op)
    }
}
