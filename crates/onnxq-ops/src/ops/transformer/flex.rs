//! FlexAttention (`ai.onnx.preview`): attention whose scores and probabilities a graph may change.
//!
//! ```text
//! Y = prob_mod(softmax(score_mod(Q K' * scale))) V
//! ```
//!
//! Operands are of rank 4: `[batch, heads, steps, size]`, with several heads of Q for each of K and
//! V. Scores and probabilities are of the type `softmax_precision`.

use onnxq_ir::{Attr, Op, Type};
use onnxq_tensor::{DType, Shape};

use super::heads::softmax;
use crate::{
    EvalContext, EvalError, Fact, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{Real, expect_dims, real_tensor},
        rules,
    },
};

pub(super) struct FlexAttention;

/// The type of scores and probabilities.
fn precision(op: &Op, dtype: DType) -> DType {
    let code = op.attr("softmax_precision").and_then(Attr::as_int);
    let given = code.and_then(|c| DType::from_onnx(i32::try_from(c).ok()?));
    given.unwrap_or(match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    })
}

impl Operator for FlexAttention {
    fn domain(&self) -> &'static str {
        "ai.onnx.preview"
    }

    fn name(&self) -> &'static str {
        "FlexAttention"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let four = |i: usize| match &cx.shape(i)?[..] {
            [b, h, s, d] => Ok([b.clone(), h.clone(), s.clone(), d.clone()]),
            other => Err(Unknown(format!("operand {i} has rank {}", other.len()))),
        };
        let ([batch, heads, steps, _], [_, _, keys, _]) = (four(0)?, four(1)?);
        let [_, _, _, size] = four(2)?;
        let scores = Shape::from_iter([batch.clone(), heads.clone(), steps.clone(), keys]);
        cx.set_tensor(0, dtype, Shape::from_iter([batch, heads, steps, size]));
        let scores = Type::tensor(precision(cx.op(), dtype), Some(scores));
        for key in ["score_mod", "prob_mod"] {
            if cx.op().attr(key).is_some() {
                cx.region(key, vec![Fact::of_type(scores.clone())])?;
            }
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (q, k, v) = (cx.tensor(0)?, cx.tensor(1)?, cx.tensor(2)?);
        let (&[batch, heads, steps, size], &[_, kv_heads, keys, _], &[_, _, _, value_size]) =
            (q.dims(), k.dims(), v.dims())
        else {
            return Err(cx.invalid("operands that are not of rank 4"));
        };
        expect_dims(cx, 1, &[batch, kv_heads, keys, size])?;
        expect_dims(cx, 2, &[batch, kv_heads, keys, value_size])?;
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(cx.invalid(format!("{heads} heads of queries, {kv_heads} of keys")));
        }
        let each = heads / kv_heads;
        let dtype = q.dtype();
        let scale = match cx.op().attr("scale").and_then(Attr::as_float) {
            Some(scale) => f64::from(scale),
            None => 1.0 / (size as f64).sqrt(),
        };
        let dims = [batch, heads, steps, keys];
        let out = [batch, heads, steps, value_size];
        let mut y = vec![0.0; rules::limited(&out)?];
        let mut scores = Vec::with_capacity(rules::limited(&dims)?);
        let (q, k, v) = (f64::read(q)?, f64::read(k)?, f64::read(v)?);
        // The head of K and V for a row of Q.
        let head = |row: usize| {
            let (b, h) = (row / steps / heads, row / steps % heads);
            b * kv_heads + h / each
        };
        for row in 0..batch * heads * steps {
            let query = &q[row * size..][..size];
            let key = |t: usize| &k[(head(row) * keys + t) * size..][..size];
            let dot = |t: usize| query.iter().zip(key(t)).map(|(a, b)| a * b).sum::<f64>();
            scores.extend((0..keys).map(|t| dot(t) * scale));
        }
        let precision = precision(cx.op(), dtype);
        let scores = changed(cx, "score_mod", real_tensor(precision, &dims, scores)?)?;
        let mut scores = read(cx, &scores, &dims)?;
        for row in scores.chunks_exact_mut(keys.max(1)) {
            softmax(row);
        }
        let probabilities = changed(cx, "prob_mod", real_tensor(precision, &dims, scores)?)?;
        let probabilities = read(cx, &probabilities, &dims)?;
        for row in 0..batch * heads * steps {
            let out = &mut y[row * value_size..][..value_size];
            for t in 0..keys {
                let p = probabilities[row * keys + t];
                let value = &v[(head(row) * keys + t) * value_size..][..value_size];
                out.iter_mut().zip(value).for_each(|(o, v)| *o += p * v);
            }
        }
        Ok(vec![real_tensor(dtype, &out, y)?])
    }
}

/// `value` as the graph in attribute `key` changes it, if there is one.
fn changed(cx: &EvalContext<'_>, key: &str, value: Value) -> Result<Value, EvalError> {
    if cx.op().attr(key).is_none() {
        return Ok(value);
    }
    let mut results = cx.run_region(key, vec![value])?.into_iter();
    let first = results.next();
    first.ok_or_else(|| cx.invalid(format!("attribute '{key}' has no result")))
}

/// The numbers of a tensor that must be of these dimensions.
fn read(cx: &EvalContext<'_>, value: &Value, dims: &[usize]) -> Result<Vec<f64>, EvalError> {
    match value.as_tensor() {
        Some(t) if t.dims() == dims => Ok(f64::read(t)?.into_owned()),
        _ => Err(cx.invalid(format!("a change of scores to what is not of {dims:?}"))),
    }
}
