//! STFT: the Fourier transforms of pieces of a signal, each seen through a window.
//!
//! Operands: signal (`[batch, samples, 1 or 2]`), the step from a piece to the next, the window,
//! and the length of a piece, which is that of the window, or of the signal, where not given.

use onnxq_tensor::{Dim, Shape, Tensor};

use super::dft::{Transform, f64s, one_int};
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{numeric::expect_dims, rules},
};

pub(super) struct Stft;

impl Operator for Stft {
    fn name(&self) -> &'static str {
        "STFT"
    }

    fn since(&self) -> &'static [i64] {
        &[17]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let [batch, samples, _] = &cx.shape(0)?[..] else {
            return Err(Unknown::new("a signal that is not of rank 3"));
        };
        let number = |i: usize| match cx.value(i) {
            Ok(value) => value.elems.first().cloned().unwrap_or_default(),
            Err(_) => Dim::UNKNOWN,
        };
        let length = if cx.has(3) {
            number(3)
        } else if cx.has(2) {
            cx.shape(2)
                .ok()
                .and_then(|s| s.first().cloned())
                .unwrap_or_default()
        } else {
            samples.clone()
        };
        let step = number(1);
        let frames = match step.as_const() {
            Some(1..) => (samples - &length).floor_div(&step) + 1,
            _ => Dim::UNKNOWN,
        };
        let bins = match cx.op().int("onesided", 1) {
            0 => length,
            _ => length.floor_div(&Dim::known(2)) + 1,
        };
        let or_fresh = |dim: Dim, axis| match dim.is_unknown() {
            true => cx.fresh(0, axis),
            false => dim,
        };
        let (frames, bins) = (or_fresh(frames, 1), or_fresh(bins, 2));
        let shape = Shape::from_iter([batch.clone(), frames, bins, Dim::known(2)]);
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let &[batch, samples, parts @ 1..=2] = x.dims() else {
            return Err(cx.invalid(format!("a signal of {:?}", x.dims())));
        };
        let positive = |i: usize| match one_int(cx, i)? {
            None => Ok(None),
            Some(n @ 1..) => Ok(usize::try_from(n).ok()),
            Some(n) => Err(cx.invalid(format!("operand {i} is {n}"))),
        };
        let step = positive(1)?.ok_or(EvalError::Missing { index: 1 })?;
        let window = cx.optional(2)?;
        let length = positive(3)?.or(window.map(Tensor::len)).unwrap_or(samples);
        if length == 0 || length > samples {
            return Err(cx.invalid(format!("pieces of {length} in {samples} samples")));
        }
        let window = match window {
            Some(_) => f64s(expect_dims(cx, 2, &[length])?)?,
            None => vec![1.0; length],
        };
        let onesided = cx.op().int("onesided", 1) != 0;
        let transform = Transform {
            samples: length,
            inverse: false,
            onesided,
        };
        let bins = if onesided { length / 2 + 1 } else { length };
        let frames = (samples - length) / step + 1;
        let dims = [batch, frames, bins, 2];
        let count = rules::limited(&dims)?;
        // By the definition each number takes as many steps as there are samples.
        rules::limited(&[count, length])?;
        let table = transform.table(length);
        let data = f64s(x)?;
        let mut y = Vec::with_capacity(count);
        for piece in 0..batch * frames {
            let start = piece / frames * samples + piece % frames * step;
            let read = |k: usize| {
                let at = (start + k) * parts;
                let imaginary = if parts == 2 { data[at + 1] } else { 0.0 };
                [data[at] * window[k], imaginary * window[k]]
            };
            let signal = transform.signal(length, read);
            y.extend((0..bins).flat_map(|k| transform.sum(&signal, &table, k)));
        }
        let y = Tensor::from_vec(dims.as_slice(), y)?;
        Ok(vec![y.cast(x.dtype(), true)?.into()])
    }
}
