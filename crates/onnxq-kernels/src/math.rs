//! Functions of one float, as straight lines of arithmetic that the compiler vectorizes.
//!
//! `core` has none of them. Each is a polynomial, or a quotient of two, fitted for the least
//! relative error over its range, and within 2e-7 of the exact value, relative or absolute, unless
//! it says otherwise; "a few units of the last place" holds even where the value is tiny.
//! Infinities give what the definition gives, and a NaN goes through.
//!
//! Products and sums are rounded apart: Rust fuses none by itself, so that every tier has the
//! same results.

use core::f32::consts::{FRAC_2_SQRT_PI, LN_2, LOG2_E};

/// ln 2 in two parts, the first of so few bits that its product with an exponent is exact.
pub(crate) const LN_2_HIGH: f32 = 355.0 / 512.0;
pub(crate) const LN_2_LOW: f32 = -2.121_944_4e-4;

/// Adding it rounds to an integer, which the lowest bits of the sum then are.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// `x`, not below `low`. A NaN goes through.
#[inline(always)]
pub(crate) fn at_least(x: f32, low: f32) -> f32 {
    if x < low { low } else { x }
}

/// `x`, not above `high`. A NaN goes through.
#[inline(always)]
pub(crate) fn at_most(x: f32, high: f32) -> f32 {
    if x > high { high } else { x }
}

/// A polynomial, its highest coefficient first.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[0];
    let mut i = 1;
    while i < N {
        sum = sum * x + coefficients[i];
        i += 1;
    }
    sum
}

/// `(e^r - 1 - r) / r²` for `|r|` up to half of ln 2, the highest coefficient first.
pub(crate) const EXP: [f32; 5] = [
    1.381_454e-3,
    8.368_745e-3,
    4.166_839e-2,
    0.166_665_21,
    0.499_999_94,
];

/// `e^r - 1 - r` for `|r|` up to half of ln 2.
#[inline(always)]
fn exp_rest(r: f32) -> f32 {
    let p = polynomial(r, EXP);
    p * r * r
}

/// `x = n ln 2 + r`: `ROUND + n`, and `r`.
#[inline(always)]
fn reduced(x: f32) -> (f32, f32) {
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    (shifted, x - n * LN_2_HIGH - n * LN_2_LOW)
}

/// `2^n` for `shifted = ROUND + n`, `n` from -127 (of which it makes 0) to 127.
#[inline(always)]
fn power_of_shifted(shifted: f32) -> f32 {
    f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// The exponential, subnormal results included.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = at_most(at_least(x, -104.0), 89.0);
    let (shifted, r) = reduced(x);
    // In two factors: one alone would not reach the ends of the range.
    let n = shifted.to_bits() as i32 - ROUND.to_bits() as i32;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23) as u32);
    (exp_rest(r) + r + 1.0) * power(half) * power(n.wrapping_sub(half))
}

/// The exponential of numbers up to 0: what is less than the least normal number is 0.
#[inline(always)]
pub(crate) fn exp_negative(x: f32) -> f32 {
    let (shifted, r) = reduced(at_least(x, -88.0));
    (exp_rest(r) + r + 1.0) * power_of_shifted(shifted)
}

/// `e^x - 1` for numbers up to 0, to a few units of the last place.
#[inline(always)]
pub(crate) fn exp_m1_negative(x: f32) -> f32 {
    let (shifted, r) = reduced(at_least(x, -88.0));
    let power = power_of_shifted(shifted);
    (exp_rest(r) + r) * power + (power - 1.0)
}

/// `2^x`.
#[inline(always)]
pub(crate) fn exp2(x: f32) -> f32 {
    let x = at_most(at_least(x, -151.0), 129.0);
    let shifted = x + ROUND;
    let r = (x - (shifted - ROUND)) * LN_2;
    let n = shifted.to_bits() as i32 - ROUND.to_bits() as i32;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23) as u32);
    (exp_rest(r) + r + 1.0) * power(half) * power(n.wrapping_sub(half))
}

