//! [`Depthwise`]: convolutions with one input channel for each output channel, over a channels-last image.
//!
//! Each sum has few terms, so that moving bytes is what costs. With dot products of four bytes the
//! terms of a sum are taken from four *rows* of the image, one below the other: four rows of 64
//! bytes, interleaved, are four registers in which each 32 bits hold a column of one channel.
//! That is done once for each column of the image, in a scratch that stays in the first-level
//! cache; all positions of a window, and the next rows of the result by weights moved down, read
//! what has been interleaved:
//!
//! ```text
//! row y-1   a0 a1 a2 ...            result y:     (w0 w1 w2 0)
//! row y     b0 b1 b2 ...     =>     a0 b0 c0 d0 | a1 b1 c1 d1 | ...
//! row y+1   c0 c1 c2 ...            result y+1:   (0 w0 w1 w2)
//! row y+2   d0 d1 d2 ...
//! ```
//!
//! AVX2 has dot products of two numbers of 16 bits: it takes rows by twos. Other tiers run the
//! plain loop below, which defines the result.

#[cfg(all(target_arch = "x86_64", feature = "avx2"))]
mod avx2;
#[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
mod avx512;
mod pack;
#[cfg(all(target_arch = "x86_64", any(feature = "avx2", feature = "avx512vnni")))]
mod strip;
mod target;

use core::ops::Range;

pub use pack::{DepthwiseWeights, depthwise_packed_len, pack_depthwise};
pub use target::Dequantize;
use target::Target;

use crate::{
    Cpu, Line, Requantize,
    image::{Image, Window},
    residual,
    tiers::tiers,
};

/// Channels that the plain loop takes at a time.
const CHUNK: usize = 32;

/// A depthwise convolution, see the [module](self).
///
/// `y[r, s, c] = requantize(Σ x[r·stride + i·dilation - pad, ..., c] · w[c, i, j] + offset[c])`, where what lies around
/// the image is the byte `pad`.
#[derive(Clone, Copy, Debug)]
pub struct Depthwise<'a> {
    /// The image.
    pub image: Image<'a>,
    /// The byte around it: its zero point.
    pub pad: u8,
    /// How the kernel lies.
    pub window: Window,
    /// The kernel, packed for this window.
    pub weights: DepthwiseWeights<'a>,
    /// Added to the sums, by channel: the bias less `zero · Σw`, for the zero point of the image.
    pub offset: &'a [i32],
    /// Rows and columns of the result.
    pub result: [usize; 2],
}

/// Lines of scratch memory that a depthwise convolution with such a window needs.
pub fn depthwise_scratch_lines(window: &Window) -> usize {
    pack::Plan::of(window).map_or(0, |plan| plan.scratch_lines(window))
}

