//! The sum with another quantized tensor, after a product has become bytes and while these are in
//! the cache.

#[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
use crate::Isa;
use core::ops::Range;

use crate::{Cpu, Output, Quantize, Quantized, Residual, elementwise::CHUNK, tiers::tiers};

/// What is added to some columns of the rows of a turn.
pub(crate) struct Addition<'a> {
    columns: Range<usize>,
    /// Of the bytes that the product has become.
    zero: i32,
    signed: bool,
    residual: Residual<'a>,
}

impl<'a> Addition<'a> {
    /// The residual of the output, if there is one.
    pub(crate) fn of(output: &Output<'a>, columns: Range<usize>) -> Option<Addition<'a>> {
        let Output::Bytes(_, to) = output else {
            return None;
        };
        Some(Addition {
            columns,
            zero: to.zero,
            signed: to.bounds[0] < 0,
            residual: to.residual?,
        })
    }

    /// The places of the rows that begin at `rows`, but for those that nobody wants (`usize::MAX`).
    fn places(&self, rows: &[usize]) -> impl Iterator<Item = Range<usize>> {
        let Range { start, end } = self.columns;
        let wanted = rows.iter().filter(|&&row| row != usize::MAX);
        wanted.map(move |row| row + start..row + end)
    }

    /// Keeps what is in the result, if that is the other tensor.
    pub(crate) fn save(&self, rows: &[usize], output: &Output<'_>, saved: &mut [u8]) {
        let (Output::Bytes(y, _), None) = (output, self.residual.data) else {
            return;
        };
        let saved = saved.chunks_exact_mut(self.columns.len());
        for (place, saved) in self.places(rows).zip(saved) {
            saved.copy_from_slice(&y[place]);
        }
    }

    /// Adds the other tensor, or what has been saved of it. Rows that follow on each other are one.
    pub(crate) fn add(&self, cpu: Cpu, rows: &[usize], output: &mut Output<'_>, saved: &[u8]) {
        let Output::Bytes(y, _) = output else {
            return;
        };
        let (other, is_saved) = match self.residual.data {
            Some(data) => (data, false),
            None => (saved, true),
        };
        let mut add = |place: Range<usize>, from: usize| {
            let other = match self.residual.row {
                true => &other[self.columns.clone()],
                false => &other[from..from + place.len()],
            };
            add(
                cpu,
                &mut y[place],
                other,
                self.zero,
                self.signed,
                &self.residual,
            );
        };
        let (mut together, mut from) = (0..0, 0);
        for (i, place) in self.places(rows).enumerate() {
            if place.start != together.end {
                add(together, from);
                together = place.start..place.start;
                from = match is_saved {
                    true => i * self.columns.len(),
                    false => place.start,
                };
            }
            together.end = place.end;
        }
        add(together, from);
    }
}

/// What a chunk of bytes becomes with a chunk of others.
#[derive(Clone, Copy)]
struct Sum {
    /// Of the bytes and of the others.
    operands: [Quantized; 2],
    to: Quantize,
    /// The same in steps of the result, if roundings cannot reach too far.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "for one tier")
    )]
    steps: Option<Steps>,
}

/// `q · factor + (other · other_factor + start)` is the sum in steps of the result, and rounds like it where it is less
/// than `far` from an integer.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(all(target_arch = "x86_64", feature = "avx512vnni")),
    expect(dead_code, reason = "for one tier")
)]
struct Steps {
    factor: f32,
    other_factor: f32,
    start: f32,
    far: f32,
}

impl Steps {
    /// For `q` with this zero point.
    fn new(zero: i32, residual: &Residual<'_>) -> Option<Steps> {
        let [scale, other_scale, sum_scale] = residual.scales;
        // The definition multiplies by these before it divides: neither may overflow, or lose digits near 0.
        let usual = |scale: &f32| (1e-30..1e30).contains(&scale.abs());
        if !residual.scales.iter().all(usual) {
            return None;
        }
        let (factor, other_factor) = (scale / sum_scale, other_scale / sum_scale);
        let start = -(zero as f32 * factor + residual.zeros[0] as f32 * other_factor);
        // Roundings of this and of the definition are no more than eight of the largest number that can be, each by
        // 2^-24 of it at most.
        let largest = 255.0 * (factor.abs() + other_factor.abs()) + start.abs();
        (largest < 900.0).then_some(Steps {
            factor,
            other_factor,
            start,
            far: 0.5 - largest * (1.01 / (1 << 21) as f32),
        })
    }
}

impl Sum {
    fn new(zero: i32, signed: bool, residual: &Residual<'_>) -> Sum {
        let [scale, other_scale, sum_scale] = residual.scales;
        let [other_zero, sum_zero] = residual.zeros;
        let of = |scale, zero, signed| Quantized {
            scale,
            zero,
            signed,
        };
        Sum {
            operands: [
                of(scale, zero, signed),
                of(other_scale, other_zero, residual.signed),
            ],
            to: Quantize {
                scale: sum_scale,
                zero: sum_zero,
                bounds: residual.bounds,
            },
            steps: Steps::new(zero, residual),
        }
    }

    /// The definition. Not a closure, which would not be compiled for the tier.
    #[inline(always)]
    fn chunk(self, y: &mut [u8; CHUNK], other: &[u8; CHUNK]) {
        let [a, b] = self.operands;
        let mut sums = [0.0; CHUNK];
        for i in 0..CHUNK {
            sums[i] = a.real(y[i]) + b.real(other[i]);
        }
        self.to.chunk(&sums, y);
    }
}

