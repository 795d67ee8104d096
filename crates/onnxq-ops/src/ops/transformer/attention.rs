//! Attention and QAttention of `com.microsoft`: the projection of one operand to queries, keys and
//! values, and softmax attention over them.
//!
//! A mask may give the length of each sequence, or a number for each key (or for each query and
//! key), zero being masked. What is masked gets `mask_filter_value` added. Keys and values of the
//! past (`[2, batch, heads, steps, size]`) come before those that are projected; the second result
//! is both. Not here: buffers shared by past and present.

use onnxq_tensor::{DType, Dim, Tensor};

use super::{
    heads::{self, Bias, Heads, Scores, heads_attr},
    multihead::scale,
};
use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, Value,
    ops::{
        matmul::Stacks,
        numeric::{Real, expect_dims, real_tensor},
        quantization::{
            MS,
            arith::{centered, exact_i32, scalar},
        },
    },
};

/// Operands: input, weights, bias, mask, past, a bias of the scores.
pub(super) struct Attention;

/// Operands: input, weights, bias, scales of input and weights, mask, their zero points, past.
pub(super) struct QAttention;

impl Operator for Attention {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "Attention"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        infer_attention(cx, dtype, 4)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, w) = (cx.tensor(0)?, cx.tensor(1)?);
        let plan = projection(cx, x, w)?;
        let (x, w) = (f32::read(x)?, f32::read(w)?);
        let projected = plan.multiply(&x, &w, 1.0);
        attend(cx, &plan, projected, [3, 4], Some(5))
    }

    fn quant(&self, _op: &onnxq_ir::Op) -> QuantRole {
        QuantRole::Affine {
            activation: 0,
            weight: 1,
            bias: Some(2),
            channel_axis: 1,
        }
    }
}

impl Operator for QAttention {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "QAttention"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(3).unwrap_or(DType::F32);
        infer_attention(cx, dtype, 8)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, w) = (cx.tensor(0)?, cx.tensor(1)?);
        let plan = projection(cx, x, w)?;
        let left = centered(x, cx.optional(6)?, None)?;
        let right = centered(w, cx.optional(7)?, Some(1))?;
        let (sx, sw) = (scalar(cx, 3)?, f32::read(cx.tensor(4)?)?);
        if sw.len() != 1 && sw.len() != plan.columns {
            return Err(cx.invalid(format!("{} scales, {} columns", sw.len(), plan.columns)));
        }
        let sums = plan.multiply(&left, &right, 1.0);
        let real = |(i, sum): (usize, f64)| {
            let sw = sw[if sw.len() == 1 { 0 } else { i % plan.columns }];
            exact_i32(sum) as f32 * (sx * sw)
        };
        let projected = sums.into_iter().enumerate().map(real).collect();
        attend(cx, &plan, projected, [5, 8], None)
    }
}

fn infer_attention(cx: &mut InferContext<'_>, dtype: DType, past: usize) -> Result<(), Unknown> {
    cx.set_dtype(0, dtype);
    cx.set_dtype(1, dtype);
    let mut shape = cx.shape(0)?.clone();
    let width = match cx.op().ints("qkv_hidden_sizes") {
        Some(&[_, _, v]) => v.into(),
        _ => {
            let columns = cx.shape(1)?.last().cloned().unwrap_or_default();
            columns.floor_div(&3.into())
        }
    };
    match shape.last_mut() {
        Some(last) if cx.len() > 1 => *last = width.clone(),
        _ => return Err(Unknown::new("an operand of rank 0")),
    }
    let heads = Dim::known(cx.op().int("num_heads", 1).max(1));
    let before = match cx.has(past) {
        true => cx.shape(past).ok().and_then(|s| s.get(3).cloned()),
        false => Some(Dim::known(0)),
    };
    if let [batch, steps, _] = &shape[..] {
        let total = before.unwrap_or_default() + steps;
        let size = width.floor_div(&heads);
        let present = [Dim::known(2), batch.clone(), heads, total, size];
        cx.set_tensor(1, dtype, present.into_iter().collect());
    }
    cx.set_tensor(0, dtype, shape);
    Ok(())
}

/// The product of input and weights.
fn projection(cx: &EvalContext<'_>, x: &Tensor, w: &Tensor) -> Result<Stacks, EvalError> {
    if x.rank() != 3 || w.rank() != 2 {
        return Err(cx.invalid(format!("{:?} times {:?}", x.dims(), w.dims())));
    }
    Stacks::of(x.dims(), w.dims(), false, false)
}