impl Depthwise<'_> {
    /// Computes `rows` of the result into `y`, which is these rows, as is the residual, if there is one.
    ///
    /// # Panics
    /// Sizes that do not fit together, or a residual without data.
    pub fn run(
        &self,
        cpu: Cpu,
        rows: Range<usize>,
        y: &mut [u8],
        to: &Requantize<'_>,
        scratch: &mut [Line],
    ) {
        self.check(rows.clone(), y.len(), to, scratch);
        let other = to.residual.as_ref().map(|residual| {
            let data = residual.data.expect("a residual that is not the result");
            assert!(data.len() == y.len() && !residual.row, "the residual");
            (residual, data)
        });
        if y.is_empty() {
            return;
        }
        if !self.by_vectors(cpu, rows.clone(), y, to, scratch) {
            plain(cpu, self, rows, y, to);
        }
        if let Some((residual, data)) = other {
            residual::add(cpu, y, data, to.zero, to.bounds[0] < 0, residual);
        }
    }

    /// The same, with floats as the result.
    ///
    /// # Panics
    /// Sizes that do not fit together.
    pub fn run_floats(
        &self,
        cpu: Cpu,
        rows: Range<usize>,
        y: &mut [f32],
        to: &Dequantize<'_>,
        scratch: &mut [Line],
    ) {
        self.check(rows.clone(), y.len(), to, scratch);
        if !y.is_empty() && !self.by_vectors(cpu, rows.clone(), y, to, scratch) {
            plain_floats(cpu, self, rows, y, to);
        }
    }

    fn check(&self, rows: Range<usize>, len: usize, to: &impl Target, scratch: &[Line]) {
        let [_, _, channels] = self.image.dims;
        self.image.check();
        self.window.check();
        assert_eq!(
            self.weights.window, self.window,
            "weights of another window"
        );
        assert_eq!(self.weights.channels, channels, "weights of other channels");
        assert!(
            self.weights.data.len() >= depthwise_packed_len(&self.window, channels),
            "packed weights"
        );
        assert_eq!(self.offset.len(), channels, "an offset for each channel");
        assert_eq!(to.scale().len(), channels, "a scale for each channel");
        assert!(
            [0, channels].contains(&to.bias().len()),
            "a bias for each channel, or none"
        );
        assert!(
            rows.start <= rows.end && rows.end <= self.result[0],
            "rows of the result"
        );
        let pixels = rows.len().checked_mul(self.result[1]);
        let size = pixels.and_then(|pixels| pixels.checked_mul(channels));
        assert_eq!(Some(len), size, "the result");
        assert!(
            scratch.len() >= depthwise_scratch_lines(&self.window),
            "scratch memory"
        );
    }

    /// Computes the rows, if a vector tier can.
    fn by_vectors<T: Target>(
        &self,
        cpu: Cpu,
        rows: Range<usize>,
        y: &mut [T::Element],
        to: &T,
        scratch: &mut [Line],
    ) -> bool {
        if !self.weights.narrow || !to.is_plain() {
            return false;
        }
        #[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
        if avx512::run(self, cpu, rows.clone(), y, to, scratch) {
            return true;
        }
        #[cfg(all(target_arch = "x86_64", feature = "avx2"))]
        if avx2::run(self, cpu, rows.clone(), y, to, scratch) {
            return true;
        }
        let _ = (cpu, rows, y, scratch);
        false
    }

    #[inline(always)]
    fn plain<T: Target>(&self, rows: Range<usize>, y: &mut [T::Element], to: &T) {
        match self.image.signed {
            true => self.plain_of::<true, T>(rows, y, to),
            false => self.plain_of::<false, T>(rows, y, to),
        }
    }

    #[inline(always)]
    fn plain_of<const SIGNED: bool, T: Target>(
        &self,
        rows: Range<usize>,
        y: &mut [T::Element],
        to: &T,
    ) {
        let [_, _, channels] = self.image.dims;
        let padded = channels.next_multiple_of(CHUNK);
        let row_len = self.result[1] * channels;
        for first in (0..channels).step_by(CHUNK) {
            let count = CHUNK.min(channels - first);
            let mut offset = [0; CHUNK];
            offset[..count].copy_from_slice(&self.offset[first..][..count]);
            let mut scale = [0.0; CHUNK];
            scale[..count].copy_from_slice(&to.scale()[first..][..count]);
            let mut bias = [0.0; CHUNK];
            if let Some(some) = to.bias().get(first..first + count) {
                bias[..count].copy_from_slice(some);
            }
            let weights = &self.weights.plain()[first * 2..];
            for (row, y) in rows.clone().zip(y.chunks_exact_mut(row_len)) {
                for (column, y) in y.chunks_exact_mut(channels).enumerate() {
                    let at = self.window.at([row, column]);
                    let sums = self.sums::<SIGNED>(at, first..first + count, weights, padded);
                    let mut elements = [T::Element::default(); CHUNK];
                    for i in 0..CHUNK {
                        let sum = sums[i].wrapping_add(offset[i]);
                        elements[i] = to.element(sum, scale[i], bias[i]);
                    }
                    let y = &mut y[first..];
                    match y.first_chunk_mut() {
                        Some(y) => *y = elements,
                        None => y.copy_from_slice(&elements[..count]),
                    }
                }
            }
        }
    }

    /// The sums of some channels in the window that begins at a place. `padded` is the number of
    /// weights from tap to tap.
    #[inline(always)]
    fn sums<const SIGNED: bool>(
        &self,
        [top, left]: [usize; 2],
        some: Range<usize>,
        weights: &[u8],
        padded: usize,
    ) -> [i32; CHUNK] {
        let Window {
            kernel, dilations, ..
        } = self.window;
        let [height, width, channels] = self.image.dims;
        let around = [self.pad; CHUNK];
        let mut sums = [0i32; CHUNK];
        for i in 0..kernel[0] {
            let row = top.wrapping_add(i * dilations[0]);
            for j in 0..kernel[1] {
                let column = left.wrapping_add(j * dilations[1]);
                let mut copy = around;
                let x = match row < height && column < width {
                    false => &around,
                    true => {
                        let x = &self.image.data[(row * width + column) * channels + some.start..];
                        match x.first_chunk() {
                            Some(x) => x,
                            None => {
                                copy[..some.len()].copy_from_slice(&x[..some.len()]);
                                &copy
                            }
                        }
                    }
                };
                let w = &weights[(i * kernel[1] + j) * padded * 2..][..CHUNK * 2];
                for c in 0..CHUNK {
                    let x = match SIGNED {
                        true => i32::from(x[c] as i8),
                        false => i32::from(x[c]),
                    };
                    let w = i16::from_le_bytes([w[2 * c], w[2 * c + 1]]);
                    sums[c] = sums[c].wrapping_add(x * i32::from(w));
                }
            }
        }
        sums
    }
}

tiers! {
    fn plain(x: &Depthwise<'_>, rows: Range<usize>, y: &mut [u8], to: &Requantize<'_>) {
        x.plain(rows, y, to);
    }

    fn plain_floats(x: &Depthwise<'_>, rows: Range<usize>, y: &mut [f32], to: &Dequantize<'_>) {
        x.plain(rows, y, to);
    }
}
