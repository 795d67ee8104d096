//! Queries, keys and values by heads, and softmax attention over them, in `f64`.

use onnxq_tensor::{DType, Tensor};

use crate::{
    EvalContext, EvalError, Value,
    ops::{
        numeric::{Real, real_tensor},
        rules,
    },
};

/// The number of heads in attribute `key`.
pub(super) fn heads_attr(cx: &EvalContext<'_>, key: &str) -> Result<usize, EvalError> {
    let heads = usize::try_from(cx.op().int(key, 0)).unwrap_or(0);
    match heads {
        0 => Err(cx.invalid(format!("attribute '{key}' is no number of heads"))),
        heads => Ok(heads),
    }
}

/// The softmax of a row.
pub(super) fn softmax(row: &mut [f64]) {
    softmax_beside(row, f64::NEG_INFINITY);
}

/// The softmax of a row and one more score, which gets its share and is not there any more.
fn softmax_beside(row: &mut [f64], sink: f64) {
    let max = row.iter().fold(sink, |m, &x| m.max(x));
    row.iter_mut().for_each(|x| *x = (*x - max).exp());
    let sum: f64 = row.iter().sum::<f64>() + (sink - max).exp();
    row.iter_mut().for_each(|x| *x /= sum);
}

/// `[batch, heads, steps, size]` as `[batch, steps, heads * size]`.
pub(super) fn flatten(y: &[f64], [batch, heads, steps, size]: [usize; 4]) -> Vec<f64> {
    let mut flat = Vec::with_capacity(y.len());
    for b in 0..batch {
        for s in 0..steps {
            for h in 0..heads {
                flat.extend_from_slice(&y[((b * heads + h) * steps + s) * size..][..size]);
            }
        }
    }
    flat
}

/// An operand by heads: `[batch, heads, steps, size]`.
pub(super) struct Heads {
    pub(super) batch: usize,
    pub(super) heads: usize,
    pub(super) steps: usize,
    pub(super) size: usize,
    pub(super) data: Vec<f64>,
}

impl Heads {
    /// Operand `i`, which is `[batch, heads, steps, size]` or has `heads` side by side in `[batch,
    /// steps, heads * size]`.
    pub(super) fn of(
        cx: &EvalContext<'_>,
        i: usize,
        heads: impl Fn() -> Result<usize, EvalError>,
    ) -> Result<Heads, EvalError> {
        let t = cx.tensor(i)?;
        let data = f64::read(t)?.into_owned();
        match *t.dims() {
            [batch, heads, steps, size] => Ok(Heads {
                batch,
                heads,
                steps,
                size,
                data,
            }),
            [batch, steps, width] => Heads::split(cx, [batch, steps, width], heads()?, &data),
            _ => Err(cx.invalid(format!("operand {i} of {:?}", t.dims()))),
        }
    }

    /// `heads` of them that lie side by side in `data`.
    pub(super) fn split(
        cx: &EvalContext<'_>,
        [batch, steps, width]: [usize; 3],
        heads: usize,
        data: &[f64],
    ) -> Result<Heads, EvalError> {
        if !width.is_multiple_of(heads) {
            return Err(cx.invalid(format!("{heads} heads in {width} elements")));
        }
        let size = width / heads;
        // Exchanging steps and heads is its own inverse.
        let data = flatten(data, [batch, steps, heads, size]);
        Ok(Heads {
            batch,
            heads,
            steps,
            size,
            data,
        })
    }

    /// The same after the past, if there is one.
    pub(super) fn after(
        self,
        cx: &EvalContext<'_>,
        past: Option<&Tensor>,
    ) -> Result<Heads, EvalError> {
        let Some(past) = past else {
            return Ok(self);
        };
        let before = match *past.dims() {
            [b, h, before, d] if [b, h, d] == [self.batch, self.heads, self.size] => before,
            _ => return Err(cx.invalid(format!("a past of {:?}", past.dims()))),
        };
        let steps = before + self.steps;
        rules::limited(&[self.batch, self.heads, steps, self.size])?;
        let past = f64::read(past)?;
        let mut data = Vec::with_capacity(past.len() + self.data.len());
        for row in 0..self.batch * self.heads {
            data.extend_from_slice(&past[row * before * self.size..][..before * self.size]);
            let new = self.steps * self.size;
            data.extend_from_slice(&self.data[row * new..][..new]);
        }
        Ok(Heads {
            steps,
            data,
            ..self
        })
    }

