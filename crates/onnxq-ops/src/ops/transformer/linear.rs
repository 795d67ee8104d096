//! LinearAttention: attention without softmax, as a recurrence over a state of each head.
//!
//! The state `S` (`[size of a key, size of a value]`) is decayed (`gated`), a key and a value are
//! written to it, less what it already gives for the key (`delta`), and a query reads it:
//!
//! ```text
//! S = exp(g) * S;   v = beta * (v - S' k);   S = S + k v';   o = scale * S' q
//! ```
//!
//! Operands: Q, K, V (`[batch, steps, heads * size]`), the state before, the decay `g` by head or
//! by element of a key, and the rate `beta` by head or for all. Computed in `f64`.

use onnxq_tensor::{Dim, Shape, Tensor};

use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{Real, expect_dims, real_tensor},
        rules,
    },
};

pub(super) struct LinearAttention;

impl Operator for LinearAttention {
    fn name(&self) -> &'static str {
        "LinearAttention"
    }

    fn since(&self) -> &'static [i64] {
        &[27]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let state = cx.dtype(3).unwrap_or(dtype);
        cx.set_dtype(1, state);
        let heads = |key: &str| match cx.op().int(key, 0) {
            heads @ 1.. => Ok(Dim::known(heads)),
            other => Err(Unknown(format!("attribute '{key}' is {other}"))),
        };
        let (q_heads, kv_heads) = (heads("q_num_heads")?, heads("kv_num_heads")?);
        let [batch, steps, keys] = &cx.shape(0)?[..] else {
            return Err(Unknown::new("queries that are not of rank 3"));
        };
        let size = match cx.shape(2).ok().map(|s| &s[..]) {
            Some([_, _, width]) => width.floor_div(&kv_heads),
            _ => Dim::UNKNOWN,
        };
        let shape = Shape::from_iter([batch.clone(), steps.clone(), &q_heads * &size]);
        cx.set_tensor(0, dtype, shape);
        let present = [batch.clone(), kv_heads, keys.floor_div(&q_heads), size];
        cx.set_tensor(1, state, Shape::from_iter(present));
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let op = cx.op();
        let heads = |key: &str| match usize::try_from(op.int(key, 0)) {
            Ok(heads @ 1..) => Ok(heads),
            _ => Err(cx.invalid(format!("attribute '{key}' is no number of heads"))),
        };
        let (q_heads, kv_heads) = (heads("q_num_heads")?, heads("kv_num_heads")?);
        let (q, k, v) = (cx.tensor(0)?, cx.tensor(1)?, cx.tensor(2)?);
        let width = |t: &Tensor, heads: usize| match *t.dims() {
            [b, t, w] if w.is_multiple_of(heads) => Ok([b, t, w / heads]),
            _ => Err(cx.invalid(format!("{heads} heads in {:?}", t.dims()))),
        };
        let [batch, steps, size] = width(q, q_heads)?;
        let [_, _, value_size] = width(v, kv_heads)?;
        let fits = q_heads.is_multiple_of(kv_heads)
            && width(k, kv_heads)? == [batch, steps, size]
            && v.dims()[..2] == [batch, steps];
        if !fits {
            return Err(cx.invalid("queries, keys and values that do not fit together"));
        }
        let (gated, delta) = match op.str("update_rule").unwrap_or("gated_delta") {
            "linear" => (false, false),
            "gated" => (true, false),
            "delta" => (false, true),
            "gated_delta" => (true, true),
            other => return Err(cx.invalid(format!("attribute 'update_rule' is '{other}'"))),
        };
        let decay = PerHead::of(cx, 4, gated, [batch, steps, kv_heads], size)?;
        let beta = PerHead::of(cx, 5, delta, [batch, steps, kv_heads], 1)?;
        let state_dims = [batch, kv_heads, size, value_size];
        let count = rules::limited(&state_dims)?;
        let (mut states, state_type) = match cx.optional(3)? {
            Some(t) => {
                let state = f64::read(expect_dims(cx, 3, &state_dims)?)?;
                (state.into_owned(), t.dtype())
            }
            None => (vec![0.0; count], q.dtype()),
        };
        let scale = match op.float("scale", 0.0) {
            0.0 => 1.0 / (size as f64).sqrt(),
            scale => f64::from(scale),
        };
        let dims = [batch, steps, q_heads * value_size];
        let mut y = vec![0.0; rules::limited(&dims)?];
        let (q, k, v) = (f64::read(q)?, f64::read(k)?, f64::read(v)?);
        let each = q_heads / kv_heads;
        let mut value = vec![0.0; value_size];
        for head in 0..batch * kv_heads {
            let (b, h) = (head / kv_heads, head % kv_heads);
            let state = &mut states[head * size * value_size..][..size * value_size];
            for place in b * steps..(b + 1) * steps {
                let key = &k[(place * kv_heads + h) * size..][..size];
                value.copy_from_slice(&v[(place * kv_heads + h) * value_size..][..value_size]);
                if let Some(decay) = &decay {
                    for (i, row) in rows(state, value_size).enumerate() {
                        let factor = decay.at(place, h, i).exp();
                        row.iter_mut().for_each(|s| *s *= factor);
                    }
                }
                if let Some(beta) = &beta {
                    for (row, key) in rows(state, value_size).zip(key) {
                        value.iter_mut().zip(row).for_each(|(v, s)| *v -= *s * key);
                    }
                    let rate = beta.at(place, h, 0);
                    value.iter_mut().for_each(|v| *v *= rate);
                }
                for (row, key) in rows(state, value_size).zip(key) {
                    row.iter_mut().zip(&value).for_each(|(s, v)| *s += key * v);
                }
                for query_head in h * each..(h + 1) * each {
                    let at = place * q_heads + query_head;
                    let query = &q[at * size..][..size];
                    let out = &mut y[at * value_size..][..value_size];
                    for (row, query) in rows(state, value_size).zip(query) {
                        out.iter_mut()
                            .zip(row)
                            .for_each(|(o, s)| *o += scale * query * *s);
                    }
                }
            }
        }
        let y = real_tensor(cx.tensor(0)?.dtype(), &dims, y)?;
        Ok(vec![y, real_tensor(state_type, &state_dims, states)?])
    }
}

