//! Attention of the standard domain: `softmax(softcap(Q K' * scale) + mask) V` for each head, with
//! several heads of Q for each of K and V, and with keys and values of the past put before K and V.
//!
//! Operands: Q, K, V (`[batch, heads, steps, size]`, or `[batch, steps, heads * size]`), mask, past
//! keys and values, and how many keys of each sequence count. A query that may see no key gives
//! zeros.

use onnxq_tensor::{DType, Dim, Shape, Tensor};

use super::heads::{Heads, flatten, heads_attr, softmax};
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{Real, broadcast_strides, real_tensor},
        rules,
    },
};

pub(super) struct ScaledAttention;

impl Operator for ScaledAttention {
    fn name(&self) -> &'static str {
        "Attention"
    }

    fn since(&self) -> &'static [i64] {
        &[23, 24, 25]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        for i in 0..cx.results() {
            cx.set_dtype(i, dtype);
        }
        if let Ok(values) = cx.dtype(2) {
            cx.set_dtype(2, values);
        }
        let heads = |key: &str| Dim::known(cx.op().int(key, 0).max(1));
        let split = |i: usize, key: &str| -> Result<[Dim; 4], Unknown> {
            Ok(match &cx.shape(i)?[..] {
                [b, h, s, d] => [b.clone(), h.clone(), s.clone(), d.clone()],
                [b, s, w] => [b.clone(), heads(key), s.clone(), w.floor_div(&heads(key))],
                other => return Err(Unknown(format!("operand {i} has rank {}", other.len()))),
            })
        };
        let [batch, q_heads, steps, _] = split(0, "q_num_heads")?;
        let [_, kv_heads, new, size] = split(1, "kv_num_heads")?;
        let [_, _, _, value_size] = split(2, "kv_num_heads")?;
        let flat = cx.shape(0)?.len() == 3;
        let past = match cx.has(4) {
            true => cx
                .shape(4)
                .ok()
                .and_then(|s| s.get(2))
                .cloned()
                .unwrap_or_default(),
            false => Dim::known(0),
        };
        let total = past + new;
        let y = match flat {
            true => Shape::from_iter([batch.clone(), steps.clone(), &q_heads * &value_size]),
            false => Shape::from_iter([
                batch.clone(),
                q_heads.clone(),
                steps.clone(),
                value_size.clone(),
            ]),
        };
        cx.set_tensor(0, dtype, y);
        let present =
            |size: Dim| Shape::from_iter([batch.clone(), kv_heads.clone(), total.clone(), size]);
        cx.set_tensor(1, dtype, present(size));
        let values = cx.dtype(2).unwrap_or(dtype);
        cx.set_tensor(2, values, present(value_size));
        let scores = Shape::from_iter([batch.clone(), q_heads, steps, total.clone()]);
        cx.set_tensor(3, dtype, scores);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let q = Heads::of(cx, 0, || heads_attr(cx, "q_num_heads"))?;
        let k = Heads::of(cx, 1, || heads_attr(cx, "kv_num_heads"))?.after(cx, cx.optional(4)?)?;
        let v = Heads::of(cx, 2, || heads_attr(cx, "kv_num_heads"))?.after(cx, cx.optional(5)?)?;
        let fits = q.size == k.size
            && k.steps == v.steps
            && k.heads == v.heads
            && q.batch == k.batch
            && q.batch == v.batch
            && k.heads > 0
            && q.heads.is_multiple_of(k.heads);
        if !fits {
            return Err(cx.invalid("queries, keys and values that do not fit together"));
        }
        let dtype = cx.tensor(0)?.dtype();
        let op = cx.op();
        let scale = match op.attr("scale").and_then(onnxq_ir::Attr::as_float) {
            Some(scale) => f64::from(scale),
            None => 1.0 / (q.size as f64).sqrt(),
        };
        let softcap = f64::from(op.float("softcap", 0.0));
        let mode = op.int("qk_matmul_output_mode", 0);
        let mask = Mask::of(cx, &q, k.steps)?;
        let dims = [q.batch, q.heads, q.steps, k.steps];
        let mut debug = vec![
            0f64;
            if cx.results() > 3 {
                rules::limited(&dims)?
            } else {
                0
            }
        ];
        let out = [q.batch, q.heads, q.steps, v.size];
        let mut y = vec![0f64; rules::limited(&out)?];
        let each = q.heads / k.heads;
        let mut scores = vec![0f64; k.steps];
        for row in 0..q.batch * q.heads * q.steps {
            let (s, h) = (row % q.steps, row / q.steps % q.heads);
            let b = row / q.steps / q.heads;
            let query = q.row(b, h, s);
            let mut seen = false;
            let mut shown = Vec::new();
            for (t, score) in scores.iter_mut().enumerate() {
                let key = k.row(b, h / each, t);
                let dot: f64 = query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() * scale;
                let capped = match softcap {
                    0.0 => dot,
                    cap => cap * (dot / cap).tanh(),
                };
                let bias = mask.at(b, h, s, t);
                seen |= bias != f64::NEG_INFINITY;
                *score = capped + bias;
                shown.push(match mode {
                    0 | 1 => capped,
                    _ => *score,
                });
            }
            if seen {
                softmax(&mut scores);
            } else {
                scores.fill(0.0);
            }
            if mode == 3 {
                shown.clone_from(&scores);
            }
            if !debug.is_empty() {
                debug[row * k.steps..][..k.steps].copy_from_slice(&shown);
            }
            let out = &mut y[row * v.size..][..v.size];
            for (t, &score) in scores.iter().enumerate().filter(|(_, s)| **s != 0.0) {
                let value = v.row(b, h / each, t);
                out.iter_mut().zip(value).for_each(|(o, x)| *o += score * x);
            }
        }
        let y = match cx.tensor(0)?.rank() {
            3 => real_tensor(
                dtype,
                &[q.batch, q.steps, q.heads * v.size],
                flatten(&y, out),
            )?,
            _ => real_tensor(dtype, &out, y)?,
        };
        let values = cx.tensor(2)?.dtype();
        let mut results = vec![y, k.tensor(dtype)?, v.tensor(values)?];
        if cx.results() > 3 {
            results.push(real_tensor(dtype, &dims, debug)?);
        }
        results.truncate(cx.results().max(1));
        Ok(results)
    }
}

