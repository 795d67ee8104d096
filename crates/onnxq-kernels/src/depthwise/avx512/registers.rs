//! Loads, stores, and what makes bytes of sums, in registers of AVX-512.

use core::arch::x86_64::*;

use crate::Line;
use crate::depthwise::{pack::PARAMETERS, target::Target};

/// What makes bytes or floats of sums.
pub(super) struct Finish<'a> {
    pub(super) parameters: &'a [Line; PARAMETERS],
    zero: __m512i,
    low: __m512i,
    high: __m512i,
    flip: __m512i,
    least: __m512,
    most: __m512,
}

impl Finish<'_> {
    /// Signed results are computed as unsigned ones, 128 higher.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    pub(super) fn of<'a>(to: &impl Target, parameters: &'a [Line; PARAMETERS]) -> Finish<'a> {
        let ((zero, bounds), [least, most]) = (to.codes(), to.clamp());
        let up = if bounds[0] < 0 { 128 } else { 0 };
        let bytes = |v: i32| _mm512_set1_epi8((v + up) as u8 as i8);
        Finish {
            parameters,
            zero: _mm512_set1_epi16((zero + up) as i16),
            low: bytes(bounds[0]),
            high: bytes(bounds[1]),
            flip: _mm512_set1_epi8(up as u8 as i8),
            least: _mm512_set1_ps(least),
            most: _mm512_set1_ps(most),
        }
    }

    /// As [`quantized`](crate::epilogue::quantized): what is too large for 16 bits is beyond the
    /// bounds, whatever the zero point adds. `FITS`: no scaled sum is too large for `i32`; below it
    /// and from NaN the conversion makes the lowest number.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    pub(super) fn rounded<const FITS: bool>(&self, sum: __m512i, register: usize) -> __m512i {
        let scale = _mm512_castsi512_ps(load(&self.parameters[register].0));
        let mut scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale);
        if !FITS {
            // NaN is what comes of the second operand.
            scaled = _mm512_min_ps(_mm512_set1_ps(65536.0), scaled);
        }
        _mm512_cvtps_epi32(scaled)
    }

    /// The bits of `clamp(f32(sum) · scale + bias)`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    pub(super) fn value(&self, sum: __m512i, register: usize) -> __m512i {
        let scale = _mm512_castsi512_ps(load(&self.parameters[register].0));
        let bias = _mm512_castsi512_ps(load(&self.parameters[8 + register].0));
        let value = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale), bias);
        // NaN is what comes of the second operand.
        let value = _mm512_min_ps(self.most, _mm512_max_ps(self.least, value));
        _mm512_castps_si512(value)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    pub(super) fn bytes(&self, [a, b, c, d]: [__m512i; 4]) -> __m512i {
        let low = _mm512_adds_epi16(_mm512_packs_epi32(a, b), self.zero);
        let high = _mm512_adds_epi16(_mm512_packs_epi32(c, d), self.zero);
        let bytes = _mm512_packus_epi16(low, high);
        let bytes = _mm512_min_epu8(_mm512_max_epu8(bytes, self.low), self.high);
        _mm512_xor_si512(bytes, self.flip)
    }
}

/// From registers that each have four channels of every quarter, quarters of 16 channels.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn quarters([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (low, high) = (
        _mm512_shuffle_i32x4::<0x44>(a, b),
        _mm512_shuffle_i32x4::<0xee>(a, b),
    );
    let (other_low, other_high) = (
        _mm512_shuffle_i32x4::<0x44>(c, d),
        _mm512_shuffle_i32x4::<0xee>(c, d),
    );
    [
        _mm512_shuffle_i32x4::<0x88>(low, other_low),
        _mm512_shuffle_i32x4::<0xdd>(low, other_low),
        _mm512_shuffle_i32x4::<0x88>(high, other_high),
        _mm512_shuffle_i32x4::<0xdd>(high, other_high),
    ]
}

#[inline]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "a load")]
pub(super) fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: these are 64 bytes.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "a store")]
pub(super) fn store(line: &mut Line, value: __m512i) {
    // SAFETY: a line is 64 aligned bytes.
    unsafe { _mm512_store_si512(core::ptr::from_mut(line).cast(), value) }
}

/// The first `64 / WIDTH` of some pixels, `count` channels of each, beside each other. `whole`: they are 64 bytes
/// in one stretch.
///
/// # Safety
/// `count` bytes of each pixel can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[expect(unsafe_code, reason = "loads through pointers")]
pub(super) unsafe fn load_pixels<const WIDTH: usize>(
    from: [*const u8; 4],
    count: usize,
    whole: bool,
) -> __m512i {
    if WIDTH == 64 || whole {
        let mask = match WIDTH {
            64 => u64::MAX >> (64 - count),
            _ => u64::MAX,
        };
        // SAFETY: the caller's guarantee.
        return unsafe { _mm512_maskz_loadu_epi8(mask, from[0].cast()) };
    }
    let [a, b, c, d] = from;
    if WIDTH == 32 {
        let mask = u32::MAX >> (32 - count);
        // SAFETY: the caller's guarantee.
        let a = unsafe { _mm256_maskz_loadu_epi8(mask, a.cast()) };
        // SAFETY: the caller's guarantee.
        let b = unsafe { _mm256_maskz_loadu_epi8(mask, b.cast()) };
        return _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b);
    }
    let mask = u16::MAX >> (16 - count);
    // SAFETY: the caller's guarantee.
    let a = unsafe { _mm_maskz_loadu_epi8(mask, a.cast()) };
    // SAFETY: the caller's guarantee.
    let b = unsafe { _mm_maskz_loadu_epi8(mask, b.cast()) };
    // SAFETY: the caller's guarantee.
    let c = unsafe { _mm_maskz_loadu_epi8(mask, c.cast()) };
    // SAFETY: the caller's guarantee.
    let d = unsafe { _mm_maskz_loadu_epi8(mask, d.cast()) };
    let low = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(a), b);
    let high = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(c), d);
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}
