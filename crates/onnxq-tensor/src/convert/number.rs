//! What a number of any type is as a number of any other.

use half::{bf16, f16};

use super::text;

/// An element that is a number.
pub(super) trait Number: Copy {
    fn f32(self) -> f32;
    fn f64(self) -> f64;
    /// The lowest 32 bits of an integer; of a float the result of `cvttsd2si`.
    fn i32(self) -> i32;
    fn i64(self) -> i64;
    fn u64(self) -> u64;
    /// As an integer from which one under a byte is cut.
    fn rounded(self) -> i32;
    fn is_true(self) -> bool;
    fn text(self) -> String;
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Number for $t {
            fn f32(self) -> f32 {
                self as f32
            }

            fn f64(self) -> f64 {
                self as f64
            }

            fn i32(self) -> i32 {
                self as i32
            }

            fn i64(self) -> i64 {
                self as i64
            }

            fn u64(self) -> u64 {
                self as u64
            }

            fn rounded(self) -> i32 {
                self as i32
            }

            fn is_true(self) -> bool {
                self != 0
            }

            fn text(self) -> String {
                self.to_string()
            }
        }
    )*};
}

integers!(i8, u8, i16, u16, i32, u32, i64, u64);

impl Number for f64 {
    fn f32(self) -> f32 {
        self as f32
    }

    fn f64(self) -> f64 {
        self
    }

    fn i32(self) -> i32 {
        // Above 2^31 - 1 by less than one is still in range when cut.
        if self > -2_147_483_649.0 && self < 2_147_483_648.0 {
            self as i32
        } else {
            i32::MIN
        }
    }

    fn i64(self) -> i64 {
        const END: f64 = 9_223_372_036_854_775_808.0;
        if (-END..END).contains(&self) {
            self as i64
        } else {
            i64::MIN
        }
    }

    fn u64(self) -> u64 {
        // As compilers do without an instruction for it.
        const HALF: f64 = 9_223_372_036_854_775_808.0;
        if self >= HALF {
            Number::i64(self - HALF).cast_unsigned() ^ 1 << 63
        } else {
            Number::i64(self).cast_unsigned()
        }
    }

    fn rounded(self) -> i32 {
        Number::i32(self.round())
    }

    fn is_true(self) -> bool {
        self != 0.0
    }

    fn text(self) -> String {
        text::general(self)
    }
}

macro_rules! floats {
    ($($t:ty: $f32:expr, $f64:expr;)*) => {$(
        impl Number for $t {
            fn f32(self) -> f32 {
                $f32(self)
            }

            fn f64(self) -> f64 {
                $f64(self)
            }

            // Every value is an f64, and so are its conversions.
            fn i32(self) -> i32 {
                Number::i32(Number::f64(self))
            }

            fn i64(self) -> i64 {
                Number::i64(Number::f64(self))
            }

            fn u64(self) -> u64 {
                Number::u64(Number::f64(self))
            }

            fn rounded(self) -> i32 {
                Number::rounded(Number::f64(self))
            }

            fn is_true(self) -> bool {
                Number::f32(self) != 0.0
            }

            fn text(self) -> String {
                text::general(Number::f64(self))
            }
        }
    )*};
}

floats! {
    f32: |v| v, f64::from;
    f16: f16::to_f32, f16::to_f64;
    bf16: bf16::to_f32, bf16::to_f64;
}

/// A type that numbers are cast to.
pub(super) trait FromNumber: Sized {
    fn from_number(value: impl Number) -> Self;
}

macro_rules! from_numbers {
    ($($t:ty: |$v:ident| $cast:expr;)*) => {$(
        impl FromNumber for $t {
            fn from_number($v: impl Number) -> Self {
                $cast
            }
        }
    )*};
}

/// The code of an integer under a byte, with bits above it.
pub(super) struct Small(pub(super) u8);

from_numbers! {
    f32: |v| v.f32();
    f64: |v| v.f64();
    f16: |v| f16::from_f32(v.f32());
    bf16: |v| bf16::from_f32(v.f32());
    i8: |v| v.i32() as i8;
    u8: |v| v.i32() as u8;
    i16: |v| v.i32() as i16;
    u16: |v| v.i32() as u16;
    i32: |v| v.i32();
    u32: |v| v.i64() as u32;
    i64: |v| v.i64();
    u64: |v| v.u64();
    bool: |v| v.is_true();
    Small: |v| Small(v.rounded() as u8);
}
