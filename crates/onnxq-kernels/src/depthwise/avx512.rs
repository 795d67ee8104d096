//! Dot products of four rows at a time, by AVX-512 VNNI. See the [module above](super).

mod registers;

use core::{arch::x86_64::*, ops::Range};

use super::{
    Depthwise,
    pack::{Block, MAX_POSITIONS, PARAMETERS, POSITION, Plan, blocks},
    strip::{Row, Strip, load_parameters},
    target::Target,
};
use crate::{Cpu, Isa, Line};

use registers::{Finish, load, load_pixels, quarters, store};

/// Computes rows of the result, if the processor and the window are fit for it.
pub(super) fn run<T: Target>(
    x: &Depthwise<'_>,
    cpu: Cpu,
    rows: Range<usize>,
    y: &mut [T::Element],
    to: &T,
    scratch: &mut [Line],
) -> bool {
    let able = matches!(cpu.isa(), Isa::Avx512Vnni | Isa::Amx);
    let Some(plan) = Plan::of(&x.window) else {
        return false;
    };
    if !able {
        return false;
    }
    // SAFETY: the processor has this tier.
    #[expect(unsafe_code, reason = "a call of a tier that `Cpu` proves")]
    unsafe {
        all(x, &plan, rows, y, to, scratch);
    }
    true
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn all<T: Target>(
    x: &Depthwise<'_>,
    plan: &Plan,
    rows: Range<usize>,
    y: &mut [T::Element],
    to: &T,
    scratch: &mut [Line],
) {
    let size = plan.block_bytes(&x.window);
    let (parameters, rest) = scratch.split_first_chunk_mut().expect("as asked for");
    let planes = &mut rest[..plan.lines()];
    for (block, weights) in blocks(x.image.dims[2]).zip(x.weights.blocks().chunks_exact(size)) {
        let part = Part {
            x,
            plan,
            block,
            weights,
            first_row: rows.start,
            fits: load_parameters(x, block, to, parameters),
        };
        match block.width {
            64 => part.rows::<64, T>(rows.clone(), y, to, parameters, planes),
            32 => part.rows::<32, T>(rows.clone(), y, to, parameters, planes),
            _ => part.rows::<16, T>(rows.clone(), y, to, parameters, planes),
        }
    }
}

/// One block of channels.
struct Part<'a> {
    x: &'a Depthwise<'a>,
    plan: &'a Plan,
    block: Block,
    weights: &'a [u8],
    /// The row of the result that is the first of `y`.
    first_row: usize,
    fits: bool,
}