/// Adds `other`, as often as it fits, to bytes with the zero point `zero`, in place.
pub(crate) fn add(
    cpu: Cpu,
    y: &mut [u8],
    other: &[u8],
    zero: i32,
    signed: bool,
    residual: &Residual<'_>,
) {
    let sum = Sum::new(zero, signed, residual);
    let (other_whole, other_rest) = other.as_chunks::<CHUNK>();
    for y in y.chunks_exact_mut(other.len().max(1)) {
        let (whole, rest) = y.as_chunks_mut::<CHUNK>();
        chunks(cpu, whole, other_whole, sum);
        if !rest.is_empty() {
            let (mut some, mut others) = ([[0; CHUNK]], [[0; CHUNK]]);
            some[0][..rest.len()].copy_from_slice(rest);
            others[0][..rest.len()].copy_from_slice(&other_rest[..rest.len()]);
            chunks(cpu, &mut some, &others, sum);
            rest.copy_from_slice(&some[0][..rest.len()]);
        }
    }
}

fn chunks(cpu: Cpu, y: &mut [[u8; CHUNK]], other: &[[u8; CHUNK]], sum: Sum) {
    #[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
    if let (Isa::Avx512Vnni | Isa::Amx, Some(steps)) = (cpu.isa(), sum.steps) {
        let chunks = match sum.operands.map(|q| q.signed) {
            [false, false] => avx512::chunks::<false, false>,
            [false, true] => avx512::chunks::<false, true>,
            [true, false] => avx512::chunks::<true, false>,
            [true, true] => avx512::chunks::<true, true>,
        };
        #[expect(unsafe_code, reason = "instructions that the tier promises")]
        // SAFETY: the processor has the tier.
        unsafe {
            chunks(y, other, sum, steps);
        }
        return;
    }
    plain(cpu, y, other, sum);
}

tiers! {
    fn plain(y: &mut [[u8; CHUNK]], other: &[[u8; CHUNK]], sum: Sum) {
        for (y, other) in y.iter_mut().zip(other) {
            sum.chunk(y, other);
        }
    }
}

#[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
mod avx512 {
    use core::arch::x86_64::*;

    use super::{CHUNK, Steps, Sum};

    /// 16 bytes as floats.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn floats<const SIGNED: bool>(bytes: &[u8; 16]) -> __m512 {
        let bytes = _mm_set_epi64x(
            i64::from_le_bytes([
                bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13], bytes[14],
                bytes[15],
            ]),
            i64::from_le_bytes([
                bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
            ]),
        );
        _mm512_cvtepi32_ps(match SIGNED {
            true => _mm512_cvtepi8_epi32(bytes),
            false => _mm512_cvtepu8_epi32(bytes),
        })
    }

    /// The sums in steps of the result, by the definition where one is close to the middle between
    /// two bytes.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    #[expect(unsafe_code, reason = "a store to a register's worth of bytes")]
    pub(super) fn chunks<const SIGNED: bool, const OTHER: bool>(
        y: &mut [[u8; CHUNK]],
        other: &[[u8; CHUNK]],
        sum: Sum,
        steps: Steps,
    ) {
        let [factor, other_factor, start, far] =
            [steps.factor, steps.other_factor, steps.start, steps.far].map(|v| _mm512_set1_ps(v));
        let zero = _mm512_set1_epi16(sum.to.zero as i16);
        let [low, high] = sum.to.bounds.map(|v| _mm512_set1_epi8(v as i8));
        let is_signed = sum.to.bounds[0] < 0;
        // Packing leaves the bytes of four registers in turns, four by four.
        let order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
        for (y, other) in y.iter_mut().zip(other) {
            let (parts, _) = y.as_chunks::<16>();
            let (others, _) = other.as_chunks::<16>();
            let mut codes = [_mm512_setzero_si512(); 4];
            let mut distances = [_mm512_setzero_ps(); 4];
            for i in 0..4 {
                let others = _mm512_fmadd_ps(floats::<OTHER>(&others[i]), other_factor, start);
                let sums = _mm512_fmadd_ps(floats::<SIGNED>(&parts[i]), factor, others);
                // What rounding takes away.
                distances[i] = _mm512_reduce_ps::<0>(sums);
                codes[i] = _mm512_cvtps_epi32(sums);
            }
            // The largest, whatever its sign.
            let largest = |a, b| _mm512_range_ps::<0b1011>(a, b);
            let [a, b, c, d] = distances;
            let farthest = largest(largest(a, b), largest(c, d));
            if _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(farthest, far) != 0 {
                sum.chunk(y, other);
                continue;
            }
            let a = _mm512_adds_epi16(_mm512_packs_epi32(codes[0], codes[1]), zero);
            let b = _mm512_adds_epi16(_mm512_packs_epi32(codes[2], codes[3]), zero);
            let bytes = match is_signed {
                true => {
                    let bytes = _mm512_packs_epi16(a, b);
                    _mm512_min_epi8(_mm512_max_epi8(bytes, low), high)
                }
                false => {
                    let bytes = _mm512_packus_epi16(a, b);
                    _mm512_min_epu8(_mm512_max_epu8(bytes, low), high)
                }
            };
            let bytes = _mm512_permutexvar_epi32(order, bytes);
            // SAFETY: `y` has as many bytes.
            unsafe { y.as_mut_ptr().cast::<__m512i>().write_unaligned(bytes) };
        }
    }
}
