//! The arithmetic of quantized operators.
//!
//! - `quantize`: `sat(rne(f32(x) / scale) + zero)`, a division, rounded before the zero point is
//!   added;
//! - `dequantize`: `f32(q - zero) * scale`;
//! - products of integers: exact 32-bit sums `acc`, then `sat(rne(f32(acc) * m) + zero)` with
//!   `m = f32(f32(sx * sw) / sy)`.

use onnxq_tensor::{DType, Tensor};

use crate::{
    EvalContext, EvalError,
    ops::numeric::{Real, around},
};

/// The smallest and the largest integer of a type.
pub(crate) fn int_range(dtype: DType) -> Option<(i64, i64)> {
    if !dtype.is_int() || dtype == DType::U64 {
        return None;
    }
    let bits = dtype.bits() as u32;
    Some(match dtype.is_signed_int() {
        true => (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits)),
        false => (0, (1 << bits) - 1),
    })
}

/// `rne(x) + zero`, clamped to the range of a type; NaN gives the zero point.
pub(crate) fn saturate(x: f32, zero: i64, (lo, hi): (i64, i64)) -> i64 {
    // f64 holds every f32 and every zero point, so nothing is lost before the clamp.
    let rounded = if x.is_nan() {
        0.0
    } else {
        f64::from(x).round_ties_even()
    };
    (rounded + zero as f64).clamp(lo as f64, hi as f64) as i64
}

/// The elements of an integer tensor less its zero point, which is one number or, with `axis`,
/// one for each index on that axis. `f64`, in which sums of products stay exact.
pub(crate) fn centered(
    t: &Tensor,
    zero: Option<&Tensor>,
    axis: Option<usize>,
) -> Result<Vec<f64>, EvalError> {
    let zero = match zero {
        Some(zero) => zero.to_i64s()?,
        None => vec![0],
    };
    let values = widen(t)?;
    if let [zero] = zero[..] {
        let zero = zero as f64;
        return Ok(values.into_iter().map(|x| x - zero).collect());
    }
    let axis = axis.filter(|&a| t.dims().get(a) == Some(&zero.len()));
    let Some(axis) = axis else {
        return Err(EvalError::Invalid(format!(
            "{} zero points for {:?}",
            zero.len(),
            t.dims()
        )));
    };
    let (_, n, after) = around(t.dims(), axis);
    let centered = values
        .into_iter()
        .enumerate()
        .map(|(i, x)| x - zero[i / after.max(1) % n.max(1)] as f64);
    Ok(centered.collect())
}

/// The elements of an integer tensor.
pub(crate) fn widen(t: &Tensor) -> Result<Vec<f64>, EvalError> {
    Ok(match t.dtype() {
        DType::U8 => t.as_slice::<u8>()?.iter().map(|&x| f64::from(x)).collect(),
        DType::I8 => t.as_slice::<i8>()?.iter().map(|&x| f64::from(x)).collect(),
        _ => t.to_i64s()?.into_iter().map(|x| x as f64).collect(),
    })
}

/// A sum of products of integers as 32-bit arithmetic gives it.
pub(crate) fn exact_i32(sum: f64) -> i32 {
    sum as i64 as i32
}

/// How exact sums become integers of the result.
pub(crate) struct Requantize {
    /// One, or one for each channel.
    multipliers: Vec<f32>,
    zero: i64,
    range: (i64, i64),
    /// The element type of the result.
    pub(crate) dtype: DType,
}

impl Requantize {
    /// From the operands that are the scales of both factors, and scale and zero point of the
    /// result.
    pub(crate) fn of(
        cx: &EvalContext<'_>,
        x_scale: usize,
        w_scale: usize,
        y_scale: usize,
        y_zero: usize,
        channels: usize,
    ) -> Result<Requantize, EvalError> {
        let (sx, sy) = (scalar(cx, x_scale)?, scalar(cx, y_scale)?);
        let sw = f32::read(cx.tensor(w_scale)?)?;
        if sw.len() != 1 && sw.len() != channels {
            return Err(cx.invalid(format!("{} scales, {channels} channels", sw.len())));
        }
        let dtype = match cx.optional(y_zero)? {
            Some(zero) => zero.dtype(),
            None => cx.tensor(0)?.dtype(),
        };
        Ok(Requantize {
            multipliers: sw.iter().map(|&sw| sx * sw / sy).collect(),
            zero: zero_point(cx, y_zero)?,
            range: int_range(dtype).ok_or_else(|| cx.unsupported_type(dtype))?,
            dtype,
        })
    }

    /// The same with every multiplier times `factor`.
    pub(crate) fn scaled(mut self, factor: f32) -> Requantize {
        self.multipliers.iter_mut().for_each(|m| *m *= factor);
        self
    }

    /// The integer for a sum in `channel`.
    pub(crate) fn apply(&self, acc: i32, channel: usize) -> i64 {
        let m = match self.multipliers[..] {
            [m] => m,
            _ => self.multipliers[channel],
        };
        saturate(acc as f32 * m, self.zero, self.range)
    }
}

/// The one number that operand `i` is.
pub(crate) fn scalar(cx: &EvalContext<'_>, i: usize) -> Result<f32, EvalError> {
    match f32::read(cx.tensor(i)?)?[..] {
        [x] => Ok(x),
        _ => Err(EvalError::Operand {
            index: i,
            message: "expected one number".to_owned(),
        }),
    }
}

/// The one integer that operand `i` is; zero where it is left out.
pub(crate) fn zero_point(cx: &EvalContext<'_>, i: usize) -> Result<i64, EvalError> {
    match cx.optional(i)?.map(Tensor::to_i64s).transpose()?.as_deref() {
        None => Ok(0),
        Some([x]) => Ok(*x),
        Some(_) => Err(EvalError::Operand {
            index: i,
            message: "expected one integer".to_owned(),
        }),
    }
}
