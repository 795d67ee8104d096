//! Dot products of two rows at a time, by AVX2. See the [module above](super).
//!
//! The bytes of four rows and a column become 16 bits wide: two planes, with rows 0 and 1 and with
//! rows 2 and 3, each with four registers of eight channels. Weights of four rows, as they are
//! packed, are cut in two likewise.

use core::{arch::x86_64::*, ops::Range};

use super::{
    Depthwise,
    pack::{Block, MAX_POSITIONS, PARAMETERS, POSITION, Plan, blocks},
    strip::{Row, Strip, load_parameters},
    target::Target,
};
use crate::{Cpu, Isa, Line};

/// Channels that are computed together.
const WIDTH: usize = 32;

/// Computes rows of the result, if the processor and the window are fit for it.
pub(super) fn run<T: Target>(
    x: &Depthwise<'_>,
    cpu: Cpu,
    rows: Range<usize>,
    y: &mut [T::Element],
    to: &T,
    scratch: &mut [Line],
) -> bool {
    let able = matches!(cpu.isa(), Isa::Avx2 | Isa::AvxVnni);
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

#[target_feature(enable = "avx2")]
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
    let (planes, weights) = rest.split_at_mut(plan.lines());
    for (whole, packed) in blocks(x.image.dims[2]).zip(x.weights.blocks().chunks_exact(size)) {
        load_parameters(x, whole, to, parameters);
        for half in 0..whole.count.div_ceil(WIDTH) {
            let block = Block {
                first: whole.first + half * WIDTH,
                count: WIDTH.min(whole.count - half * WIDTH),
                width: WIDTH,
            };
            widen(packed, half, weights);
            let part = Part {
                x,
                plan,
                block,
                half,
                first_row: rows.start,
                weights,
                parameters,
            };
            part.rows(rows.clone(), planes, to, y);
        }
    }
}

/// The weights of one half of the channels, 16 bits each: of rows 0 and 1, then of rows 2 and 3, for each position.
#[target_feature(enable = "avx2")]
fn widen(packed: &[u8], half: usize, to: &mut [Line]) {
    // Two of four bytes, each as the high byte of 16 bits.
    let order = |first: usize| {
        load(&core::array::from_fn(|i| match i % 2 {
            0 => 0x80,
            _ => (i / 4 % 4 * 4 + i % 4 / 2 + first) as u8,
        }))
    };
    let orders = [order(0), order(2)];
    for (from, to) in packed.chunks_exact(POSITION).zip(to.chunks_exact_mut(4)) {
        for (register, from) in from.chunks_exact(64).enumerate() {
            let bytes = load(from[half * 32..].first_chunk().expect("64 bytes"));
            for (pair, order) in orders.into_iter().enumerate() {
                let wide = _mm256_srai_epi16::<8>(_mm256_shuffle_epi8(bytes, order));
                let at = pair * 4 + register;
                store(
                    to[at / 2].0[at % 2 * 32..]
                        .first_chunk_mut()
                        .expect("half a line"),
                    wide,
                );
            }
        }
    }
}

/// One block of channels.
struct Part<'a> {
    x: &'a Depthwise<'a>,
    plan: &'a Plan,
    block: Block,
    /// Which half of the parameters is meant.
    half: usize,
    /// The row of the result that is the first of `y`.
    first_row: usize,
    weights: &'a [Line],
    parameters: &'a [Line; PARAMETERS],
}

