//! `DFT`: the discrete Fourier transform, evaluated by its definition, in `f64`.
//!
//! | opset | change |
//! |---|---|
//! | 17 | first version, `axis` an attribute, 1 by default |
//! | 20 | `axis` operand 2, -2 by default |
//!
//! Real and imaginary part are the last axis.

use onnxq_tensor::{Dim, Tensor};

use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, UpgradeContext, UpgradeError, Value,
    ops::{numeric::around, rules},
};

pub(super) struct Dft;

impl Operator for Dft {
    fn name(&self) -> &'static str {
        "DFT"
    }

    fn since(&self) -> &'static [i64] {
        &[17, 20]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let mut shape = cx.shape(0)?.clone();
        let onesided = cx.op().int("onesided", 0) != 0;
        let inverse = cx.op().int("inverse", 0) != 0;
        let parts = Dim::known(if onesided && inverse { 1 } else { 2 });
        let axis = match cx.opset() {
            ..20 => Some(cx.op().int("axis", 1)),
            _ if cx.has(2) => cx.ints(2).ok().and_then(|axis| axis.first().copied()),
            _ => Some(-2),
        };
        let Some(axis) = axis else {
            // Any but the last may change, unless all frequencies of all samples are there.
            if cx.has(1) || onesided {
                for (i, dim) in shape.iter_mut().enumerate() {
                    *dim = cx.fresh(0, i);
                }
            }
            if let Some(last) = shape.last_mut() {
                *last = parts;
            }
            cx.set_tensor(0, dtype, shape);
            return Ok(());
        };
        let axis = rules::axis(axis, shape.len())?;
        let length = match cx.has(1) {
            true => (cx.value(1).ok())
                .and_then(|v| v.elems.first().cloned())
                .unwrap_or(Dim::UNKNOWN),
            false => shape[axis].clone(),
        };
        shape[axis] = match (onesided, inverse) {
            (false, _) => length,
            (true, false) => length.floor_div(&Dim::known(2)) + Dim::known(1),
            // Without a length, that of an even number of samples is meant.
            (true, true) if cx.has(1) => length,
            (true, true) => (length + -1) * Dim::known(2),
        };
        if shape[axis].is_unknown() {
            shape[axis] = cx.fresh(0, axis);
        }
        if let Some(last) = shape.last_mut() {
            *last = parts;
        }
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let axis = match cx.opset() {
            ..20 => cx.op().int("axis", 1),
            _ => one_int(cx, 2)?.unwrap_or(-2),
        };
        let axis = rules::axis(axis, x.rank())?;
        let (parts, last) = match x.dims() {
            [.., parts @ 1..=2] if axis + 1 < x.rank() => (*parts, x.rank() - 1),
            dims => return Err(cx.invalid(format!("axis {axis} of an operand of {dims:?}"))),
        };
        let transform = Transform {
            samples: x.dims()[axis],
            inverse: cx.op().int("inverse", 0) != 0,
            onesided: cx.op().int("onesided", 0) != 0,
        };
        let from_half = transform.inverse && transform.onesided;
        let length = match one_int(cx, 1)? {
            Some(length) => usize::try_from(length).ok().filter(|&n| n > 0),
            None if from_half => (2 * transform.samples).checked_sub(2).filter(|&n| n > 0),
            None => Some(transform.samples),
        };
        let length = length.ok_or_else(|| cx.invalid("a length that is not positive"))?;
        let mut dims = x.dims().to_vec();
        dims[axis] = match transform.onesided && !transform.inverse {
            true => length / 2 + 1,
            false => length,
        };
        dims[last] = if from_half { 1 } else { 2 };
        let count = rules::limited(&dims)?;
        // By the definition each number takes as many steps as there are samples.
        rules::limited(&[count, length])?;
        let data = f64s(x)?;
        let (before, _, after) = around(&x.dims()[..last], axis);
        let mut y = vec![0.0; count];
        if count > 0 {
            let table = transform.table(length);
            for (i, j) in (0..before).flat_map(|i| (0..after).map(move |j| (i, j))) {
                let read = |k: usize| {
                    let at = ((i * transform.samples + k) * after + j) * parts;
                    [data[at], if parts == 2 { data[at + 1] } else { 0.0 }]
                };
                let signal = transform.signal(length, read);
                for k in 0..dims[axis] {
                    let at = ((i * dims[axis] + k) * after + j) * dims[last];
                    let sum = transform.sum(&signal, &table, k);
                    y[at..at + dims[last]].copy_from_slice(&sum[..dims[last]]);
                }
            }
        }
        let y = Tensor::from_vec(dims, y)?;
        Ok(vec![y.cast(x.dtype(), true)?.into()])
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.crosses(20) {
            let axis = cx.op().int("axis", 1);
            cx.op_mut().attrs.shift_remove("axis");
            cx.set_constant(2, "axis", Tensor::scalar(axis));
        }
        Ok(())
    }
}

/// What is transformed, and how.
pub(super) struct Transform {
    /// How many samples there are.
    pub(super) samples: usize,
    pub(super) inverse: bool,
    /// Whether half of the frequencies are left out, since they are conjugates of the others.
    pub(super) onesided: bool,
}

impl Transform {
    /// The roots of unity, in their order.
    pub(super) fn table(&self, length: usize) -> Vec<[f64; 2]> {
        let sign = if self.inverse { 1.0 } else { -1.0 };
        let root = |k| {
            let angle = sign * std::f64::consts::TAU * k as f64 / length as f64;
            [angle.cos(), angle.sin()]
        };
        (0..length).map(root).collect()
    }

    /// The samples, as many as are asked for, with zeros behind.
    pub(super) fn signal(&self, length: usize, read: impl Fn(usize) -> [f64; 2]) -> Vec<[f64; 2]> {
        let sample = |k: usize| match k < self.samples {
            true => read(k),
            false => [0.0; 2],
        };
        let half = self.inverse && self.onesided;
        let all = (0..length).map(|k| match half && k > length / 2 {
            true => {
                let [re, im] = sample(length - k);
                [re, -im]
            }
            false => sample(k),
        });
        all.collect()
    }

    /// The number at frequency (or, of the inverse, at time) `k`.
    pub(super) fn sum(&self, signal: &[[f64; 2]], table: &[[f64; 2]], k: usize) -> [f64; 2] {
        let (mut re, mut im) = (0.0, 0.0);
        let mut at = 0;
        for [a, b] in signal {
            let [c, d] = table[at];
            re += a * c - b * d;
            im += a * d + b * c;
            at = (at + k) % table.len();
        }
        let factor = match self.inverse {
            true => 1.0 / signal.len() as f64,
            false => 1.0,
        };
        [re * factor, im * factor]
    }
}

/// The one integer that operand `i` is, unless left out.
pub(super) fn one_int(cx: &EvalContext<'_>, i: usize) -> Result<Option<i64>, EvalError> {
    if cx.optional(i)?.is_none() {
        return Ok(None);
    }
    match cx.ints(i)?[..] {
        [value] => Ok(Some(value)),
        _ => Err(EvalError::Operand {
            index: i,
            message: "expected one integer".to_owned(),
        }),
    }
}

pub(super) fn f64s(t: &Tensor) -> Result<Vec<f64>, EvalError> {
    Ok(t.to_f64s()?.into_owned())
}