/// The rows of a state; none where values are empty.
fn rows(state: &mut [f64], width: usize) -> impl Iterator<Item = &mut [f64]> {
    state.chunks_exact_mut(width.max(1))
}

/// An operand with numbers for each place: one, one for each head, or several for each head.
struct PerHead {
    data: Vec<f64>,
    heads: usize,
    size: usize,
}

impl PerHead {
    /// Operand `i`, which must be there where the rule says so, and only there.
    fn of(
        cx: &EvalContext<'_>,
        i: usize,
        wanted: bool,
        [batch, steps, heads]: [usize; 3],
        size: usize,
    ) -> Result<Option<PerHead>, EvalError> {
        let t = match (cx.optional(i)?, wanted) {
            (None, false) => return Ok(None),
            (Some(t), true) => t,
            _ => return Err(cx.invalid(format!("operand {i} does not fit the update rule"))),
        };
        let (heads, size) = match *t.dims() {
            [b, s, width] if [b, s] == [batch, steps] => match width {
                w if w == heads => (heads, 1),
                w if w == heads * size => (heads, size),
                1 if size == 1 => (1, 1),
                _ => return Err(cx.invalid(format!("operand {i} of {:?}", t.dims()))),
            },
            _ => return Err(cx.invalid(format!("operand {i} of {:?}", t.dims()))),
        };
        let data = f64::read(t)?.into_owned();
        Ok(Some(PerHead { data, heads, size }))
    }

    fn at(&self, place: usize, head: usize, i: usize) -> f64 {
        self.data[(place * self.heads + head % self.heads) * self.size + i % self.size]
    }
}