/// The natural logarithm.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    // Subnormal numbers are made normal first.
    let small = x < f32::MIN_POSITIVE;
    let scaled = if small { x * 8_388_608.0 } else { x };
    let bias = if small { 127.0 + 23.0 } else { 127.0 };
    // The significand is from sqrt(1/2) to sqrt(2), so that the logarithm is small where x is near 1.
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let bits = scaled.to_bits().wrapping_add(1f32.to_bits() - SQRT_HALF);
    let n = (bits >> 23) as i32 as f32 - bias;
    let f = f32::from_bits((bits & 0x007f_ffff) + SQRT_HALF) - 1.0;
    let p = polynomial(
        f,
        [
            -7.634_493e-2,
            0.127_615_75,
            -0.131_601_83,
            0.142_017_59,
            -0.166_233_57,
            0.200_012_27,
            -0.250_008_2,
            0.333_333_3,
        ],
    );
    let square = f * f;
    let rest = p * f * square + n * LN_2_LOW - 0.5 * square;
    let y = rest + f + n * LN_2_HIGH;
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    let y = if x == f32::INFINITY { x } else { y };
    // Not a number less than 0, nor NaN.
    if x >= 0.0 { y } else { f32::NAN }
}

/// `ln(1 + x)` for `x` from 0 to 1, to a few units of the last place.
#[inline(always)]
fn ln_1p_unit(x: f32) -> f32 {
    let p = polynomial(
        x,
        [
            -3.242_796_3e-3,
            1.984_562e-2,
            -5.694_783e-2,
            0.106_023_73,
            -0.153_047_58,
            0.196_756_11,
            -0.249_540_58,
            0.333_299_52,
            -0.499_999_02,
            1.0,
        ],
    );
    p * x
}

/// `ln(1 + e^x)`.
#[inline(always)]
pub(crate) fn softplus(x: f32) -> f32 {
    at_least(x, 0.0) + ln_1p_unit(exp_negative(-x.abs()))
}

/// The logistic function, to a few units of the last place.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    let e = exp_negative(-x.abs());
    let numerator = if x < 0.0 { e } else { 1.0 };
    numerator / (1.0 + e)
}

/// The hyperbolic tangent, to a few units of the last place.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let u = exp_m1_negative(-2.0 * x.abs());
    (-u / (2.0 + u)).copysign(x)
}

/// The error function, within 4e-7 of the value.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    // Beyond 3.95 it is 1 in f32.
    let x = at_most(at_least(x, -3.95), 3.95);
    let t = x * x;
    let p = polynomial(
        t,
        [
            2.025_906_3e-6,
            2.846_867_7e-4,
            3.808_138_4e-3,
            5.287_537_4e-2,
            0.191_549_84,
            FRAC_2_SQRT_PI,
        ],
    );
    let q = polynomial(
        t,
        [
            3.783_173e-5,
            1.170_719_4e-3,
            1.505_504_4e-2,
            0.114_559_42,
            0.503_089_3,
            1.0,
        ],
    );
    at_most(at_least(x * p / q, -1.0), 1.0)
}

/// Gelu: `x` times the normal distribution function, within 1e-6.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    // erf(x / sqrt(2)). What it is at this bound is exactly 1, and it stays that beyond.
    const ONE: f32 = 5.359_910_5;
    let near = at_most(at_least(x, -ONE), ONE);
    let t = near * near;
    let p = polynomial(
        t,
        [
            4.772_086_7e-8,
            1.267_034_7e-5,
            3.185_53e-4,
            9.241_772e-3,
            6.573_843e-2,
            0.797_884_5,
        ],
    );
    let q = polynomial(
        t,
        [
            1.228_465e-6,
            7.082_485e-5,
            1.830_655_3e-3,
            2.809_289e-2,
            0.249_057_4,
            1.0,
        ],
    );
    0.5 * x * (1.0 + near * p / q)
}

