//! Bytes of another tensor added on the way, as [`SumSteps`](crate::SumSteps) say: the rounded product stays a float. Beside
//! AMX only one of the two vector units multiplies and converts, so that rounding is an addition.

use core::arch::x86_64::{
    __m128i, __m512, __m512i, _mm512_add_ps, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps,
    _mm512_cvtepu8_epi32, _mm512_cvtps_epi32, _mm512_extracti32x4_epi32, _mm512_fmadd_ps,
    _mm512_maskz_loadu_epi8, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_set1_ps,
    _mm512_sub_ps,
};

use super::Bytes;
use crate::epilogue::{Output, SHIFT};

/// What adds the bytes of another tensor, of the same type as those of the sum.
#[derive(Clone, Copy)]
pub(crate) struct Adding {
    /// What rounds floats that it is added to, and the bounds of the product when it has been.
    shift: __m512,
    low: __m512,
    high: __m512,
    factor: __m512,
    other_factor: __m512,
    start: __m512,
    pub(super) to: Bytes,
    pub(super) other: *const u8,
    /// All bits, or none where it is one row.
    pub(super) rows: usize,
}

impl Adding {
    /// Nothing without steps, or where the other tensor is of another type.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(crate) fn new(output: &mut Output<'_>) -> Option<Adding> {
        let Output::Bytes(y, to) = output else {
            return None;
        };
        let residual = to.residual.as_ref()?;
        let bytes = Bytes::new(residual.zeros[1], residual.bounds)?;
        let steps = residual.steps.filter(|_| bytes.signed == residual.signed)?;
        let [low, high] = to.bounds.map(|bound| SHIFT + (bound - to.zero) as f32);
        let other = residual
            .data
            .map_or(y.as_mut_ptr().cast_const(), <[u8]>::as_ptr);
        Some(Adding {
            shift: _mm512_set1_ps(SHIFT),
            low: _mm512_set1_ps(low),
            high: _mm512_set1_ps(high),
            factor: _mm512_set1_ps(steps.factor),
            other_factor: _mm512_set1_ps(steps.other_factor),
            start: _mm512_set1_ps(steps.start),
            to: bytes,
            other,
            rows: if residual.row { 0 } else { usize::MAX },
        })
    }

    /// The bytes of one row of four blocks, see [`Bytes::row`], with those at `others` added.
    ///
    /// # Safety
    /// Those of the columns that there are can be read.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    #[expect(unsafe_code, reason = "reads bytes")]
    pub(super) unsafe fn row<const FORM: u8>(
        &self,
        sums: [__m512i; 4],
        scale: &[__m512; 4],
        others: *const u8,
        columns: u64,
    ) -> __m512i {
        // SAFETY: the caller's guarantee.
        let others = unsafe { load(others, columns) };
        let mut codes = sums;
        for ((code, scale), other) in codes.iter_mut().zip(scale).zip(others) {
            let x = _mm512_mul_ps(_mm512_cvtepi32_ps(*code), *scale);
            // In this order a NaN becomes the bound.
            let x = _mm512_max_ps(_mm512_add_ps(x, self.shift), self.low);
            let x = _mm512_sub_ps(_mm512_min_ps(x, self.high), self.shift);
            let other = match self.to.signed {
                true => _mm512_cvtepi8_epi32(other),
                false => _mm512_cvtepu8_epi32(other),
            };
            let other = _mm512_fmadd_ps(_mm512_cvtepi32_ps(other), self.other_factor, self.start);
            *code = _mm512_cvtps_epi32(_mm512_fmadd_ps(x, self.factor, other));
        }
        self.to.pack::<FORM>(codes)
    }
}

/// 64 bytes, or those of the columns that there are.
///
/// # Safety
/// They can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
#[expect(unsafe_code, reason = "reads bytes")]
unsafe fn load(from: *const u8, columns: u64) -> [__m128i; 4] {
    if columns == u64::MAX {
        return [0, 1, 2, 3].map(|i| {
            let from = from.cast::<__m128i>().wrapping_add(i);
            // SAFETY: the caller's guarantee.
            unsafe { from.read_unaligned() }
        });
    }
    // SAFETY: the caller's guarantee; no others are read.
    let all = unsafe { _mm512_maskz_loadu_epi8(columns, from.cast()) };
    [
        _mm512_extracti32x4_epi32::<0>(all),
        _mm512_extracti32x4_epi32::<1>(all),
        _mm512_extracti32x4_epi32::<2>(all),
        _mm512_extracti32x4_epi32::<3>(all),
    ]
}