/// Attention over what was projected, to which the bias (operand 2) is still to be added; `mask` and
/// `past` are operands.
fn attend(
    cx: &EvalContext<'_>,
    plan: &Stacks,
    mut projected: Vec<f32>,
    [mask, past]: [usize; 2],
    scores_bias: Option<usize>,
) -> Result<Vec<Value>, EvalError> {
    let (batch, steps, columns) = (plan.dims[0], plan.dims[1], plan.columns);
    if cx.optional(2)?.is_some() {
        let bias = f32::read(expect_dims(cx, 2, &[columns])?)?;
        projected
            .iter_mut()
            .enumerate()
            .for_each(|(i, p)| *p += bias[i % columns]);
    }
    let heads = heads_attr(cx, "num_heads")?;
    let sizes: Vec<usize> = match cx.op().ints("qkv_hidden_sizes") {
        Some(sizes) => sizes
            .iter()
            .map(|&n| usize::try_from(n).unwrap_or(0))
            .collect(),
        None => vec![columns / 3; 3],
    };
    let fits = |n: usize| n > 0 && n.is_multiple_of(heads);
    let &[q, k, v] = &sizes[..] else {
        return Err(cx.invalid("attribute 'qkv_hidden_sizes' has not three entries"));
    };
    let total = q.checked_add(k).and_then(|n| n.checked_add(v));
    if total != Some(columns) || q != k || !fits(q) || !fits(v) {
        return Err(cx.invalid(format!("{heads} heads of {sizes:?} in {columns} columns")));
    }
    if cx.op().int("do_rotary", 0) != 0 || cx.op().int("past_present_share_buffer", 0) != 0 {
        return Err(cx.unsupported("rotation and shared buffers"));
    }
    let part = |from: usize, width: usize| {
        let rows = projected.chunks_exact(columns);
        let part = rows.flat_map(|row| row[from..from + width].iter().map(|&x| f64::from(x)));
        Heads::split(cx, [batch, steps, width], heads, &part.collect::<Vec<_>>())
    };
    let [before_k, before_v] = past_states(cx, past)?;
    let query = part(0, q)?;
    let keys = part(q, k)?.after(cx, before_k.as_ref())?;
    let values = part(q + k, v)?.after(cx, before_v.as_ref())?;
    let masks = Mask::of(cx, mask, [batch, steps, keys.steps])?;
    let extra = match scores_bias {
        Some(i) => Bias::of(cx, i, [batch, heads, steps, keys.steps])?,
        None => None,
    };
    let bias = |at @ [b, _, s, t]: [usize; 4]| {
        masks.at(b, s, t) + extra.as_ref().map_or(0.0, |e| e.at(at))
    };
    let scores = Scores {
        scale: scale(cx, query.size),
        softcap: 0.0,
        sinks: None,
        bias: &bias,
    };
    let y = heads::attend(cx, &query, &keys, &values, &scores)?;
    let dtype = match cx.tensor(0)?.dtype() {
        d if d.is_float() => d,
        _ => DType::F32,
    };
    let mut results = vec![real_tensor(dtype, &[batch, steps, v], y)?];
    if cx.results() > 1 {
        let [b, h, s, d] = keys.dims();
        if values.dims() != keys.dims() {
            return Err(cx.invalid("keys and values of different sizes as one state"));
        }
        let both = [keys.data, values.data].concat();
        results.push(real_tensor(dtype, &[2, b, h, s, d], both)?);
    }
    Ok(results)
}

/// Keys and values of the past that operand `i` has, one after the other.
fn past_states(cx: &EvalContext<'_>, i: usize) -> Result<[Option<Tensor>; 2], EvalError> {
    let Some(past) = cx.optional(i)? else {
        return Ok([None, None]);
    };
    if past.rank() != 5 || past.dims()[0] != 2 {
        return Err(cx.invalid(format!("a past of {:?}", past.dims())));
    }
    let part = |n: usize| past.rows(n..n + 1)?.reshape(&past.dims()[1..]);
    Ok([Some(part(0)?), Some(part(1)?)])
}

/// What is added to the scores of what is masked.
struct Mask {
    /// For each sequence, query (where they differ) and key.
    allowed: Option<Vec<bool>>,
    by_query: bool,
    steps: usize,
    keys: usize,
    causal: bool,
    filter: f64,
}

impl Mask {
    fn of(
        cx: &EvalContext<'_>,
        i: usize,
        [batch, steps, keys]: [usize; 3],
    ) -> Result<Mask, EvalError> {
        let (mut allowed, mut by_query) = (None, false);
        if let Some(t) = cx.optional(i)? {
            let values = t.to_i64s()?;
            allowed = Some(match *t.dims() {
                [n] if n == batch => {
                    let before = |&end: &i64| (0..keys as i64).map(move |t| t < end);
                    values.iter().flat_map(before).collect()
                }
                // Ends, then beginnings.
                [n] if n == 2 * batch => {
                    let (ends, starts) = values.split_at(batch);
                    let between = |(&end, &start): (&i64, &i64)| {
                        (0..keys as i64).map(move |t| start <= t && t < end)
                    };
                    ends.iter().zip(starts).flat_map(between).collect()
                }
                [n, k] if [n, k] == [batch, keys] => values.iter().map(|&v| v > 0).collect(),
                [n, s, k] if [n, s, k] == [batch, steps, keys] => {
                    by_query = true;
                    values.iter().map(|&v| v > 0).collect()
                }
                _ => return Err(cx.unsupported(format!("a mask of {:?}", t.dims()))),
            });
        }
        Ok(Mask {
            allowed,
            by_query,
            steps,
            keys,
            causal: cx.op().int("unidirectional", 0) != 0,
            filter: f64::from(cx.op().float("mask_filter_value", -10000.0)),
        })
    }

    fn at(&self, b: usize, query: usize, key: usize) -> f64 {
        // The queries are the last of the positions.
        if self.causal && key > query + (self.keys - self.steps) {
            return f64::NEG_INFINITY;
        }
        let row = if self.by_query {
            b * self.steps + query
        } else {
            b
        };
        match &self.allowed {
            Some(allowed) if !allowed[row * self.keys + key] => self.filter,
            _ => 0.0,
        }
    }
}
