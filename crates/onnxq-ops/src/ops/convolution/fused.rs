//! FusedConv of `com.microsoft`: `activation(Conv(X, W, B) + Z)`.

use onnxq_ir::{Attr, Op};

use super::conv::Conv;
use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, Value,
    ops::{
        numeric::{Real, expect_dims, real_tensor, with_real},
        quantization::MS,
    },
};

pub(super) struct FusedConv;

impl Operator for FusedConv {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "FusedConv"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        Conv.infer(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let y = Conv.eval(cx)?;
        let y = y.first().and_then(Value::as_tensor);
        let y = y.ok_or_else(|| cx.invalid("a convolution without a result"))?;
        let activation = activation(cx)?;
        with_real!(cx, y.dtype(), T => {
            let mut values = T::read(y)?.into_owned();
            if cx.optional(3)?.is_some() {
                let z = T::read(expect_dims(cx, 3, y.dims())?)?;
                values.iter_mut().zip(z.iter()).for_each(|(y, &z)| *y += z);
            }
            values.iter_mut().for_each(|y| *y = T::of(activation(y.wide())));
            Ok(vec![real_tensor(y.dtype(), y.dims(), values)?])
        })
    }

    fn quant(&self, op: &Op) -> QuantRole {
        Conv.quant(op)
    }
}

/// The function that attribute `activation` names.
fn activation(cx: &EvalContext<'_>) -> Result<Box<dyn Fn(f64) -> f64>, EvalError> {
    let parameters = cx.op().attr("activation_params").and_then(Attr::as_floats);
    let parameters = parameters.unwrap_or_default();
    let parameter = |i: usize| match parameters.get(i) {
        Some(&p) => Ok(f64::from(p)),
        None => Err(cx.invalid("attribute 'activation_params' is too short")),
    };
    Ok(match cx.op().str("activation").unwrap_or_default() {
        "" => Box::new(|x| x),
        "Relu" => Box::new(|x: f64| if x < 0.0 { 0.0 } else { x }),
        "Tanh" => Box::new(f64::tanh),
        "Sigmoid" => Box::new(|x: f64| 1.0 / (1.0 + (-x).exp())),
        "LeakyRelu" => {
            let alpha = parameter(0)?;
            Box::new(move |x| if x < 0.0 { alpha * x } else { x })
        }
        "Clip" => {
            let (low, high) = (parameter(0)?, parameter(1)?);
            Box::new(move |x: f64| x.max(low).min(high))
        }
        "HardSigmoid" => {
            let (alpha, beta) = (parameter(0)?, parameter(1)?);
            Box::new(move |x| (alpha * x + beta).clamp(0.0, 1.0))
        }
        other => return Err(cx.unsupported(format!("activation '{other}'"))),
    })
}
