//! NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: what a classification costs.
//!
//! Operands: scores by class (`[N, C, d1, ...]`, logarithms of probabilities for the first),
//! classes (`[N, d1, ...]`) and a weight for each class. `ignore_index` is a class that costs
//! nothing. The loss is that of each element, their sum, or their mean by weight; it is computed
//! in `f64`. SoftmaxCrossEntropyLoss takes the logarithm of the softmax over the classes first,
//! which is its second result.

use onnxq_ir::Attr;
use onnxq_tensor::Shape;

use super::numeric::{Real, expect_dims, product, real_tensor};
use crate::{EvalContext, EvalError, InferContext, Operator, Unknown, Value};

pub(super) static OPERATORS: &[&dyn Operator] = &[
    &Loss {
        name: "NegativeLogLikelihoodLoss",
        since: &[12, 13, 22],
        softmax: false,
    },
    &Loss {
        name: "SoftmaxCrossEntropyLoss",
        since: &[12, 13],
        softmax: true,
    },
];

struct Loss {
    name: &'static str,
    since: &'static [i64],
    softmax: bool,
}

impl Operator for Loss {
    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        self.since
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        cx.set_type(1, cx.ty(0)?.clone());
        if reduction(cx.op()) != "none" {
            cx.set_tensor(0, dtype, Shape::new());
        } else if let Ok(classes) = cx.shape(1) {
            cx.set_tensor(0, dtype, classes.clone());
        } else {
            let mut shape = cx.shape(0)?.clone();
            if shape.len() < 2 {
                return Err(Unknown::new("scores of rank under 2"));
            }
            shape.remove(1);
            cx.set_tensor(0, dtype, shape);
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let (batch, classes, inner) = match *x.dims() {
            [batch, classes, ref rest @ ..] => (batch, classes, rest),
            _ => return Err(cx.invalid("scores of rank under 2")),
        };
        let mut dims = vec![batch];
        dims.extend(inner);
        let targets = expect_dims(cx, 1, &dims)?.to_i64s()?;
        let weights = match cx.optional(2)? {
            Some(_) => Some(f64::read(expect_dims(cx, 2, &[classes])?)?),
            None => None,
        };
        let size = product(inner);
        let mut scores = f64::read(x)?.into_owned();
        if self.softmax {
            log_softmax(&mut scores, classes, size);
        }
        let ignored = cx.op().attr("ignore_index").and_then(Attr::as_int);
        let (mut losses, mut total) = (Vec::with_capacity(targets.len()), 0.0);
        for (i, &target) in targets.iter().enumerate() {
            if Some(target) == ignored {
                losses.push(0.0);
                continue;
            }
            let class = usize::try_from(target).ok().filter(|&c| c < classes);
            let class = class.ok_or_else(|| cx.invalid(format!("class {target} of {classes}")))?;
            let weight = weights.as_ref().map_or(1.0, |w| w[class]);
            total += weight;
            losses.push(-scores[(i / size * classes + class) * size + i % size] * weight);
        }
        let sum = || losses.iter().sum::<f64>();
        let loss = match reduction(cx.op()) {
            "none" => real_tensor(x.dtype(), &dims, losses)?,
            "sum" => real_tensor(x.dtype(), &[], vec![sum()])?,
            "mean" => real_tensor(x.dtype(), &[], vec![sum() / total])?,
            other => return Err(cx.invalid(format!("attribute 'reduction' is '{other}'"))),
        };
        let mut results = vec![loss];
        if cx.results() > 1 {
            results.push(real_tensor(x.dtype(), x.dims(), scores)?);
        }
        Ok(results)
    }
}

fn reduction(op: &onnxq_ir::Op) -> &str {
    op.str("reduction").unwrap_or("mean")
}

/// The logarithm of the softmax over the second of three axes.
fn log_softmax(x: &mut [f64], classes: usize, inner: usize) {
    if x.is_empty() {
        return;
    }
    for block in x.chunks_exact_mut(classes * inner) {
        for i in 0..inner {
            let max = (block[i..].iter().step_by(inner)).fold(f64::NEG_INFINITY, |m, &v| m.max(v));
            let sum: f64 = block[i..]
                .iter()
                .step_by(inner)
                .map(|v| (v - max).exp())
                .sum();
            let log = sum.ln() + max;
            block[i..].iter_mut().step_by(inner).for_each(|v| *v -= log);
        }
    }
}
