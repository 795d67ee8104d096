//! LinearRegressor: features times coefficients, plus intercepts.

use onnxq_ir::Attr;
use onnxq_tensor::{DType, Dim, Shape};

use super::{ML, Transform, features::numbers};
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{numeric::real_tensor, rules},
};

pub(super) struct LinearRegressor;

impl Operator for LinearRegressor {
    fn domain(&self) -> &'static str {
        ML
    }

    fn name(&self) -> &'static str {
        "LinearRegressor"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_dtype(0, DType::F32);
        let rows = match &cx.shape(0)?[..] {
            [_] => Dim::known(1),
            [rows, _] => rows.clone(),
            other => return Err(Unknown(format!("features of rank {}", other.len()))),
        };
        let targets = Dim::known(cx.op().int("targets", 1));
        cx.set_tensor(0, DType::F32, Shape::from_iter([rows, targets]));
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let dims = cx.tensor(0)?.dims();
        let (rows, features) = match *dims {
            [features] => (1, features),
            [rows, features] => (rows, features),
            _ => return Err(cx.invalid(format!("features of {dims:?}"))),
        };
        let targets = usize::try_from(cx.op().int("targets", 1)).unwrap_or(0);
        let list = |key: &str| {
            cx.op()
                .attr(key)
                .and_then(Attr::as_floats)
                .unwrap_or_default()
        };
        let (coefficients, intercepts) = (list("coefficients"), list("intercepts"));
        let fits = Some(coefficients.len()) == targets.checked_mul(features)
            && (intercepts.is_empty() || intercepts.len() == targets);
        if !fits {
            return Err(cx.invalid(format!("coefficients that do not fit {features} features")));
        }
        let transform = Transform::of(cx, cx.op().str("post_transform").unwrap_or("NONE"))?;
        let out = [rows, targets];
        let mut y = Vec::with_capacity(rules::limited(&out)?);
        let x = numbers(cx)?;
        for row in 0..rows {
            let x = &x[row * features..][..features];
            let mut scores: Vec<f64> = (0..targets)
                .map(|t| {
                    let weights = &coefficients[t * features..][..features];
                    let products = x.iter().zip(weights).map(|(x, &w)| x * f64::from(w));
                    products.sum::<f64>() + intercepts.get(t).map_or(0.0, |&b| f64::from(b))
                })
                .collect();
            transform.apply(&mut scores);
            y.append(&mut scores);
        }
        Ok(vec![real_tensor(DType::F32, &out, y)?])
    }
}
