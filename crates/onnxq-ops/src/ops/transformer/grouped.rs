//! GroupQueryAttention of `com.microsoft`: causal attention with a cache of keys and values, several
//! heads of queries for each of keys, and rotation of queries and keys by their position.
//!
//! Operands: queries (`[batch, steps, heads * size]`, or all three side by side), keys, values, the
//! caches (`[batch, kv heads, positions, size]`), the last position of each sequence, how many
//! positions there are in all, tables of cosines and sines, positions, bias of the scores, and a
//! score for each head that takes its share of the softmax. Not here: quantized caches, caches of
//! a window, normalization of queries and keys.

use onnxq_tensor::{Dim, Shape};

use super::{
    heads::{Bias, Heads, Scores, attend, heads_attr},
    multihead::scale,
    rotary::turn,
};
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{Real, expect_dims, real_tensor},
        quantization::MS,
        rules,
    },
};

pub(super) struct GroupQueryAttention;

impl Operator for GroupQueryAttention {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "GroupQueryAttention"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let cache = cx.dtype(3).unwrap_or(dtype);
        (1..3).for_each(|i| cx.set_dtype(i, cache));
        let heads = |key: &str| Dim::known(cx.op().int(key, 1).max(1));
        let (q_heads, kv_heads) = (heads("num_heads"), heads("kv_num_heads"));
        let [batch, steps, width] = &cx.shape(0)?[..] else {
            return Err(Unknown::new("queries that are not of rank 3"));
        };
        let size = match cx.has(1) {
            true => width.floor_div(&q_heads),
            false => width.floor_div(&(&q_heads + &kv_heads + &kv_heads)),
        };
        let y = [batch.clone(), steps.clone(), &q_heads * &size];
        cx.set_tensor(0, dtype, Shape::from_iter(y));
        let before = match cx.has(3) {
            true => cx
                .shape(3)
                .ok()
                .and_then(|s| s.get(2).cloned())
                .unwrap_or_default(),
            false => Dim::known(0),
        };
        let total = cx.value(6).ok().and_then(|v| v.elems.first().cloned());
        let positions = match total {
            Some(total) => before.max(&total),
            None if !cx.has(3) => steps.clone(),
            None => Dim::UNKNOWN,
        };
        for i in 1..3 {
            let positions = match positions.is_unknown() {
                true => cx.fresh(i, 2),
                false => positions.clone(),
            };
            let present = [batch.clone(), kv_heads.clone(), positions, size.clone()];
            cx.set_tensor(i, cache, Shape::from_iter(present));
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let op = cx.op();
        let beyond = (12..16).any(|i| cx.value(i).is_some())
            || op.int("sliding_window_cache", 0) != 0
            || op.int("qk_output", 0) != 0;
        if beyond {
            return Err(cx.unsupported("quantized caches, windows of them, normalization"));
        }
        let (mut q, mut k, v) = operands(cx)?;
        let total = usize::try_from(cx.tensor(6)?.scalar_i64()?).unwrap_or(0);
        let last = expect_dims(cx, 5, &[q.batch])?.to_i64s()?;
        // Where there is no past, sequences may be padded at the end; all begin at position 0.
        let prompt = q.steps == total;
        let before = |&last: &i64| {
            let before = last.saturating_add(1).saturating_sub(q.steps as i64);
            usize::try_from(if prompt { 0 } else { before }).ok()
        };
        let before: Option<Vec<usize>> = last.iter().map(before).collect();
        let before = before.ok_or_else(|| cx.invalid("a sequence shorter than its new steps"))?;
        if op.int("do_rotary", 0) != 0 {
            let positions = positions(cx, &q, &before, prompt)?;
            rotate(cx, &mut q, &positions)?;
            rotate(cx, &mut k, &positions)?;
        }
        let k = cached(cx, k, 3, &before, total)?;
        let v = cached(cx, v, 4, &before, total)?;
        let extra = Bias::of(cx, 10, [q.batch, q.heads, q.steps, total])?;
        let window = usize::try_from(op.int("local_window_size", -1)).ok();
        let causal = op.int("causal", 1) != 0;
        let bias = |at @ [b, _, s, t]: [usize; 4]| {
            let here = before[b] + s;
            let hidden = t >= before[b] + q.steps
                || causal && t > here
                || window.is_some_and(|w| t + w <= here);
            match hidden {
                true => f64::NEG_INFINITY,
                false => extra.as_ref().map_or(0.0, |e| e.at(at)),
            }
        };
        let sinks = match cx.optional(11)? {
            Some(_) => Some(f64::read(expect_dims(cx, 11, &[q.heads])?)?.into_owned()),
            None if op.int("smooth_softmax", 0) > 0 => Some(vec![0.0; q.heads]),
            None => None,
        };
        let scores = Scores {
            scale: scale(cx, q.size),
            softcap: f64::from(op.float("softcap", 0.0)),
            sinks: sinks.as_deref(),
            bias: &bias,
        };
        let y = attend(cx, &q, &k, &v, &scores)?;
        let dtype = cx.tensor(0)?.dtype();
        let dims = [q.batch, q.steps, q.heads * v.size];
        let mut results = vec![
            real_tensor(dtype, &dims, y)?,
            k.tensor(dtype)?,
            v.tensor(dtype)?,
        ];
        results.truncate(cx.results().max(1));
        Ok(results)
    }
}

