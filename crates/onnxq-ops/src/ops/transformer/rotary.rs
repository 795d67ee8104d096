//! RotaryEmbedding: turns pairs of elements of each head by an angle that depends on the position.
//!
//! Operands: input (`[batch, heads, steps, size]`, or `[batch, steps, heads * size]`), tables of
//! cosines and sines, positions. Without positions the tables have a row for each step of each
//! sequence.

use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{Real, real_tensor, same_type, with_real},
        quantization::MS,
    },
};

/// In ONNX Runtime's domain the positions are operand 1, and may be one number: that of the first
/// step.
pub(super) struct RotaryEmbedding {
    pub(super) domain: &'static str,
}

impl Operator for RotaryEmbedding {
    fn domain(&self) -> &'static str {
        self.domain
    }

    fn name(&self) -> &'static str {
        "RotaryEmbedding"
    }

    fn since(&self) -> &'static [i64] {
        match self.domain {
            "" => &[23],
            _ => &[1],
        }
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_type(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let attr = |key| usize::try_from(cx.op().int(key, 0)).unwrap_or(0);
        // Strides of a head and of a step, in elements.
        let (batch, steps, heads, size, by_head, by_step) = match *x.dims() {
            [batch, heads, steps, size] => (batch, steps, heads, size, steps * size, size),
            [batch, steps, width] => {
                let heads = match (attr("num_heads"), self.domain) {
                    // There the tables say how large a head is.
                    (0, MS) => match cx.tensor(2)?.dims().last() {
                        Some(&half @ 1..) => width / (2 * half),
                        _ => 0,
                    },
                    (heads, _) => heads,
                };
                if heads == 0 || width % heads != 0 {
                    return Err(cx.invalid(format!("{heads} heads in {width} elements")));
                }
                (batch, steps, heads, width / heads, width / heads, width)
            }
            _ => return Err(cx.invalid(format!("an operand of {:?}", x.dims()))),
        };
        let turned = match attr("rotary_embedding_dim") {
            0 => size,
            n => n,
        };
        let half = turned / 2;
        if turned > size || turned % 2 != 0 {
            return Err(cx.invalid(format!("{turned} of {size} elements turned")));
        }
        let (cos, sin, at) = match self.domain {
            "" => (cx.tensor(1)?, cx.tensor(2)?, 3),
            _ => (cx.tensor(2)?, cx.tensor(3)?, 1),
        };
        let rows = cos.len().checked_div(half).unwrap_or(0);
        if cos.dims() != sin.dims() || cos.dims().last() != Some(&half) {
            return Err(cx.invalid(format!("tables of {:?} and {:?}", cos.dims(), sin.dims())));
        }
        let positions: Vec<i64> = match cx.optional(at)? {
            Some(first) if !self.domain.is_empty() && first.dims() == [1] => {
                let first = first.scalar_i64()?;
                let step = |i: usize| first.saturating_add((i % steps) as i64);
                (0..batch * steps).map(step).collect()
            }
            Some(_) => cx.ints(at)?,
            None => (0..(batch * steps) as i64).collect(),
        };
        let inside = |&p: &i64| usize::try_from(p).ok().filter(|&p| p < rows);
        let positions: Option<Vec<usize>> = positions.iter().map(inside).collect();
        let positions = positions.filter(|p| p.len() == batch * steps);
        let positions = positions.ok_or_else(|| cx.invalid("positions that do not fit"))?;
        let interleaved = cx.op().int("interleaved", 0) != 0;
        with_real!(cx, x.dtype(), T => {
            let (cos, sin) = (T::read(cos)?, T::read(sin)?);
            let mut y = T::read(x)?.into_owned();
            for (place, &position) in positions.iter().enumerate() {
                let (b, s) = (place / steps, place % steps);
                for h in 0..heads {
                    let start = b * heads * steps * size + h * by_head + s * by_step;
                    let table = position * half..(position + 1) * half;
                    turn(&mut y[start..], &cos[table.clone()], &sin[table], interleaved);
                }
            }
            Ok(vec![real_tensor(x.dtype(), x.dims(), y)?])
        })
    }
}

/// Turns the pairs of elements of `row`: neighbours where they are `interleaved`, else one of each
/// half.
pub(super) fn turn<T: Real>(row: &mut [T], cos: &[T], sin: &[T], interleaved: bool) {
    let half = cos.len();
    for (i, (&c, &s)) in cos.iter().zip(sin).enumerate() {
        let (i0, i1) = match interleaved {
            true => (2 * i, 2 * i + 1),
            false => (i, half + i),
        };
        let (a, b) = (row[i0], row[i1]);
        row[i0] = c * a - s * b;
        row[i1] = s * a + c * b;
    }
}