/// What is added to the scores.
struct Mask {
    data: Option<Vec<f64>>,
    strides: Vec<usize>,
    /// Keys that the mask says something of.
    width: usize,
    causal: bool,
    /// Window to the left and to the right of each query, where there is one.
    window: [Option<i64>; 2],
    /// Keys before the first query, for each sequence.
    offsets: Vec<i64>,
    /// Keys that count, for each sequence.
    lengths: Option<Vec<i64>>,
}

impl Mask {
    fn of(cx: &EvalContext<'_>, q: &Heads, keys: usize) -> Result<Mask, EvalError> {
        let op = cx.op();
        let lengths = match cx.optional(6)? {
            Some(_) => Some(cx.ints(6)?),
            None => None,
        };
        if lengths.as_ref().is_some_and(|l| l.len() != q.batch) {
            return Err(cx.invalid("lengths that do not fit the sequences"));
        }
        let past = cx.optional(4)?.and_then(|t| t.dims().get(2)).copied();
        let offsets = match (&lengths, past) {
            (_, Some(past)) => vec![past as i64; q.batch],
            (Some(l), None) => l.iter().map(|n| n.saturating_sub(q.steps as i64)).collect(),
            (None, None) => vec![0; q.batch],
        };
        let side = |key| Some(op.int(key, -1)).filter(|&n| n >= 0);
        let mut mask = Mask {
            data: None,
            strides: vec![0; 4],
            width: keys,
            causal: op.int("is_causal", 0) != 0,
            window: [side("left_window_size"), side("right_window_size")],
            offsets,
            lengths,
        };
        if let Some(t) = cx.optional(3)? {
            mask.read(cx, t, q, keys)?;
        }
        Ok(mask)
    }

    fn read(
        &mut self,
        cx: &EvalContext<'_>,
        t: &Tensor,
        q: &Heads,
        keys: usize,
    ) -> Result<(), EvalError> {
        let dims = t.dims();
        let width = dims.last().copied().unwrap_or(1);
        // A mask may say nothing of the last keys, which are hidden then.
        let width = if width == 1 { keys } else { width };
        let to = [q.batch, q.heads, q.steps, width];
        let fits = dims.len() <= 4 && width <= keys && {
            let mut pairs = dims.iter().rev().zip(to.iter().rev());
            pairs.all(|(&d, &n)| d == n || d == 1)
        };
        if !fits {
            return Err(cx.invalid(format!("a mask of {dims:?}")));
        }
        self.width = width;
        self.strides = broadcast_strides(dims, &to).to_vec();
        self.data = Some(match t.dtype() {
            DType::Bool => {
                let add = |allowed: bool| if allowed { 0.0 } else { f64::NEG_INFINITY };
                t.as_bools()?.into_iter().map(add).collect()
            }
            _ => f64::read(t)?.into_owned(),
        });
        Ok(())
    }

    fn at(&self, b: usize, h: usize, s: usize, t: usize) -> f64 {
        // How far the key is before the query.
        let distance = (s as i64).saturating_add(self.offsets[b]);
        let distance = distance.saturating_sub(t as i64);
        let hidden = t >= self.width
            || (self.causal && distance < 0)
            || self.window[0].is_some_and(|n| distance > n)
            || self.window[1].is_some_and(|n| distance < -n)
            || self.lengths.as_ref().is_some_and(|l| t as i64 >= l[b]);
        match &self.data {
            _ if hidden => f64::NEG_INFINITY,
            None => 0.0,
            Some(data) => {
                let index = [b, h, s, t];
                let at = index.iter().zip(&self.strides).map(|(i, s)| i * s);
                data[at.sum::<usize>()]
            }
        }
    }
}