impl Part<'_> {
    #[target_feature(enable = "avx2")]
    fn rows<T: Target>(
        &self,
        rows: Range<usize>,
        planes: &mut [Line],
        to: &T,
        y: &mut [T::Element],
    ) {
        let three = self.x.window.kernel[1] == 3 && self.plan.groups == 1;
        let mut row = rows.start;
        while row < rows.end {
            let count = match (rows.end - row).min(self.plan.rows) {
                1 => 1,
                2 | 3 => 2,
                _ => 4,
            };
            for column in (0..self.x.result[1]).step_by(self.plan.tile) {
                let strip = Strip {
                    row,
                    rows: count,
                    column,
                    pixels: self.plan.tile.min(self.x.result[1] - column),
                };
                self.interleave(strip, planes);
                match (count, three) {
                    (1, true) => self.dots::<1, 3, T>(strip, planes, to, y),
                    (2, true) => self.dots::<2, 3, T>(strip, planes, to, y),
                    (1, false) => self.dots::<1, 0, T>(strip, planes, to, y),
                    (2, false) => self.dots::<2, 0, T>(strip, planes, to, y),
                    _ => self.dots::<4, 0, T>(strip, planes, to, y),
                }
            }
            row += count;
        }
    }

    /// Writes the columns that the strip needs to the planes: by group, phase and position, 256 bytes each.
    #[inline(never)]
    #[target_feature(enable = "avx2")]
    fn interleave(&self, strip: Strip, planes: &mut [Line]) {
        let (x, plan) = (self.x, self.plan);
        let [_, left] = x.window.at([strip.row, strip.column]);
        let around = Line([x.pad; 64]);
        let span = strip.pixels + plan.reach;
        let flip = _mm256_set1_epi8(if x.image.signed { -128 } else { 0 });
        let planes = planes.chunks_exact_mut(plan.plane_lines() * 4);
        for (at, plane) in planes.enumerate() {
            let (group, phase) = (at / plan.phases, at % plan.phases);
            if !plan.uses(&x.window, phase) {
                continue;
            }
            let [a, b, c, d] = strip.rows_of(x, plan, self.block, group, &around);
            let positions = plane.as_chunks_mut::<4>().0.iter_mut().take(span);
            for (i, to) in positions.enumerate() {
                let pixel = left.wrapping_add(i * plan.phases + phase);
                let pixel = (pixel < x.image.dims[1]).then_some(pixel);
                let a = _mm256_xor_si256(self.load(a, pixel, &around), flip);
                let b = _mm256_xor_si256(self.load(b, pixel, &around), flip);
                let c = _mm256_xor_si256(self.load(c, pixel, &around), flip);
                let d = _mm256_xor_si256(self.load(d, pixel, &around), flip);
                let [first, second, third, fourth] = to;
                store_pairs([first, second], a, b);
                store_pairs([third, fourth], c, d);
            }
        }
    }

    /// A pixel of a row.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(&self, row: Row, pixel: Option<usize>, around: &Line) -> __m256i {
        let from = match pixel {
            Some(pixel) => row.first.wrapping_add(pixel * row.stride),
            None => around.0.as_ptr(),
        };
        if self.block.count == WIDTH || pixel.is_none() || row.stride == 0 {
            // SAFETY: the pixel is inside of the row and has these channels, or it is the line around the image.
            #[expect(unsafe_code, reason = "a read without a check for each pixel")]
            return unsafe { _mm256_loadu_si256(from.cast()) };
        }
        // SAFETY: as above, with fewer channels.
        #[expect(unsafe_code, reason = "a read without a check for each pixel")]
        let from = unsafe { core::slice::from_raw_parts(from, self.block.count) };
        let mut bytes = [0; WIDTH];
        bytes[..from.len()].copy_from_slice(from);
        load(&bytes)
    }

    /// `ROWS` rows of results, with `TAPS` positions in the window, or any number if that is 0.
    #[inline(never)]
    #[target_feature(enable = "avx2")]
    fn dots<const ROWS: usize, const TAPS: usize, T: Target>(
        &self,
        strip: Strip,
        planes: &[Line],
        to: &T,
        y: &mut [T::Element],
    ) {
        let (x, plan, width) = (self.x, self.plan, self.x.window.kernel[1]);
        let mut taps = [0; MAX_POSITIONS];
        let count = match TAPS {
            0 => plan.groups * width,
            _ => TAPS,
        };
        for (i, tap) in taps[..count].iter_mut().enumerate() {
            let (group, column) = (i / width, i % width * x.window.dilations[1]);
            *tap = (group * plan.phases + column % plan.phases) * plan.plane_lines() * POSITION
                + column / plan.phases * POSITION;
        }
        let finish = Finish::of(to);
        let [_, _, channels] = x.image.dims;
        let row_len = x.result[1] * channels;
        let start =
            (strip.row - self.first_row) * row_len + strip.column * channels + self.block.first;
        let y = &mut y[start..];
        let (planes, weights) = (
            planes.as_ptr().cast::<u8>(),
            self.weights.as_ptr().cast::<u8>(),
        );
        for pixel in 0..strip.pixels {
            let at = planes.wrapping_add(pixel * POSITION);
            let mut rounded = [[_mm256_setzero_si256(); 4]; ROWS];
            for register in 0..4 {
                let mut sums = [self.parameter(4 + register); ROWS];
                for (i, tap) in taps[..count].iter().enumerate() {
                    for pair in 0..2 {
                        let within = (pair * 4 + register) * 32;
                        let columns = at.wrapping_add(tap + within);
                        // SAFETY: a plane has each position of the strip and its windows.
                        #[expect(unsafe_code, reason = "an unchecked read")]
                        let columns = unsafe { _mm256_load_si256(columns.cast()) };
                        for (row, sum) in sums.iter_mut().enumerate() {
                            let w = weights.wrapping_add((row * count + i) * POSITION + within);
                            // SAFETY: weights are packed for all rows that are computed together.
                            #[expect(unsafe_code, reason = "an unchecked read")]
                            let w = unsafe { _mm256_load_si256(w.cast()) };
                            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(columns, w));
                        }
                    }
                }
                let scale = _mm256_castsi256_ps(self.parameter(register));
                for (rounded, sum) in rounded.iter_mut().zip(sums) {
                    if T::FLOATS {
                        let bias = _mm256_castsi256_ps(self.parameter(8 + register));
                        rounded[register] = finish.value(sum, scale, bias);
                        continue;
                    }
                    let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale);
                    // NaN is what comes of the second operand, and becomes the lowest number.
                    let scaled = _mm256_min_ps(_mm256_set1_ps(65536.0), scaled);
                    rounded[register] = _mm256_cvtps_epi32(scaled);
                }
            }
            for (row, rounded) in rounded.into_iter().enumerate() {
                let to = &mut y[row * row_len + pixel * channels..];
                if T::FLOATS {
                    let to = &mut to[..self.block.count];
                    // SAFETY: elements are floats where `FLOATS` is true.
                    #[expect(unsafe_code, reason = "a cast that the type does not show")]
                    let to = unsafe {
                        core::slice::from_raw_parts_mut(to.as_mut_ptr().cast(), to.len())
                    };
                    store_floats(rounded, to);
                    continue;
                }
                // SAFETY: elements are bytes where `FLOATS` is false.
                #[expect(unsafe_code, reason = "a cast that the type does not show")]
                let to =
                    unsafe { core::slice::from_raw_parts_mut(to.as_mut_ptr().cast(), to.len()) };
                let bytes = finish.bytes(rounded);
                if self.block.count == WIDTH {
                    store(to.first_chunk_mut().expect("a block of channels"), bytes);
                } else {
                    let mut all = [0; WIDTH];
                    store(&mut all, bytes);
                    to[..self.block.count].copy_from_slice(&all[..self.block.count]);
                }
            }
        }
    }

    /// Scales and offsets of this half.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn parameter(&self, line: usize) -> __m256i {
        load(&self.parameters[line].0.as_chunks().0[self.half])
    }
}

