//! Sums to floats by AVX-512, four blocks of 16 columns at a time: `f32(sum) · scale + bias`, activated, as in the
//! [epilogue](crate::epilogue).

use core::arch::x86_64::{
    __m512, __m512i, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_set1_ps,
    _mm512_storeu_ps,
};

use crate::{
    activation::{LANES, activate},
    epilogue::Activation,
    pack::COLUMNS,
};

/// Where floats go, and what is added to them.
#[derive(Clone, Copy)]
pub(crate) struct Floats<'a> {
    y: *mut f32,
    bias: &'a [f32],
    activation: Activation,
    /// Of the four blocks at work: where their columns begin, and what is added.
    to: *mut f32,
    added: [__m512; 4],
}

impl<'a> Floats<'a> {
    #[target_feature(enable = "avx512f")]
    pub(crate) fn new(y: &mut [f32], bias: &'a [f32], activation: Activation) -> Floats<'a> {
        let y = y.as_mut_ptr();
        Floats {
            y,
            bias,
            activation,
            to: y,
            // What changes nothing, not even the sign of a zero.
            added: [_mm512_set1_ps(-0.0); 4],
        }
    }

    /// Begins with four blocks from column `first` on, of which there are those in `columns`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    #[expect(unsafe_code, reason = "a load of part of a register")]
    pub(crate) fn begin(&mut self, first: usize, columns: u64) {
        self.to = self.y.wrapping_add(first);
        if self.bias.is_empty() {
            return;
        }
        let bias = self.bias[first..].as_ptr();
        for (i, added) in self.added.iter_mut().enumerate() {
            let mask = (columns >> (i * COLUMNS)) as u16;
            // SAFETY: there is a bias for each column, and no others are read.
            *added = unsafe { _mm512_maskz_loadu_ps(mask, bias.wrapping_add(i * COLUMNS)) };
        }
    }

    /// One row of the four blocks, to `row` of the output.
    ///
    /// # Safety
    /// The columns that there are can be written.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    #[expect(unsafe_code, reason = "writes at strides")]
    pub(crate) unsafe fn row(
        &self,
        sums: [__m512i; 4],
        scale: &[__m512; 4],
        row: usize,
        columns: u64,
    ) {
        let mut x = self.added;
        for i in 0..4 {
            x[i] = _mm512_add_ps(
                _mm512_mul_ps(_mm512_cvtepi32_ps(sums[i]), scale[i]),
                self.added[i],
            );
        }
        match self.activation {
            Activation::Identity => {}
            Activation::Clamp(low, high) => {
                let (low, high) = (_mm512_set1_ps(low), _mm512_set1_ps(high));
                // In this order a NaN goes through.
                x = x.map(|x| _mm512_min_ps(high, _mm512_max_ps(low, x)));
            }
            activation => activate_row(activation, &mut x),
        }
        let to = self.to.wrapping_add(row);
        for (i, x) in x.into_iter().enumerate() {
            let to = to.wrapping_add(i * COLUMNS);
            match columns {
                // SAFETY: the caller's guarantee, for all 64 columns.
                u64::MAX => unsafe { _mm512_storeu_ps(to, x) },
                // SAFETY: the same for those that there are.
                columns => unsafe {
                    _mm512_mask_storeu_ps(to, (columns >> (i * COLUMNS)) as u16, x)
                },
            }
        }
    }
}

/// Not inlined, since the others are short.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
#[expect(unsafe_code, reason = "registers from and to arrays")]
fn activate_row(activation: Activation, x: &mut [__m512; 4]) {
    for x in x {
        let mut block = [0.0; LANES];
        // SAFETY: the array has 16 floats.
        unsafe { _mm512_storeu_ps(block.as_mut_ptr(), *x) }
        activate(activation, &mut block);
        // SAFETY: as above.
        *x = unsafe { _mm512_loadu_ps(block.as_ptr()) };
    }
}