    pub(super) fn row(&self, b: usize, h: usize, s: usize) -> &[f64] {
        &self.data[((b * self.heads + h) * self.steps + s) * self.size..][..self.size]
    }

    pub(super) fn row_mut(&mut self, b: usize, h: usize, s: usize) -> &mut [f64] {
        &mut self.data[((b * self.heads + h) * self.steps + s) * self.size..][..self.size]
    }

    pub(super) fn dims(&self) -> [usize; 4] {
        [self.batch, self.heads, self.steps, self.size]
    }

    pub(super) fn tensor(self, dtype: DType) -> Result<Value, EvalError> {
        real_tensor(dtype, &self.dims(), self.data)
    }
}

/// How scores come from products.
pub(super) struct Scores<'a> {
    pub(super) scale: f64,
    /// Scores are held below this, softly, unless it is zero.
    pub(super) softcap: f64,
    /// A score for each head that takes a share of the softmax, for nothing.
    pub(super) sinks: Option<&'a [f64]>,
    /// What is added for a batch, head, query and key; minus infinity hides the key.
    pub(super) bias: &'a dyn Fn([usize; 4]) -> f64,
}

/// Softmax attention: `[batch, steps, heads * size]`. Several heads of `q` share one of `k` and `v`.
/// A query that sees no key gives zeros.
pub(super) fn attend(
    cx: &EvalContext<'_>,
    q: &Heads,
    k: &Heads,
    v: &Heads,
    scores: &Scores<'_>,
) -> Result<Vec<f64>, EvalError> {
    let fits = q.size == k.size
        && [k.batch, k.heads, k.steps] == [v.batch, v.heads, v.steps]
        && q.batch == k.batch
        && k.heads > 0
        && q.heads.is_multiple_of(k.heads)
        && scores.sinks.is_none_or(|s| s.len() == q.heads);
    if !fits {
        return Err(cx.invalid("queries, keys and values that do not fit together"));
    }
    let dims = [q.batch, q.heads, q.steps, v.size];
    let mut y = vec![0.0; rules::limited(&dims)?];
    let each = q.heads / k.heads;
    let mut row = vec![0.0; k.steps];
    for at in 0..q.batch * q.heads * q.steps {
        let (b, h, s) = (at / q.steps / q.heads, at / q.steps % q.heads, at % q.steps);
        let query = q.row(b, h, s);
        for (t, score) in row.iter_mut().enumerate() {
            let key = k.row(b, h / each, t);
            let dot: f64 = query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() * scores.scale;
            let capped = match scores.softcap {
                0.0 => dot,
                cap => cap * (dot / cap).tanh(),
            };
            *score = capped + (scores.bias)([b, h, s, t]);
        }
        let sink = scores.sinks.map_or(f64::NEG_INFINITY, |s| s[h]);
        if row.iter().all(|&x| x == f64::NEG_INFINITY) {
            continue;
        }
        softmax_beside(&mut row, sink);
        let out = &mut y[at * v.size..][..v.size];
        for (t, &score) in row.iter().enumerate().filter(|(_, s)| **s != 0.0) {
            let value = v.row(b, h / each, t);
            out.iter_mut().zip(value).for_each(|(o, x)| *o += score * x);
        }
    }
    Ok(flatten(&y, dims))
}

/// A bias of the scores, `[batch or 1, heads or 1, steps or 1, keys]`.
pub(super) struct Bias {
    data: Vec<f64>,
    dims: [usize; 4],
}

impl Bias {
    /// Operand `i`, unless left out.
    pub(super) fn of(
        cx: &EvalContext<'_>,
        i: usize,
        to: [usize; 4],
    ) -> Result<Option<Bias>, EvalError> {
        let Some(t) = cx.optional(i)? else {
            return Ok(None);
        };
        let fits = |dims: &[usize]| dims.iter().zip(to).all(|(&d, to)| d == to || d == 1);
        match *t.dims() {
            [b, h, s, k] if fits(t.dims()) => Ok(Some(Bias {
                data: f64::read(t)?.into_owned(),
                dims: [b, h, s, k],
            })),
            _ => Err(cx.invalid(format!("a bias of {:?} for scores of {to:?}", t.dims()))),
        }
    }

    pub(super) fn at(&self, [b, h, s, k]: [usize; 4]) -> f64 {
        let [batch, heads, steps, keys] = self.dims;
        let row = ((b % batch) * heads + h % heads) * steps + s % steps;
        self.data[row * keys + k % keys]
    }
}
