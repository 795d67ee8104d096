//! RotaryEmbedding: turns pairs of elements of each head by an angle that depends on the position.
//!
//! Operands: input (`[batch, heads, steps, size]`, or `[batch, steps, heads * size]`), tables of
//! cosines and sines, positions. Without positions the tables have a row for each step of each
//! sequence.

use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::numeric::{Real, real_tensor, same_type, with_real},
};

pub(super) struct RotaryEmbedding;

impl Operator for RotaryEmbedding {
    fn name(&self) -> &'static str {
        "RotaryEmbedding"
    }

    fn since(&self) -> &'static [i64] {
        &[23]
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
                let heads = attr("num_heads");
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
        let (cos, sin) = (cx.tensor(1)?, cx.tensor(2)?);
        let rows = cos.len().checked_div(half).unwrap_or(0);
        if cos.dims() != sin.dims() || cos.dims().last() != Some(&half) {
            return Err(cx.invalid(format!("tables of {:?} and {:?}", cos.dims(), sin.dims())));
        }
        let positions: Vec<i64> = match cx.optional(3)? {
            Some(_) => cx.ints(3)?,
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
                    for i in 0..half {
                        let (i0, i1) = match interleaved {
                            true => (start + 2 * i, start + 2 * i + 1),
                            false => (start + i, start + half + i),
                        };
                        let (c, s) = (cos[position * half + i], sin[position * half + i]);
                        let (a, b) = (y[i0], y[i1]);
                        y[i0] = c * a - s * b;
                        y[i1] = s * a + c * b;
                    }
                }
            }
            Ok(vec![real_tensor(x.dtype(), x.dims(), y)?])
        })
    }
}