/// What makes bytes of rounded numbers, and floats of sums. Signed results are computed as unsigned ones, 128 higher.
struct Finish {
    zero: __m256i,
    low: __m256i,
    high: __m256i,
    flip: __m256i,
    least: __m256,
    most: __m256,
}

impl Finish {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn of(to: &impl Target) -> Finish {
        let ((zero, bounds), [least, most]) = (to.codes(), to.clamp());
        let up = if bounds[0] < 0 { 128 } else { 0 };
        let bytes = |v: i32| _mm256_set1_epi8((v + up) as u8 as i8);
        Finish {
            zero: _mm256_set1_epi16((zero + up) as i16),
            low: bytes(bounds[0]),
            high: bytes(bounds[1]),
            flip: _mm256_set1_epi8(up as u8 as i8),
            least: _mm256_set1_ps(least),
            most: _mm256_set1_ps(most),
        }
    }

    /// The bits of `clamp(f32(sum) · scale + bias)`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn value(&self, sum: __m256i, scale: __m256, bias: __m256) -> __m256i {
        let value = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale), bias);
        // NaN is what comes of the second operand.
        let value = _mm256_min_ps(self.most, _mm256_max_ps(self.least, value));
        _mm256_castps_si256(value)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn bytes(&self, [a, b, c, d]: [__m256i; 4]) -> __m256i {
        let low = _mm256_adds_epi16(_mm256_packs_epi32(a, b), self.zero);
        let high = _mm256_adds_epi16(_mm256_packs_epi32(c, d), self.zero);
        let bytes = _mm256_packus_epi16(low, high);
        let bytes = _mm256_min_epu8(_mm256_max_epu8(bytes, self.low), self.high);
        _mm256_xor_si256(bytes, self.flip)
    }
}

/// Stores floats of as many channels as `y` has, from registers that have four channels of each half.
#[inline]
#[target_feature(enable = "avx2")]
fn store_floats([a, b, c, d]: [__m256i; 4], y: &mut [f32]) {
    let parts = [
        _mm256_permute2x128_si256::<0x20>(a, b),
        _mm256_permute2x128_si256::<0x20>(c, d),
        _mm256_permute2x128_si256::<0x31>(a, b),
        _mm256_permute2x128_si256::<0x31>(c, d),
    ];
    for (y, part) in y.chunks_mut(8).zip(parts) {
        let mut bytes = [0; 32];
        store(&mut bytes, part);
        for (y, bytes) in y.iter_mut().zip(bytes.as_chunks().0) {
            *y = f32::from_ne_bytes(*bytes);
        }
    }
}

/// Two rows of bytes, interleaved and 16 bits wide.
#[inline]
#[target_feature(enable = "avx2")]
fn store_pairs([first, second]: [&mut Line; 2], a: __m256i, b: __m256i) {
    let none = _mm256_setzero_si256();
    let (low, high) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
    let [to0, to1] = halves(first);
    store(to0, _mm256_unpacklo_epi8(low, none));
    store(to1, _mm256_unpackhi_epi8(low, none));
    let [to2, to3] = halves(second);
    store(to2, _mm256_unpacklo_epi8(high, none));
    store(to3, _mm256_unpackhi_epi8(high, none));
}

#[inline]
fn halves(line: &mut Line) -> [&mut [u8; 32]; 2] {
    let (first, second) = line.0.split_at_mut(32);
    [
        first.first_chunk_mut().expect("half a line"),
        second.first_chunk_mut().expect("half a line"),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "a load")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: these are 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "a store")]
fn store(bytes: &mut [u8; 32], value: __m256i) {
    // SAFETY: these are 32 bytes.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), value) }
}
