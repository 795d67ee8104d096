//! MultiHeadAttention of `com.microsoft`: attention over queries, keys and values that have been
//! projected, but for a bias.
//!
//! Operands: queries, keys, values (`[batch, steps, heads * size]`, the last two also `[batch,
//! heads, steps, size]`), bias of the three, mask (lengths of the sequences, or numbers for each
//! key, zero being masked), bias of the scores, keys and values of the past. What is masked gets
//! `mask_filter_value` added. Not here: operands packed into one, shared buffers.

use onnxq_ir::Attr;
use onnxq_tensor::{Dim, Shape};

use super::heads::{Bias, Heads, Scores, attend, heads_attr};
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{Real, expect_dims, real_tensor},
        quantization::MS,
    },
};

pub(super) struct MultiHeadAttention;

impl Operator for MultiHeadAttention {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "MultiHeadAttention"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        for i in 0..cx.results() {
            cx.set_dtype(i, dtype);
        }
        let heads = Dim::known(cx.op().int("num_heads", 1).max(1));
        let operand = |i: usize| cx.shape(i).ok().map(|s| s.to_vec()).unwrap_or_default();
        let (query, key, value) = (operand(0), operand(1), operand(2));
        let (batch, steps, width) = match &query[..] {
            [b, s, w] => (b.clone(), s.clone(), w.clone()),
            // Packed: heads, which of the three, size.
            [b, s, h, _, d] => (b.clone(), s.clone(), h * d),
            _ => return Err(Unknown::new("queries of another rank than 3 or 5")),
        };
        let size = width.floor_div(&heads);
        let (new, value_size) = match (&key[..], &value[..]) {
            ([_, s, _], [_, _, w]) => (s.clone(), w.floor_div(&heads)),
            ([_, _, s, _], [_, _, _, d]) => (s.clone(), d.clone()),
            ([_, s, _, _, d], _) => (s.clone(), d.clone()),
            _ if query.len() == 5 => (steps.clone(), size.clone()),
            _ => (Dim::UNKNOWN, Dim::UNKNOWN),
        };
        let past = match cx.has(6) {
            true => operand(6).get(2).cloned().unwrap_or_default(),
            false => Dim::known(0),
        };
        let y = [batch.clone(), steps.clone(), &value_size * &heads];
        cx.set_tensor(0, dtype, Shape::from_iter(y));
        let total = past + new;
        let four = |s: &Dim, d: Dim| Shape::from_iter([batch.clone(), heads.clone(), s.clone(), d]);
        cx.set_tensor(1, dtype, four(&total, size));
        cx.set_tensor(2, dtype, four(&total, value_size));
        cx.set_tensor(3, dtype, four(&steps, total.clone()));
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let packed = cx.tensor(0)?.rank() == 5 || cx.optional(2)?.is_none();
        if packed || cx.optional(8)?.is_some() || cx.optional(9)?.is_some() || cx.results() > 3 {
            return Err(cx.unsupported("packed operands, shared buffers and shown scores"));
        }
        let heads = heads_attr(cx, "num_heads")?;
        let of = |i: usize| Heads::of(cx, i, || Ok(heads));
        let (mut q, mut k, mut v) = (of(0)?, of(1)?, of(2)?);
        let widths = [&q, &k, &v].map(|x| x.heads * x.size);
        if cx.optional(3)?.is_some() {
            let bias = f64::read(expect_dims(cx, 3, &[widths.iter().sum()])?)?;
            let mut rest = &bias[..];
            for x in [&mut q, &mut k, &mut v] {
                let own;
                (own, rest) = rest.split_at(x.heads * x.size);
                add_bias(x, own);
            }
        }
        let (k, v) = (k.after(cx, cx.optional(6)?)?, v.after(cx, cx.optional(7)?)?);
        let extra = Bias::of(cx, 5, [q.batch, q.heads, q.steps, k.steps])?;
        let mask = KeyMask::of(cx, &q, k.steps)?;
        let causal = cx.op().int("unidirectional", 0) != 0;
        let past = k.steps.saturating_sub(q.steps);
        let bias = |at: [usize; 4]| match at {
            [_, _, s, t] if causal && t > past + s => f64::NEG_INFINITY,
            [b, _, s, t] => mask.at(b, s, t) + extra.as_ref().map_or(0.0, |e| e.at(at)),
        };
        let scores = Scores {
            scale: scale(cx, q.size),
            softcap: 0.0,
            sinks: None,
            bias: &bias,
        };
        let y = attend(cx, &q, &k, &v, &scores)?;
        let dtype = cx.tensor(0)?.dtype();
        let dims = [q.batch, q.steps, q.heads * v.size];
        let mut results = vec![real_tensor(dtype, &dims, y)?];
        if cx.results() > 1 {
            results.extend([k.tensor(dtype)?, v.tensor(dtype)?]);
        }
        results.truncate(cx.results().max(1));
        Ok(results)
    }
}

/// The attribute `scale`, or one over the root of the size of a head.
pub(super) fn scale(cx: &EvalContext<'_>, size: usize) -> f64 {
    match cx.op().attr("scale").and_then(Attr::as_float) {
        Some(scale) if scale != 0.0 => f64::from(scale),
        _ => 1.0 / (size as f64).sqrt(),
    }
}

/// Adds to each step a bias of all heads.
fn add_bias(x: &mut Heads, bias: &[f64]) {
    for at in 0..x.batch * x.heads * x.steps {
        let (b, h, s) = (at / x.steps / x.heads, at / x.steps % x.heads, at % x.steps);
        let own = &bias[h * x.size..][..x.size];
        x.row_mut(b, h, s)
            .iter_mut()
            .zip(own)
            .for_each(|(x, b)| *x += b);
    }
}

/// Which keys are masked, by sequence, or by sequence and query.
struct KeyMask {
    allowed: Option<Vec<bool>>,
    by_query: bool,
    steps: usize,
    keys: usize,
    filter: f64,
}

impl KeyMask {
    fn of(cx: &EvalContext<'_>, q: &Heads, keys: usize) -> Result<KeyMask, EvalError> {
        let (mut allowed, mut by_query) = (None, false);
        if let Some(t) = cx.optional(4)? {
            let values = t.to_i64s()?;
            allowed = Some(match *t.dims() {
                [n] if n == q.batch => {
                    let before = |&end: &i64| (0..keys as i64).map(move |t| t < end);
                    values.iter().flat_map(before).collect()
                }
                [n, m] if n == q.batch && m == keys => values.iter().map(|&v| v > 0).collect(),
                [n, s, m] if [n, s, m] == [q.batch, q.steps, keys] => {
                    by_query = true;
                    values.iter().map(|&v| v > 0).collect()
                }
                _ => return Err(cx.unsupported(format!("a mask of {:?}", t.dims()))),
            });
        }
        Ok(KeyMask {
            allowed,
            by_query,
            steps: q.steps,
            keys,
            filter: f64::from(cx.op().float("mask_filter_value", -10000.0)),
        })
    }

    fn at(&self, b: usize, query: usize, key: usize) -> f64 {
        let row = match self.by_query {
            true => b * self.steps + query,
            false => b,
        };
        match &self.allowed {
            Some(allowed) if !allowed[row * self.keys + key] => self.filter,
            _ => 0.0,
        }
    }
}