/// Queries, keys and values.
fn operands(cx: &EvalContext<'_>) -> Result<(Heads, Heads, Heads), EvalError> {
    let (q_heads, kv_heads) = (
        heads_attr(cx, "num_heads")?,
        heads_attr(cx, "kv_num_heads")?,
    );
    let packed = cx.tensor(0)?;
    let &[batch, steps, width] = packed.dims() else {
        return Err(cx.invalid(format!("queries of {:?}", packed.dims())));
    };
    if cx.optional(1)?.is_some() {
        let of = |i: usize, heads: usize| Heads::of(cx, i, || Ok(heads));
        return Ok((of(0, q_heads)?, of(1, kv_heads)?, of(2, kv_heads)?));
    }
    let all = q_heads + 2 * kv_heads;
    if !width.is_multiple_of(all) {
        return Err(cx.invalid(format!("{all} heads in {width} elements")));
    }
    let size = width / all;
    let data = f64::read(packed)?;
    let part = |from: usize, heads: usize| {
        let rows = data.chunks_exact(width.max(1));
        let part: Vec<f64> = rows
            .flat_map(|r| r[from * size..][..heads * size].to_vec())
            .collect();
        Heads::split(cx, [batch, steps, heads * size], heads, &part)
    };
    let (k, v) = (q_heads, q_heads + kv_heads);
    Ok((part(0, q_heads)?, part(k, kv_heads)?, part(v, kv_heads)?))
}

/// The position of each step of each sequence.
fn positions(
    cx: &EvalContext<'_>,
    q: &Heads,
    before: &[usize],
    prompt: bool,
) -> Result<Vec<usize>, EvalError> {
    let given = match cx.optional(9)? {
        Some(_) => Some(expect_dims(cx, 9, &[q.batch, q.steps])?.to_i64s()?),
        None => None,
    };
    let wrong = || cx.invalid("a position that is negative");
    let position = |i: usize| {
        let counted = before[i / q.steps] + i % q.steps;
        match &given {
            // Of a prompt only the first position is looked at.
            Some(given) if prompt => {
                let first = usize::try_from(given[0]).map_err(|_| wrong())?;
                Ok(first.saturating_add(i % q.steps))
            }
            Some(given) => usize::try_from(given[i]).map_err(|_| wrong()),
            None => Ok(counted),
        }
    };
    (0..q.batch * q.steps).map(position).collect()
}

/// Turns every step by the angles of its position.
fn rotate(cx: &EvalContext<'_>, x: &mut Heads, positions: &[usize]) -> Result<(), EvalError> {
    let (cos, sin) = (cx.tensor(7)?, cx.tensor(8)?);
    let half = match *cos.dims() {
        [_, half] if 2 * half <= x.size && cos.dims() == sin.dims() => half,
        _ => return Err(cx.invalid(format!("tables of {:?}, {:?}", cos.dims(), sin.dims()))),
    };
    let (cos, sin) = (f64::read(cos)?, f64::read(sin)?);
    let interleaved = cx.op().int("rotary_interleaved", 0) != 0;
    for (place, &position) in positions.iter().enumerate() {
        let from = position.saturating_mul(half);
        let table = from..from.saturating_add(half);
        let (Some(cos), Some(sin)) = (cos.get(table.clone()), sin.get(table)) else {
            return Err(cx.invalid(format!("position {position} is not in the tables")));
        };
        for h in 0..x.heads {
            turn(
                x.row_mut(place / x.steps, h, place % x.steps),
                cos,
                sin,
                interleaved,
            );
        }
    }
    Ok(())
}

/// The cache that is operand `i` with the new steps written behind those that it has.
fn cached(
    cx: &EvalContext<'_>,
    new: Heads,
    i: usize,
    before: &[usize],
    total: usize,
) -> Result<Heads, EvalError> {
    let past = cx.optional(i)?;
    let room = match past.map(|t| t.dims()) {
        None => 0,
        Some(&[b, h, room, d]) if [b, h, d] == [new.batch, new.heads, new.size] => room,
        Some(dims) => return Err(cx.invalid(format!("a cache of {dims:?}"))),
    };
    let steps = room.max(total);
    let fits = before.iter().all(|&b| b <= room && b + new.steps <= steps);
    if !fits {
        return Err(cx.invalid(format!("sequences that do not fit a cache of {steps}")));
    }
    let dims = [new.batch, new.heads, steps, new.size];
    let mut data = vec![0.0; rules::limited(&dims)?];
    let past = match past {
        Some(t) => f64::read(t)?,
        None => Default::default(),
    };
    let size = new.size;
    for row in 0..new.batch * new.heads {
        let kept = before[row / new.heads];
        let out = &mut data[row * steps * size..][..steps * size];
        out[..kept * size].copy_from_slice(&past[row * room * size..][..kept * size]);
        let written = &new.data[row * new.steps * size..][..new.steps * size];
        out[kept * size..][..new.steps * size].copy_from_slice(written);
    }
    Ok(Heads { steps, data, ..new })
}
