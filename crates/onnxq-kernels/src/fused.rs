//! Vectors whose product and sum are rounded once.
//!
//! A tier without the instruction gets the same result by arithmetic in `f64`: slowly, but such a
//! processor is slow at integer products too.

#[cfg(target_arch = "aarch64")]
use core::arch::aarch64::*;
#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::*;

use crate::math;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::{Cpu, Isa};
use core::f32::consts::LOG2_E;

/// Arithmetic on vectors of a few floats. A value of such a type is the proof that the processor
/// has the instructions.
pub(crate) trait Vectors: Copy {
    /// Floats of a vector.
    const LANES: usize;

    /// A vector.
    type Vector: Copy;

    /// All the same.
    fn splat(self, x: f32) -> Self::Vector;
    /// The first of `x`, which has enough of them.
    fn load(self, x: &[f32]) -> Self::Vector;
    /// To the first of `y`, which has room.
    fn store(self, x: Self::Vector, y: &mut [f32]);
    /// `a + b`.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a · b`.
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a · b + c`, rounded once.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `a` where it is larger than `b`, else `b`.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The bits, moved up by as many as a significand has.
    fn shift(self, a: Self::Vector) -> Self::Vector;

    /// The exponential of numbers up to 0, see [`exp_negative`](crate::math::exp_negative).
    #[inline(always)]
    fn exp_negative(self, x: Self::Vector) -> Self::Vector {
        let x = self.max(self.splat(-88.0), x);
        // The lowest bits of the sum are the exponent as it is stored.
        const ROUND: f32 = math::ROUND + 127.0;
        let shifted = self.mul_add(x, self.splat(LOG2_E), self.splat(ROUND));
        let n = self.add(shifted, self.splat(-ROUND));
        let r = self.mul_add(n, self.splat(-math::LN_2_HIGH), x);
        let r = self.mul_add(n, self.splat(-math::LN_2_LOW), r);
        let mut y = self.splat(math::EXP[0]);
        for c in &math::EXP[1..] {
            y = self.mul_add(y, r, self.splat(*c));
        }
        y = self.mul_add(y, r, self.splat(1.0));
        y = self.mul_add(y, r, self.splat(1.0));
        self.mul(y, self.shift(shifted))
    }
}

/// Each element by a function of two or three.
macro_rules! each {
    (|$($x:ident),+| $y:expr) => {{
        let mut y = [0.0; 4];
        for i in 0..4 {
            $(let $x = $x[i];)+
            y[i] = $y;
        }
        y
    }};
}

/// Of four, on any processor.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

impl Vectors for Plain {
    const LANES: usize = 4;

    type Vector = [f32; 4];

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 4] {
        [x; 4]
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> [f32; 4] {
        [x[0], x[1], x[2], x[3]]
    }

    #[inline(always)]
    fn store(self, x: [f32; 4], y: &mut [f32]) {
        y[..4].copy_from_slice(&x);
    }

    #[inline(always)]
    fn add(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each!(|a, b| a + b)
    }

    #[inline(always)]
    fn mul(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each!(|a, b| a * b)
    }

    #[inline(always)]
    fn mul_add(self, a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        each!(|a, b, c| mul_add(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each!(|a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn shift(self, a: [f32; 4]) -> [f32; 4] {
        each!(|a| f32::from_bits(a.to_bits() << 23))
    }
}

/// `a · b + c`, rounded once.
#[inline(always)]
fn mul_add(a: f32, b: f32, c: f32) -> f32 {
    // The product of two f32 is exact; the sum is rounded to f64. Rounding that to f32 is as if it
    // were the only one, unless it is just in the middle of two, or subnormal.
    let sum = f64::from(a) * f64::from(b) + f64::from(c);
    let middle = sum.to_bits() & 0x1fff_ffff == 0x1000_0000;
    let small = sum.abs() < f64::from(f32::MIN_POSITIVE) && sum != 0.0;
    if middle || small {
        return mul_add_to_odd(a, b, c);
    }
    sum as f32
}

/// The same, with a sum that is rounded to odd: after that, a second rounding is as if it were the
/// only one.
#[cold]
fn mul_add_to_odd(a: f32, b: f32, c: f32) -> f32 {
    let (p, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = p + c;
    let other = sum - p;
    let error = (p - (sum - other)) + (c - other);
    let bits = sum.to_bits();
    if error == 0.0 || bits & 1 == 1 {
        return sum as f32;
    }
    let outwards = (error > 0.0) == (sum > 0.0);
    f64::from_bits(if outwards { bits + 1 } else { bits - 1 }) as f32
}

/// A type of vectors that some tiers have.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! vectors {
    ($(#[$doc:meta])* $name:ident: $($isa:ident)|+, $register:ident, $lanes:literal,
     $load:ident, $store:ident, { $($f:ident($($a:ident: $ty:ty),+) => $y:expr;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name(());

        impl $name {
            /// Where the tier has them.
            pub(crate) fn of(cpu: Cpu) -> Option<$name> {
                matches!(cpu.isa(), $(Isa::$isa)|+).then_some($name(()))
            }
        }

        #[expect(unsafe_code, reason = "instructions of a tier")]
        impl Vectors for $name {
            const LANES: usize = $lanes;

            type Vector = $register;

            #[inline(always)]
            fn load(self, x: &[f32]) -> $register {
                let x = &x[..$lanes];
                // SAFETY: a `Cpu` has proved that there are the instructions; there are as many
                // floats.
                unsafe { $load(x.as_ptr()) }
            }

            #[inline(always)]
            fn store(self, x: $register, y: &mut [f32]) {
                let y = &mut y[..$lanes];
                // SAFETY: as above; there is room for as many floats.
                unsafe { $store(y.as_mut_ptr(), x) }
            }

            $(
                #[inline(always)]
                fn $f(self, $($a: $ty),+) -> $register {
                    // SAFETY: as above.
                    unsafe { $y }
                }
            )+
        }
    };
}

#[cfg(target_arch = "x86_64")]
vectors!(
    /// Of eight, by AVX2 and FMA.
    Avx2: Avx2 | AvxVnni, __m256, 8, _mm256_loadu_ps, _mm256_storeu_ps, {
        splat(x: f32) => _mm256_set1_ps(x);
        add(a: __m256, b: __m256) => _mm256_add_ps(a, b);
        mul(a: __m256, b: __m256) => _mm256_mul_ps(a, b);
        mul_add(a: __m256, b: __m256, c: __m256) => _mm256_fmadd_ps(a, b, c);
        max(a: __m256, b: __m256) => _mm256_max_ps(a, b);
        shift(a: __m256) => _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(a)));
    }
);
#[cfg(target_arch = "x86_64")]
vectors!(
    /// Of sixteen, by AVX-512.
    Avx512: Avx512Vnni | Amx, __m512, 16, _mm512_loadu_ps, _mm512_storeu_ps, {
        splat(x: f32) => _mm512_set1_ps(x);
        add(a: __m512, b: __m512) => _mm512_add_ps(a, b);
        mul(a: __m512, b: __m512) => _mm512_mul_ps(a, b);
        mul_add(a: __m512, b: __m512, c: __m512) => _mm512_fmadd_ps(a, b, c);
        max(a: __m512, b: __m512) => _mm512_max_ps(a, b);
        shift(a: __m512) => _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(a)));
    }
);
#[cfg(target_arch = "aarch64")]
vectors!(
    /// Of four, by Advanced SIMD.
    Neon: Neon | Dotprod | I8mm, float32x4_t, 4, vld1q_f32, vst1q_f32, {
        splat(x: f32) => vdupq_n_f32(x);
        add(a: float32x4_t, b: float32x4_t) => vaddq_f32(a, b);
        mul(a: float32x4_t, b: float32x4_t) => vmulq_f32(a, b);
        mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) => vfmaq_f32(c, a, b);
        max(a: float32x4_t, b: float32x4_t) => vbslq_f32(vcgtq_f32(a, b), a, b);
        shift(a: float32x4_t) => vreinterpretq_f32_u32(vshlq_n_u32::<23>(vreinterpretq_u32_f32(a)));
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;

    /// Numbers of all sizes, many of them with sums near the middle of two floats.
    #[test]
    fn rounds_once() {
        let mut state = 1u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 32) as u32
        };
        for i in 0..3_000_000 {
            let (a, b, c) = (next(), next(), next());
            let near =
                |bits: u32| 0x3f80_0000 + (bits % (1 << 24)) * if bits >> 31 == 0 { 1 } else { 8 };
            let [a, b, c] = match i % 3 {
                0 => [a, b, c],
                1 => [
                    near(a) & !0xfff,
                    near(b) & !0x7ff,
                    near(c) - 0x0c80_0000 + ((c % 3) << 23),
                ],
                _ => [near(a), near(b), near(c) ^ 0x8000_0000],
            }
            .map(f32::from_bits);
            let (y, e) = (mul_add(a, b, c), f32::mul_add(a, b, c));
            assert!(
                y.to_bits() == e.to_bits() || y.is_nan() && e.is_nan(),
                "{a:e} · {b:e} + {c:e} = {y:e}, not {e:e}"
            );
        }
    }
}
