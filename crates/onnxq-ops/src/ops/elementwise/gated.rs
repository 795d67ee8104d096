//! Activations with a second operand: a bias that is added before, or what the activation gates.

use onnxq_ir as ir;

use super::activation::{gelu, gelu_tanh};
use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, Value,
    ops::{
        numeric::{Real, real_tensor, same_type, with_real},
        quantization::MS,
    },
};

/// A function of two numbers, computed in `f64`. Operand 1 has the last dimensions of operand 0,
/// and is repeated along the others.
struct Gated {
    domain: &'static str,
    name: &'static str,
    since: &'static [i64],
    /// What operand 1 is where it may be left out.
    default: Option<f64>,
    function: fn(&ir::Op, f64, f64) -> f64,
}

pub(crate) static OPERATORS: &[&dyn Operator] = &[
    &Gated {
        domain: "",
        name: "SwiGLU",
        since: &[28],
        default: None,
        function: |op, a, b| {
            let alpha = f64::from(op.float("alpha", 1.0));
            a / (1.0 + (-alpha * a).exp()) * b
        },
    },
    &Gated {
        domain: MS,
        name: "BiasGelu",
        since: &[1],
        default: None,
        function: |_, x, bias| gelu(x + bias),
    },
    &Gated {
        domain: MS,
        name: "FastGelu",
        since: &[1],
        default: Some(0.0),
        function: |_, x, bias| gelu_tanh(x + bias),
    },
];

impl Operator for Gated {
    fn domain(&self) -> &'static str {
        self.domain
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        self.since
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_type(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let second = match (cx.optional(1)?, self.default) {
            (Some(t), _) if x.dims().ends_with(t.dims()) => f64::read(t)?.into_owned(),
            (None, Some(default)) => vec![default],
            (None, None) => return Err(EvalError::Missing { index: 1 }),
            (Some(t), _) => {
                return Err(cx.invalid(format!("{:?} beside {:?}", t.dims(), x.dims())));
            }
        };
        with_real!(cx, x.dtype(), T => {
            let each = |(i, &v): (usize, &T)| {
                T::of((self.function)(cx.op(), v.wide(), second[i % second.len()]))
            };
            let y = T::read(x)?.iter().enumerate().map(each).collect();
            Ok(vec![real_tensor(x.dtype(), x.dims(), y)?])
        })
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::Elementwise
    }
}
