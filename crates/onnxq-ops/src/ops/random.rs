//! Random tensors, drawn from a [`Twister`] with the seed that the node has, or 0: a run gives the
//! same every time. They are evaluated in runs only: what is random is no constant.

use onnxq_ir::{self as ir, Attr};
use onnxq_tensor::{DType, Dim, Tensor};

use super::rules;
use crate::{EvalContext, EvalError, InferContext, Operator, Unknown, Value};

mod twister;

pub(super) use twister::Twister;

/// Where the shape comes from.
enum Source {
    /// The attribute `shape`.
    Attribute,
    /// Operand 0.
    Operand,
    /// Operand 0, with `sample_size` as its second dimension.
    Samples,
}

/// What is drawn.
enum Draw {
    Normal,
    Uniform,
    /// One with the probability that the operand has there.
    Bernoulli,
    /// Classes, with probabilities of which the operand has the logarithms.
    Multinomial,
}

struct Random {
    draw: Draw,
    name: &'static str,
    since: &'static [i64],
    source: Source,
    /// The element type where no attribute says; `None` is that of operand 0.
    default: Option<DType>,
}

#[rustfmt::skip]
pub(super) static OPERATORS: &[&dyn Operator] = &[
    &Random { draw: Draw::Normal, name: "RandomNormal", since: &[1, 22], source: Source::Attribute, default: Some(DType::F32) },
    &Random { draw: Draw::Uniform, name: "RandomUniform", since: &[1, 22], source: Source::Attribute, default: Some(DType::F32) },
    &Random { draw: Draw::Normal, name: "RandomNormalLike", since: &[1, 22], source: Source::Operand, default: None },
    &Random { draw: Draw::Uniform, name: "RandomUniformLike", since: &[1, 22], source: Source::Operand, default: None },
    &Random { draw: Draw::Bernoulli, name: "Bernoulli", since: &[15, 22], source: Source::Operand, default: None },
    &Random { draw: Draw::Multinomial, name: "Multinomial", since: &[7, 22], source: Source::Samples, default: Some(DType::I32) },
];

impl Random {
    fn dtype(&self, op: &ir::Op) -> Option<DType> {
        let code = op.attr("dtype").and_then(Attr::as_int);
        match code {
            Some(code) => DType::from_onnx(i32::try_from(code).ok()?),
            None => self.default,
        }
    }
}

impl Operator for Random {
    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        self.since
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = match self.dtype(cx.op()) {
            Some(dtype) => dtype,
            None => cx.dtype(0)?,
        };
        cx.set_dtype(0, dtype);
        let shape = match self.source {
            Source::Attribute => {
                let dims = cx.op().ints("shape").unwrap_or_default();
                dims.iter().map(|&d| Dim::known(d)).collect()
            }
            Source::Operand => cx.shape(0)?.clone(),
            Source::Samples => {
                let samples = Dim::known(cx.op().int("sample_size", 1));
                let batch = cx.shape(0)?.first().cloned().unwrap_or_default();
                [batch, samples].into_iter().collect()
            }
        };
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let op = cx.op();
        let mut source = source(cx, op.float("seed", 0.0))?;
        let dtype = match self.dtype(op) {
            Some(dtype) => dtype,
            None => cx.tensor(0)?.dtype(),
        };
        let dims: Vec<usize> = match self.source {
            Source::Attribute => {
                let dims = op.ints("shape").unwrap_or_default().iter();
                let dims: Option<_> = dims.map(|&d| usize::try_from(d).ok()).collect();
                dims.ok_or_else(|| cx.invalid("attribute 'shape' is no shape"))?
            }
            Source::Operand => cx.tensor(0)?.dims().to_vec(),
            Source::Samples => match *cx.tensor(0)?.dims() {
                [rows, _] => vec![rows, usize::try_from(op.int("sample_size", 1)).unwrap_or(0)],
                _ => return Err(cx.invalid("logarithms that are not of rank 2")),
            },
        };
        let count = rules::limited(&dims)?;
        let number = |key, default| f64::from(op.float(key, default));
        let drawn: Vec<f64> = match self.draw {
            Draw::Normal => {
                let (mean, scale) = (number("mean", 0.0), number("scale", 1.0));
                (0..count).map(|_| mean + scale * source.normal()).collect()
            }
            Draw::Uniform => {
                let (low, high) = (number("low", 0.0), number("high", 1.0));
                (0..count)
                    .map(|_| low + (high - low) * source.uniform())
                    .collect()
            }
            Draw::Bernoulli => {
                let p = cx.tensor(0)?.to_f64s()?;
                let one = |p: &f64| f64::from(u8::from(source.uniform() < *p));
                p.iter().map(one).collect()
            }
            Draw::Multinomial => {
                let logs = cx.tensor(0)?.to_f64s()?;
                let classes = cx.tensor(0)?.dims()[1].max(1);
                let class = |i: usize| {
                    let row = &logs[i / dims[1] * classes..][..classes];
                    of_logs(row, source.uniform()) as f64
                };
                (0..if logs.is_empty() { 0 } else { count })
                    .map(class)
                    .collect()
            }
        };
        let t = Tensor::from_vec(dims.as_slice(), drawn)?;
        Ok(vec![t.cast(dtype, true)?.into()])
    }
}

/// The source of random numbers of a node, in a run.
pub(super) fn source(cx: &EvalContext<'_>, seed: f32) -> Result<Twister, EvalError> {
    match cx.is_run() {
        true => Ok(Twister::new(seed as u32)),
        false => Err(cx.unsupported("folding")),
    }
}

/// The class at which probabilities, of which `logs` are the logarithms, add up to more than `part`
/// of their sum.
fn of_logs(logs: &[f64], part: f64) -> usize {
    let max = logs.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x));
    let sum: f64 = logs.iter().map(|x| (x - max).exp()).sum();
    let mut left = part * sum;
    for (class, log) in logs.iter().enumerate() {
        left -= (log - max).exp();
        if left < 0.0 {
            return class;
        }
    }
    logs.len().saturating_sub(1)
}
