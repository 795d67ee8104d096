//! Arithmetic that is generic over element types, and the choice of a Rust type for a [`DType`].

use onnxq_tensor::{DType, Element, Tensor};

use crate::EvalError;

/// A type to calculate in. Integers wrap around.
pub(super) trait Number: Element + PartialOrd {
    const ZERO: Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// Integers: rounded towards zero; by zero is zero, which callers check for.
    fn div(self, other: Self) -> Self;
    /// The remainder with the sign of the divisor; the same caution for zero.
    fn modulo(self, other: Self) -> Self;
    /// The remainder with the sign of the dividend; the same caution for zero.
    fn remainder(self, other: Self) -> Self;
    fn pow(self, exponent: Self) -> Self;
    fn negated(self) -> Self;
    fn absolute(self) -> Self;
    fn is_negative(self) -> bool;
    /// -1, 0 or 1; NaN of NaN.
    fn sign(self) -> Self;
    /// Integers: saturating.
    fn of_f64(value: f64) -> Self;
    fn is_nan(self) -> bool {
        false
    }

    /// The larger of two; NaN if one is.
    fn maximum(self, other: Self) -> Self {
        if self >= other || self.is_nan() {
            self
        } else {
            other
        }
    }

    /// The smaller of two; NaN if one is.
    fn minimum(self, other: Self) -> Self {
        if self <= other || self.is_nan() {
            self
        } else {
            other
        }
    }
}

macro_rules! float {
    ($($t:ty),*) => {$(
        impl Number for $t {
            const ZERO: $t = 0.0;
            fn add(self, other: $t) -> $t { self + other }
            fn sub(self, other: $t) -> $t { self - other }
            fn mul(self, other: $t) -> $t { self * other }
            fn div(self, other: $t) -> $t { self / other }
            fn modulo(self, other: $t) -> $t {
                let r = self % other;
                if r != 0.0 && (r < 0.0) != (other < 0.0) { r + other } else { r }
            }
            fn remainder(self, other: $t) -> $t { self % other }
            fn pow(self, exponent: $t) -> $t { self.powf(exponent) }
            fn negated(self) -> $t { -self }
            fn absolute(self) -> $t { self.abs() }
            fn is_negative(self) -> bool { self < 0.0 }
            fn sign(self) -> $t {
                if self == 0.0 || self.is_nan() { self } else { self.signum() }
            }
            fn of_f64(value: f64) -> $t { value as $t }
            fn is_nan(self) -> bool { self.is_nan() }
        }
    )*};
}

float!(f32, f64);

macro_rules! int {
    ($($t:ty: $abs:ident, $sign:ident);*) => {$(
        impl Number for $t {
            const ZERO: $t = 0;
            fn add(self, other: $t) -> $t { self.wrapping_add(other) }
            fn sub(self, other: $t) -> $t { self.wrapping_sub(other) }
            fn mul(self, other: $t) -> $t { self.wrapping_mul(other) }
            fn div(self, other: $t) -> $t {
                if other == 0 { 0 } else { self.wrapping_div(other) }
            }
            fn modulo(self, other: $t) -> $t {
                let r = self.remainder(other);
                #[allow(unused_comparisons, reason = "one rule for both kinds of integers")]
                if r != 0 && (r < 0) != (other < 0) { r.wrapping_add(other) } else { r }
            }
            fn remainder(self, other: $t) -> $t {
                if other == 0 { 0 } else { self.wrapping_rem(other) }
            }
            fn pow(self, exponent: $t) -> $t {
                match u32::try_from(exponent) {
                    Ok(n) => self.wrapping_pow(n),
                    Err(_) => (self as f64).powf(exponent as f64) as $t,
                }
            }
            fn negated(self) -> $t { self.wrapping_neg() }
            fn absolute(self) -> $t { $abs!(self) }
            #[allow(unused_comparisons, reason = "one rule for both kinds of integers")]
            fn is_negative(self) -> bool { self < 0 }
            fn sign(self) -> $t { $sign!(self) }
            fn of_f64(value: f64) -> $t { value as $t }
        }
    )*};
}

macro_rules! same {
    ($x:expr) => {
        $x
    };
}
macro_rules! wrapping_abs {
    ($x:expr) => {
        $x.wrapping_abs()
    };
}
macro_rules! at_most_1 {
    ($x:expr) => {
        $x.min(1)
    };
}
macro_rules! signum {
    ($x:expr) => {
        $x.signum()
    };
}

int!(
    i8: wrapping_abs, signum;
    i16: wrapping_abs, signum;
    i32: wrapping_abs, signum;
    i64: wrapping_abs, signum;
    u8: same, at_most_1;
    u16: same, at_most_1;
    u32: same, at_most_1;
    u64: same, at_most_1
);

/// `$body` with `$T` the Rust type of the number type `$dtype`; 16-bit floats and all that is no
/// number take `$other`.
macro_rules! for_number {
    ($dtype:expr, $T:ident => $body:expr, $other:expr) => {{
        use onnxq_tensor::DType;
        match $dtype {
            DType::F32 => {
                type $T = f32;
                $body
            }
            DType::F64 => {
                type $T = f64;
                $body
            }
            _ => $crate::ops::number::for_int!($dtype, $T => $body, $other),
        }
    }};
}

/// The same for integers of a byte and more.
macro_rules! for_int {
    ($dtype:expr, $T:ident => $body:expr, $other:expr) => {{
        use onnxq_tensor::DType;
        match $dtype {
            DType::I64 => {
                type $T = i64;
                $body
            }
            DType::I32 => {
                type $T = i32;
                $body
            }
            DType::I16 => {
                type $T = i16;
                $body
            }
            DType::I8 => {
                type $T = i8;
                $body
            }
            DType::U64 => {
                type $T = u64;
                $body
            }
            DType::U32 => {
                type $T = u32;
                $body
            }
            DType::U16 => {
                type $T = u16;
                $body
            }
            DType::U8 => {
                type $T = u8;
                $body
            }
            _ => $other,
        }
    }};
}

pub(super) use {for_int, for_number};

/// Whether this is a float type that is calculated in `f32`.
fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// A 16-bit float tensor as `f32`; any other as it is.
pub(super) fn widen(t: &Tensor) -> Result<Tensor, EvalError> {
    Ok(if is_half(t.dtype()) {
        t.cast(DType::F32, true)?
    } else {
        t.clone()
    })
}

/// An `f32` tensor rounded to a 16-bit float type, if `dtype` is one; else as it is.
pub(super) fn narrow(t: Tensor, dtype: DType) -> Result<Tensor, EvalError> {
    Ok(if is_half(dtype) {
        t.cast(dtype, true)?
    } else {
        t
    })
}