impl Part<'_> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn rows<const WIDTH: usize, T: Target>(
        &self,
        rows: Range<usize>,
        y: &mut [T::Element],
        to: &T,
        parameters: &[Line; PARAMETERS],
        planes: &mut [Line],
    ) {
        let three = self.x.window.kernel[1] == 3 && self.plan.groups == 1;
        let mut row = rows.start;
        while row < rows.end {
            let count = match (rows.end - row).min(self.plan.rows) {
                1 => 1,
                2 | 3 => 2,
                _ => 4,
            };
            let tile = self.plan.tile * (64 / WIDTH);
            for column in (0..self.x.result[1]).step_by(tile) {
                let strip = Strip {
                    row,
                    rows: count,
                    column,
                    pixels: tile.min(self.x.result[1] - column),
                };
                self.interleave::<WIDTH>(strip, planes);
                let finish = Finish::of(to, parameters);
                match (count, three, self.fits) {
                    (1, true, true) => self.dots::<WIDTH, 1, 3, true, T>(strip, planes, &finish, y),
                    (1, true, false) => {
                        self.dots::<WIDTH, 1, 3, false, T>(strip, planes, &finish, y)
                    }
                    (2, true, true) => self.dots::<WIDTH, 2, 3, true, T>(strip, planes, &finish, y),
                    (2, true, false) => {
                        self.dots::<WIDTH, 2, 3, false, T>(strip, planes, &finish, y)
                    }
                    (1, false, _) => self.dots::<WIDTH, 1, 0, false, T>(strip, planes, &finish, y),
                    (2, false, _) => self.dots::<WIDTH, 2, 0, false, T>(strip, planes, &finish, y),
                    _ => self.dots::<WIDTH, 4, 0, false, T>(strip, planes, &finish, y),
                }
            }
            row += count;
        }
    }

    /// Writes the columns that the strip needs, four rows interleaved, to the planes: by group, phase and register.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn interleave<const WIDTH: usize>(&self, strip: Strip, planes: &mut [Line]) {
        let (x, plan) = (self.x, self.plan);
        let window = &x.window;
        let [_, width, _] = x.image.dims;
        let [_, left] = window.at([strip.row, strip.column]);
        let around = Line([x.pad; 64]);
        let span = strip.pixels + plan.reach;
        let planes = planes.chunks_exact_mut(plan.plane_lines() * 4);
        for (at, planes) in planes.enumerate().take(plan.groups * plan.phases) {
            let (group, phase) = (at / plan.phases, at % plan.phases);
            if !plan.uses(window, phase) {
                continue;
            }
            let rows = strip.rows_of(x, plan, self.block, group, &around);
            let (lines, pixels) = (plan.plane_lines(), 64 / WIDTH);
            let (step, last) = (pixels * plan.phases, (pixels - 1) * plan.phases);
            let mut pixel = left.wrapping_add(phase);
            for i in 0..span.div_ceil(pixels) {
                let at = match pixel < width && pixel + last < width {
                    true => Pixels::Inside(pixel),
                    false => Pixels::Border(pixel, around.0.as_ptr()),
                };
                let [a, b, c, d] = rows;
                let four = [
                    self.load::<WIDTH>(a, at),
                    self.load::<WIDTH>(b, at),
                    self.load::<WIDTH>(c, at),
                    self.load::<WIDTH>(d, at),
                ];
                store_columns(planes, i, lines, x.image.signed, four);
                pixel = pixel.wrapping_add(step);
            }
        }
    }

    /// As many pixels of a row as fit a register.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn load<const WIDTH: usize>(&self, row: Row, pixels: Pixels) -> __m512i {
        let (phases, [_, width, channels]) = (self.plan.phases, self.x.image.dims);
        let pieces = match pixels {
            Pixels::Inside(pixel) => {
                let first = row.first.wrapping_add(pixel * row.stride);
                let step = row.stride * phases;
                [
                    first,
                    first.wrapping_add(step),
                    first.wrapping_add(2 * step),
                    first.wrapping_add(3 * step),
                ]
            }
            Pixels::Border(pixel, around) => {
                let mut pieces = [around; 4];
                for (i, piece) in pieces.iter_mut().enumerate() {
                    let pixel = pixel.wrapping_add(i * phases);
                    if pixel < width {
                        *piece = row.first.wrapping_add(pixel * row.stride);
                    }
                }
                pieces
            }
        };
        let whole = matches!(pixels, Pixels::Inside(_)) && channels == WIDTH && phases == 1;
        // SAFETY: the pixels are inside of a row, each with the channels of this block, or else they are the line
        // around the image.
        #[expect(unsafe_code, reason = "reads without a check for each pixel")]
        unsafe {
            load_pixels::<WIDTH>(pieces, self.block.count, whole)
        }
    }

    /// `ROWS` rows of results, with `TAPS` positions in the window, or any number if that is 0.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn dots<
        const WIDTH: usize,
        const ROWS: usize,
        const TAPS: usize,
        const FITS: bool,
        T: Target,
    >(
        &self,
        strip: Strip,
        planes: &[Line],
        finish: &Finish<'_>,
        y: &mut [T::Element],
    ) {
        let (x, plan, width) = (self.x, self.plan, self.x.window.kernel[1]);
        let plane = plan.plane_lines() * 64;
        let mut taps = [0; MAX_POSITIONS];
        let count = match TAPS {
            0 => plan.groups * width,
            _ => TAPS,
        };
        for (i, tap) in taps[..count].iter_mut().enumerate() {
            let (group, column) = (i / width, i % width * x.window.dilations[1]);
            *tap = (group * plan.phases + column % plan.phases) * 4 * plane
                + column / plan.phases * WIDTH;
        }
        let taps = &taps[..count];
        let [_, _, channels] = x.image.dims;
        let pixels = 64 / WIDTH;
        let row_len = x.result[1] * channels;
        let start =
            (strip.row - self.first_row) * row_len + strip.column * channels + self.block.first;
        let end = (ROWS - 1) * row_len + (strip.pixels - 1) * channels + self.block.count;
        let y = y[start..][..end].as_mut_ptr();
        let (planes, weights) = (planes.as_ptr().cast::<u8>(), self.weights.as_ptr());
        for pixel in (0..strip.pixels).step_by(pixels) {
            let at = planes.wrapping_add(pixel * WIDTH);
            let mut rounded = [[_mm512_setzero_si512(); 4]; ROWS];
            for register in 0..4 {
                let mut sums = [load(&finish.parameters[4 + register].0); ROWS];
                for (i, tap) in taps.iter().enumerate() {
                    let columns = at.wrapping_add(tap + register * plane);
                    // SAFETY: a plane has a register for each position of the strip and its windows.
                    #[expect(unsafe_code, reason = "reads without a check for each register")]
                    let columns = unsafe { _mm512_loadu_si512(columns.cast()) };
                    for (row, sum) in sums.iter_mut().enumerate() {
                        let w = weights.wrapping_add((row * count + i) * POSITION + register * 64);
                        // SAFETY: weights are packed for all rows that are computed together.
                        #[expect(unsafe_code, reason = "reads without a check for each register")]
                        let w = unsafe { _mm512_loadu_si512(w.cast()) };
                        *sum = _mm512_dpbusd_epi32(*sum, columns, w);
                    }
                }
                for (rounded, sum) in rounded.iter_mut().zip(sums) {
                    rounded[register] = match T::FLOATS {
                        true => finish.value(sum, register),
                        false => finish.rounded::<FITS>(sum, register),
                    };
                }
            }
            let wanted = (strip.pixels - pixel).min(pixels);
            for (row, rounded) in rounded.into_iter().enumerate() {
                let to = y.wrapping_add(row * row_len + pixel * channels);
                if T::FLOATS {
                    // SAFETY: these pixels are within the part of the result that has been sliced, of floats.
                    #[expect(unsafe_code, reason = "stores without a check for each pixel")]
                    unsafe {
                        self.store_floats::<WIDTH>(to.cast(), rounded, wanted);
                    }
                    continue;
                }
                let bytes = finish.bytes(rounded);
                // SAFETY: the same, of bytes.
                #[expect(unsafe_code, reason = "stores without a check for each pixel")]
                unsafe {
                    self.store_pixels::<WIDTH>(to.cast(), bytes, wanted);
                }
            }
        }
    }

    /// Stores the first `wanted` pixels of floats.
    ///
    /// # Safety
    /// These pixels of the block can be written.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[expect(unsafe_code, reason = "stores through a pointer")]
    unsafe fn store_floats<const WIDTH: usize>(
        &self,
        y: *mut f32,
        values: [__m512i; 4],
        wanted: usize,
    ) {
        let (channels, count) = (self.x.image.dims[2], self.block.count);
        for (i, values) in quarters(values).into_iter().enumerate() {
            let (pixel, channel) = (i * 16 / WIDTH, i * 16 % WIDTH);
            if pixel < wanted && channel < count {
                let mask = u16::MAX >> (16 - (count - channel).min(16));
                let to = y.wrapping_add(pixel * channels + channel);
                // SAFETY: the caller's guarantee, for the channels that there are.
                unsafe { _mm512_mask_storeu_epi32(to.cast(), mask, values) }
            }
        }
    }

    /// Stores the first `wanted` pixels of bytes.
    ///
    /// # Safety
    /// These pixels of the block can be written.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[expect(unsafe_code, reason = "stores through a pointer")]
    unsafe fn store_pixels<const WIDTH: usize>(&self, y: *mut u8, bytes: __m512i, wanted: usize) {
        let (channels, count) = (self.x.image.dims[2], self.block.count);
        if WIDTH == 64 || channels == WIDTH {
            let count = (wanted - 1) * WIDTH + count;
            // SAFETY: the caller's guarantee: the pixels are one stretch of bytes.
            unsafe {
                _mm512_mask_storeu_epi8(y.cast(), u64::MAX >> (64 - count), bytes);
            }
            return;
        }
        if WIDTH == 32 {
            let pieces = [
                _mm512_castsi512_si256(bytes),
                _mm512_extracti64x4_epi64::<1>(bytes),
            ];
            for (i, piece) in pieces.into_iter().enumerate().take(wanted) {
                let to = y.wrapping_add(i * channels);
                // SAFETY: the caller's guarantee.
                unsafe { _mm256_mask_storeu_epi8(to.cast(), u32::MAX >> (32 - count), piece) }
            }
            return;
        }
        let pieces = [
            _mm512_castsi512_si128(bytes),
            _mm512_extracti32x4_epi32::<1>(bytes),
            _mm512_extracti32x4_epi32::<2>(bytes),
            _mm512_extracti32x4_epi32::<3>(bytes),
        ];
        for (i, piece) in pieces.into_iter().enumerate().take(wanted) {
            let to = y.wrapping_add(i * channels);
            // SAFETY: the caller's guarantee.
            unsafe { _mm_mask_storeu_epi8(to.cast(), u16::MAX >> (16 - count), piece) }
        }
    }
}

/// Pixels of a row beside each other, from one on.
#[derive(Clone, Copy)]
enum Pixels {
    /// All of them inside of the image.
    Inside(usize),
    /// Some of them outside; and what stands for these.
    Border(usize, *const u8),
}

/// Interleaves four rows and stores them as register `i` of each of the four planes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store_columns(planes: &mut [Line], i: usize, lines: usize, signed: bool, rows: [__m512i; 4]) {
    let [mut a, mut b, mut c, mut d] = rows;
    if signed {
        let flip = _mm512_set1_epi8(-128);
        a = _mm512_xor_si512(a, flip);
        b = _mm512_xor_si512(b, flip);
        c = _mm512_xor_si512(c, flip);
        d = _mm512_xor_si512(d, flip);
    }
    let (low, high) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
    let (other_low, other_high) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
    store(&mut planes[i], _mm512_unpacklo_epi16(low, other_low));
    store(
        &mut planes[lines + i],
        _mm512_unpackhi_epi16(low, other_low),
    );
    store(
        &mut planes[2 * lines + i],
        _mm512_unpacklo_epi16(high, other_high),
    );
    store(
        &mut planes[3 * lines + i],
        _mm512_unpackhi_epi16(high, other_high),
    );
}