/// The approximation of [`gelu`] by the hyperbolic tangent: `x/2 · (1 + tanh(y))`, which is
/// `x · sigmoid(2y)`.
#[inline(always)]
pub(crate) fn gelu_tanh(x: f32) -> f32 {
    /// `2 sqrt(2 / π)`.
    const SCALE: f32 = 1.595_769;
    x * sigmoid(SCALE * (x + 0.044_715 * x * x * x))
}

/// `x · tanh(softplus(x))`; the tangent is a quotient of polynomials of `e^x`.
#[inline(always)]
pub(crate) fn mish(x: f32) -> f32 {
    let e = exp_negative(-x.abs());
    let (square, double) = (e * e, 2.0 * e);
    let (low, more) = if x < 0.0 {
        (square, 2.0)
    } else {
        (1.0, 2.0 * square)
    };
    let numerator = low + double;
    x * (numerator / (numerator + more))
}

/// The square root, rounded correctly.
#[inline(always)]
pub(crate) fn sqrt(x: f32) -> f32 {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_mm_cvtss_f32, _mm_set_ss, _mm_sqrt_ss};
        #[expect(
            unsafe_code,
            clippy::multiple_unsafe_ops_per_block,
            reason = "`core` has no square root"
        )]
        // SAFETY: SSE is part of x86-64.
        unsafe {
            _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)))
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        use core::arch::aarch64::{vdup_n_f32, vget_lane_f32, vsqrt_f32};
        #[expect(
            unsafe_code,
            clippy::multiple_unsafe_ops_per_block,
            reason = "`core` has no square root"
        )]
        // SAFETY: Advanced SIMD is part of AArch64.
        unsafe {
            vget_lane_f32::<0>(vsqrt_f32(vdup_n_f32(x)))
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    sqrt_of_bits(x)
}

/// [`sqrt`] by integers, where the processor's is out of reach.
#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn sqrt_of_bits(x: f32) -> f32 {
    if !(x > 0.0 && x < f32::INFINITY) {
        return if x < 0.0 { f32::NAN } else { x };
    }
    let (scaled, down) = if x < f32::MIN_POSITIVE {
        (x * 16_777_216.0, 1.0 / 4096.0)
    } else {
        (x, 1.0)
    };
    let exponent = (scaled.to_bits() >> 23) as i32 - 127;
    let significand = u64::from(scaled.to_bits() & 0x007f_ffff | 0x0080_0000);
    // An even exponent; then 25 bits of root, the last of which decides the rounding, never a tie.
    let odd = exponent & 1;
    let root = (significand << (25 + odd)).isqrt() as u32;
    let rounded = (root + 1) >> 1;
    let half = (exponent - odd) / 2;
    f32::from_bits(rounded.wrapping_add(((half + 126) as u32) << 23)) * down
}

/// Rounded down.
#[inline(always)]
pub(crate) fn floor(x: f32) -> f32 {
    let y = nearest(x);
    (if y > x { y - 1.0 } else { y }).copysign(x)
}

/// Rounded up.
#[inline(always)]
pub(crate) fn ceil(x: f32) -> f32 {
    -floor(-x)
}

/// Rounded to the nearest integer, ties to even.
#[inline(always)]
pub(crate) fn nearest(x: f32) -> f32 {
    // From this size on all are integers.
    const LARGE: f32 = 8_388_608.0;
    let a = x.abs();
    let y = ((a + LARGE) - LARGE).copysign(x);
    if a < LARGE { y } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_of_large_numbers() {
        for x in [5.359_910_5f32, 6.0, 1e10, f32::MAX] {
            assert_eq!((gelu(x), gelu(-x)), (x, 0.0));
        }
    }

    #[test]
    fn square_roots_without_the_processor() {
        for i in 0..2_000_000u32 {
            let x = f32::from_bits(i.wrapping_mul(2147));
            let (a, b) = (sqrt_of_bits(x), sqrt(x));
            assert!(
                a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
                "{x:e}: {a:e} {b:e}"
            );
        }
    }
}
