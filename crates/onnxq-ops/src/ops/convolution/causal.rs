//! CausalConvWithState: a convolution of each channel by itself that sees the current position
//! and those before it, which at the beginning are the end of what came in before.
//!
//! Operands: input (`[batch, channels, steps]`), weights (`[channels, 1, taps]`), bias, and the last
//! `taps - 1` positions of the past. The second result are those of the present.

use onnxq_tensor::{Dim, Shape};

use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{Real, expect_dims, real_tensor, same_type},
        rules,
    },
};

pub(super) struct CausalConvWithState;

impl Operator for CausalConvWithState {
    fn name(&self) -> &'static str {
        "CausalConvWithState"
    }

    fn since(&self) -> &'static [i64] {
        &[27]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_type(cx)?;
        let dtype = cx.dtype(0)?;
        cx.set_dtype(1, dtype);
        let [batch, channels, _] = &cx.shape(0)?[..] else {
            return Err(Unknown::new("an input that is not of rank 3"));
        };
        let before = match cx.shape(1).ok().map(|s| &s[..]) {
            Some([_, _, taps]) => taps + -1,
            _ => Dim::UNKNOWN,
        };
        let state = Shape::from_iter([batch.clone(), channels.clone(), before]);
        cx.set_tensor(1, dtype, state);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, w) = (cx.tensor(0)?, cx.tensor(1)?);
        let (&[batch, channels, steps], &[_, 1, taps]) = (x.dims(), w.dims()) else {
            return Err(cx.invalid(format!("{:?} with weights of {:?}", x.dims(), w.dims())));
        };
        if taps == 0 {
            return Err(cx.invalid("weights without taps"));
        }
        let dtype = x.dtype();
        let w = f64::read(expect_dims(cx, 1, &[channels, 1, taps])?)?;
        let read = |i: usize, dims: &[usize]| match cx.optional(i)? {
            Some(_) => Ok::<_, EvalError>(Some(f64::read(expect_dims(cx, i, dims)?)?)),
            None => Ok(None),
        };
        let bias = read(2, &[channels])?;
        let state_dims = [batch, channels, taps - 1];
        let past = read(3, &state_dims)?;
        let activate: fn(f64) -> f64 = match cx.op().str("activation").unwrap_or("none") {
            "none" | "" => |x| x,
            "silu" | "swish" => |x| x / (1.0 + (-x).exp()),
            other => return Err(cx.invalid(format!("attribute 'activation' is '{other}'"))),
        };
        rules::limited(&state_dims)?;
        let x = f64::read(x)?;
        let (mut y, mut states) = (Vec::with_capacity(x.len()), Vec::new());
        let mut seen = vec![0.0; taps - 1 + steps];
        for row in 0..batch * channels {
            if let Some(past) = &past {
                seen[..taps - 1].copy_from_slice(&past[row * (taps - 1)..][..taps - 1]);
            }
            seen[taps - 1..].copy_from_slice(&x[row * steps..][..steps]);
            let channel = row % channels;
            let kernel = &w[channel * taps..][..taps];
            let bias = bias.as_ref().map_or(0.0, |b| b[channel]);
            y.extend(seen.windows(taps).map(|window| {
                let sum: f64 = window.iter().zip(kernel).map(|(x, w)| x * w).sum();
                activate(sum + bias)
            }));
            states.extend_from_slice(&seen[steps..]);
        }
        let y = real_tensor(dtype, &[batch, channels, steps], y)?;
        Ok(vec![y, real_tensor(dtype, &state_dims, states)?])
    }
}
