//! Attention and QAttention of `com.microsoft`: the projection of one operand to queries, keys and
//! values, and softmax attention over them.
//!
//! A mask may give the length of each sequence, or a number for each key (or for each query and
//! key), zero being masked. What is masked gets `mask_filter_value` added. Not here: past states.

use onnxq_tensor::{DType, Tensor};

use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, Value,
    ops::{
        matmul::Stacks,
        numeric::{Real, expect_dims, real_tensor},
        quantization::{
            MS,
            arith::{centered, exact_i32, scalar},
        },
        rules,
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
        infer_attention(cx, dtype)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        if cx.optional(4)?.is_some() || cx.results() > 1 {
            return Err(cx.unsupported("past states"));
        }
        let (x, w) = (cx.tensor(0)?, cx.tensor(1)?);
        let plan = projection(cx, x, w)?;
        let (x, w) = (f32::read(x)?, f32::read(w)?);
        let projected = plan.multiply(&x, &w, 1.0);
        attend(cx, &plan, projected, 3, Some(5))
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
        infer_attention(cx, dtype)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        if cx.optional(8)?.is_some() || cx.results() > 1 {
            return Err(cx.unsupported("past states"));
        }
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
        attend(cx, &plan, projected, 5, None)
    }
}

fn infer_attention(cx: &mut InferContext<'_>, dtype: DType) -> Result<(), Unknown> {
    cx.set_dtype(0, dtype);
    let mut shape = cx.shape(0)?.clone();
    let width = match cx.op().ints("qkv_hidden_sizes") {
        Some(&[_, _, v]) => v.into(),
        _ => {
            let columns = cx.shape(1)?.last().cloned().unwrap_or_default();
            columns.floor_div(&3.into())
        }
    };
    match shape.last_mut() {
        Some(last) if cx.len() > 1 => *last = width,
        _ => return Err(Unknown::new("an operand of rank 0")),
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

/// Attention over what was projected, to which the bias (operand 2) is still to be added.
fn attend(
    cx: &EvalContext<'_>,
    plan: &Stacks,
    mut projected: Vec<f32>,
    mask: usize,
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
    let heads = usize::try_from(cx.op().int("num_heads", 0)).unwrap_or(0);
    let sizes: Vec<usize> = match cx.op().ints("qkv_hidden_sizes") {
        Some(sizes) => sizes
            .iter()
            .map(|&n| usize::try_from(n).unwrap_or(0))
            .collect(),
        None => vec![columns / 3; 3],
    };
    let fits = |n: usize| heads > 0 && n > 0 && n.is_multiple_of(heads);
    let &[q, k, v] = &sizes[..] else {
        return Err(cx.invalid("attribute 'qkv_hidden_sizes' has not three entries"));
    };
    let total = q.checked_add(k).and_then(|n| n.checked_add(v));
    if total != Some(columns) || q != k || !fits(q) || !fits(v) {
        return Err(cx.invalid(format!("{heads} heads of {sizes:?} in {columns} columns")));
    }
    if cx.op().int("do_rotary", 0) != 0 {
        return Err(cx.unsupported("rotation"));
    }
    let (size, value_size) = (q / heads, v / heads);
    let scale = match cx.op().float("scale", 0.0) {
        0.0 => 1.0 / (size as f32).sqrt(),
        scale => scale,
    };
    let masks = Mask::of(cx, mask, batch, steps)?;
    let extra = match scores_bias {
        Some(i) => cx
            .optional(i)?
            .map(|t| Bias::of(cx, t, batch, heads, steps))
            .transpose()?,
        None => None,
    };
    let dims = [batch, steps, v];
    rules::limited(&[batch, heads, steps, steps])?;
    let mut y = vec![0f32; rules::limited(&dims)?];
    let row = |b: usize, s: usize| &projected[(b * steps + s) * columns..][..columns];
    let mut scores = vec![0f32; steps];
    for b in 0..batch {
        for h in 0..heads {
            for s in 0..steps {
                let query = &row(b, s)[h * size..][..size];
                for (t, score) in scores.iter_mut().enumerate() {
                    let key = &row(b, t)[q + h * size..][..size];
                    let dot: f32 = query.iter().zip(key).map(|(a, b)| a * b).sum();
                    *score = dot * scale + masks.at(b, s, t);
                    if let Some(extra) = &extra {
                        *score += extra.at(b, h, s, t);
                    }
                }
                softmax(&mut scores);
                let out = &mut y[(b * steps + s) * v + h * value_size..][..value_size];
                for (t, score) in scores.iter().enumerate() {
                    let value = &row(b, t)[q + k + h * value_size..][..value_size];
                    out.iter_mut().zip(value).for_each(|(o, x)| *o += score * x);
                }
            }
        }
    }
    let dtype = match cx.tensor(0)?.dtype() {
        d if d.is_float() => d,
        _ => DType::F32,
    };
    Ok(vec![real_tensor(dtype, &dims, y)?])
}

fn softmax(row: &mut [f32]) {
    let max = row.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
    row.iter_mut().for_each(|x| *x = (*x - max).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|x| *x /= sum);
}

/// What is added to the scores of what is masked.
struct Mask {
    /// For each sequence, query (where they differ) and key.
    allowed: Option<Vec<bool>>,
    by_query: bool,
    steps: usize,
    causal: bool,
    filter: f32,
}

impl Mask {
    fn of(cx: &EvalContext<'_>, i: usize, batch: usize, steps: usize) -> Result<Mask, EvalError> {
        let (mut allowed, mut by_query) = (None, false);
        if let Some(t) = cx.optional(i)? {
            let values = t.to_i64s()?;
            allowed = Some(match *t.dims() {
                [n] if n == batch => {
                    let before = |&end: &i64| (0..steps as i64).map(move |t| t < end);
                    values.iter().flat_map(before).collect()
                }
                // Ends, then beginnings.
                [n] if n == 2 * batch => {
                    let (ends, starts) = values.split_at(batch);
                    let between = |(&end, &start): (&i64, &i64)| {
                        (0..steps as i64).map(move |t| start <= t && t < end)
                    };
                    ends.iter().zip(starts).flat_map(between).collect()
                }
                [n, m] if n == batch && m == steps => values.iter().map(|&v| v > 0).collect(),
                [n, m, k] if n == batch && m == steps && k == steps => {
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
            causal: cx.op().int("unidirectional", 0) != 0,
            filter: cx.op().float("mask_filter_value", -10000.0),
        })
    }

    fn at(&self, b: usize, query: usize, key: usize) -> f32 {
        if self.causal && key > query {
            return f32::MIN;
        }
        let row = if self.by_query {
            b * self.steps + query
        } else {
            b
        };
        match &self.allowed {
            Some(allowed) if !allowed[row * self.steps + key] => self.filter,
            _ => 0.0,
        }
    }
}

/// A bias of the scores, `[batch or 1, heads or 1, steps, steps]`.
struct Bias {
    data: Vec<f32>,
    dims: [usize; 4],
}

impl Bias {
    fn of(
        cx: &EvalContext<'_>,
        t: &Tensor,
        batch: usize,
        heads: usize,
        steps: usize,
    ) -> Result<Bias, EvalError> {
        match *t.dims() {
            [b, h, s, k]
                if (b == batch || b == 1) && (h == heads || h == 1) && s == steps && k == steps =>
            {
                Ok(Bias {
                    data: f32::read(t)?.into_owned(),
                    dims: [b, h, s, k],
                })
            }
            _ => Err(cx.invalid(format!("a bias of {:?}", t.dims()))),
        }
    }

    fn at(&self, b: usize, h: usize, s: usize, k: usize) -> f32 {
        let [batch, heads, steps, keys] = self.dims;
        let (b, h) = (b % batch, h % heads);
        self.data[((b * heads + h) * steps + s) * keys + k]
    }
}
