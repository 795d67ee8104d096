//! Pooling of channels-last images of bytes.

use core::ops::Range;

use crate::{
    Cpu, Quantize, Quantized,
    elementwise::CHUNK,
    image::{Image, Window},
    tiers::tiers,
};

/// A pooling: `result` rows and columns of windows over an image. What is outside of the image is left out.
#[derive(Clone, Copy, Debug)]
pub struct Pool<'a> {
    /// The image.
    pub image: Image<'a>,
    /// The window.
    pub window: Window,
    /// Rows and columns of the result.
    pub result: [usize; 2],
}

/// How averages are made.
#[derive(Clone, Copy, Debug)]
pub struct Average {
    /// Scale and zero point of the image.
    pub from: Quantized,
    /// Those of the result.
    pub to: Quantize,
    /// Padding below and right of the image, if averages are over all positions within the image and its
    /// padding; without it they are over those within the image.
    pub padding: Option<[usize; 2]>,
    /// Whether the zero point is added before rounding, as QLinearAveragePool does, or after it, as QuantizeLinear.
    pub zero_first: bool,
}

impl Average {
    /// One average.
    #[inline(always)]
    fn exact(&self, sum: f32, count: f32) -> u8 {
        let to = self.to;
        let scaled = sum / count / to.scale;
        match self.zero_first {
            true => Quantize { zero: 0, ..to }.rounded(scaled + to.zero as f32),
            false => to.rounded(scaled),
        }
    }
}

impl Pool<'_> {
    fn check(&self, rows: &Range<usize>, y: &[u8]) {
        self.window.check();
        self.image.check();
        assert!(
            rows.start <= rows.end && rows.end <= self.result[0],
            "rows of the result"
        );
        let pixels = rows.len() * self.result[1];
        assert_eq!(y.len(), pixels * self.image.dims[2], "the result");
    }

    /// The largest of each window; the lowest value where there is nothing. Computes `rows` of the result, which are `y`.
    ///
    /// # Panics
    /// Sizes that do not fit together.
    pub fn max(&self, cpu: Cpu, rows: Range<usize>, y: &mut [u8]) {
        self.check(&rows, y);
        if !y.is_empty() {
            largest(cpu, self, rows, y);
        }
    }

    /// The averages of each window: sums of floats in the order of rows and columns, divided, and quantized.
    /// Computes `rows` of the result, which are `y`.
    ///
    /// # Panics
    /// Sizes that do not fit together.
    pub fn average(&self, cpu: Cpu, by: &Average, rows: Range<usize>, y: &mut [u8]) {
        self.check(&rows, y);
        if !y.is_empty() {
            average(cpu, self, by, rows, y);
        }
    }

    /// Positions of the window along an axis that are inside of the image, and where the first of them is in it.
    #[inline(always)]
    fn inside(&self, axis: usize, place: usize) -> (usize, usize) {
        let (stride, dilation) = (self.window.strides[axis], self.window.dilations[axis]);
        let (start, pad, size) = (
            place * stride,
            self.window.pads[axis],
            self.image.dims[axis],
        );
        let skip = pad.saturating_sub(start).div_ceil(dilation);
        let first = (start + skip * dilation).saturating_sub(pad);
        let fit = size.saturating_sub(first).div_ceil(dilation);
        (
            fit.min(self.window.kernel[axis].saturating_sub(skip)),
            first,
        )
    }

    /// Positions of a window along an axis that are counted.
    fn count(&self, axis: usize, place: usize, padding: Option<[usize; 2]>) -> usize {
        let Window {
            kernel,
            strides,
            dilations,
            pads,
        } = self.window;
        // Counted from the first element of the padding.
        let start = place * strides[axis];
        let size = self.image.dims[axis] + pads[axis];
        let inside = match padding {
            Some(end) => 0..size + end[axis],
            None => pads[axis]..size,
        };
        (0..kernel[axis])
            .filter(|tap| inside.contains(&(start + tap * dilations[axis])))
            .count()
    }

    /// Folds `count` channels, at most `CHUNK`, from `channel` on, of each pixel of a window, in order.
    #[inline(always)]
    fn fold<T: Copy>(
        &self,
        [rows, columns]: [(usize, usize); 2],
        channel: usize,
        count: usize,
        first: T,
        f: impl Fn(T, u8) -> T,
    ) -> [T; CHUNK] {
        let [_, width, channels] = self.image.dims;
        let [down, right] = self.window.dilations;
        let mut folded = [first; CHUNK];
        for i in 0..rows.0 {
            let row = (rows.1 + i * down) * width + columns.1;
            for j in 0..columns.0 {
                let x = &self.image.data[(row + j * right) * channels + channel..];
                // Where there are fewer channels, what follows them is folded as well, for nobody: that takes no time.
                let mut some = [0; CHUNK];
                let x = match x.first_chunk() {
                    Some(x) => x,
                    None => {
                        some[..count].copy_from_slice(&x[..count]);
                        &some
                    }
                };
                for c in 0..CHUNK {
                    folded[c] = f(folded[c], x[c]);
                }
            }
        }
        folded
    }

    #[inline(always)]
    fn largest<const FLIP: u8>(&self, rows: Range<usize>, y: &mut [u8]) {
        let channels = self.image.dims[2];
        let mut at = 0;
        for row in rows {
            let high = self.inside(0, row);
            for column in 0..self.result[1] {
                let window = [high, self.inside(1, column)];
                for channel in (0..channels).step_by(CHUNK) {
                    let count = CHUNK.min(channels - channel);
                    let most =
                        self.fold(window, channel, count, 0, |most: u8, x| most.max(x ^ FLIP));
                    put(most.map(|most| most ^ FLIP), count, &mut y[at..]);
                    at += count;
                }
            }
        }
    }
}

/// `count` bytes, or more of them: what follows has yet to be written.
#[inline(always)]
fn put(bytes: [u8; CHUNK], count: usize, y: &mut [u8]) {
    match y.first_chunk_mut() {
        Some(y) => *y = bytes,
        None => y[..count].copy_from_slice(&bytes[..count]),
    }
}

tiers! {
    fn largest(x: &Pool<'_>, rows: Range<usize>, y: &mut [u8]) {
        match x.image.signed {
            true => x.largest::<0x80>(rows, y),
            false => x.largest::<0>(rows, y),
        }
    }

    fn average(x: &Pool<'_>, by: &Average, rows: Range<usize>, y: &mut [u8]) {
        let channels = x.image.dims[2];
        let mut at = 0;
        for row in rows {
            let (inside, high) = (x.inside(0, row), x.count(0, row, by.padding));
            for column in 0..x.result[1] {
                let window = [inside, x.inside(1, column)];
                let count = (high * x.count(1, column, by.padding)) as f32;
                for channel in (0..channels).step_by(CHUNK) {
                    let some = CHUNK.min(channels - channel);
                    let sums = x.fold(window, channel, some, 0f32, |sum, x| sum + by.from.real(x));
                    let mut bytes = [0; CHUNK];
                    if !by.to.approximate(count * by.to.scale, &sums, &mut bytes) {
                        for c in 0..CHUNK {
                            bytes[c] = by.exact(sums[c], count);
                        }
                    }
                    put(bytes, some, &mut y[at..]);
                    at += some;
                }
            }
        }
    }

    /// Averages of some channels of pixels of `channels`.
    fn means(x: &[u8], channels: usize, from: Quantized, to: Quantize, y: &mut [u8]) {
        let pixels = (x.len() / channels) as f64;
        for (i, y) in y.chunks_mut(CHUNK).enumerate() {
            let mut sums = [0f64; CHUNK];
            for x in x.chunks_exact(channels) {
                let x = &x[i * CHUNK..][..y.len()];
                if let Some(x) = x.first_chunk::<CHUNK>() {
                    for c in 0..CHUNK {
                        sums[c] += f64::from(from.real(x[c]));
                    }
                    continue;
                }
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum += f64::from(from.real(*x));
                }
            }
            for (y, sum) in y.iter_mut().zip(sums) {
                *y = to.exact((sum / pixels) as f32);
            }
        }
    }

    /// `sums` are of the bytes as unsigned, flipped ones.
    fn add_pixels(x: &[u8], flip: u8, channels: usize, sums: &mut [u16]) {
        for x in x.chunks_exact(channels) {
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum += u16::from(x ^ flip);
            }
        }
    }
}

/// The average of all pixels of each channel, as QLinearGlobalAveragePool does it:
/// `clamp(rne(Σ(q - zero) · (scale / (to.scale · pixels))) + to.zero)`.
///
/// # Panics
/// Sizes that do not fit together.
pub fn global_average(cpu: Cpu, x: &[u8], from: Quantized, to: Quantize, y: &mut [u8]) {
    let channels = y.len();
    if channels == 0 {
        return;
    }
    assert!(x.len().is_multiple_of(channels), "pixels of an image");
    let pixels = x.len() / channels;
    let factor = from.scale / (to.scale * pixels as f32);
    let flip = if from.signed { 0x80u8 } else { 0 };
    let zeros = (pixels as i64).wrapping_mul(i64::from(from.zero) + i64::from(flip));
    // As many channels at a time as there is room for sums; as many pixels as 16 bits hold.
    const ROOM: usize = 512;
    const PIXELS: usize = 257;
    for (i, y) in y.chunks_mut(ROOM).enumerate() {
        let (mut wide, first) = ([0i64; ROOM], i * ROOM);
        for pixels in x.chunks(PIXELS * channels) {
            let mut sums = [0; ROOM];
            let sums = &mut sums[..y.len()];
            if y.len() == channels {
                add_pixels(cpu, pixels, flip, channels, sums);
            } else {
                for pixel in pixels.chunks_exact(channels) {
                    add_pixels(cpu, &pixel[first..][..y.len()], flip, y.len(), sums);
                }
            }
            for (wide, sum) in wide.iter_mut().zip(sums) {
                *wide += i64::from(*sum);
            }
        }
        for (y, wide) in y.iter_mut().zip(wide) {
            *y = to.rounded(wide.wrapping_sub(zeros) as f32 * factor);
        }
    }
}

/// The average of all pixels of each channel, as DequantizeLinear, GlobalAveragePool and QuantizeLinear make it: sums of
/// floats in `f64`, rounded to `f32` once they are divided.
///
/// # Panics
/// Sizes that do not fit together.
pub fn global_mean(cpu: Cpu, x: &[u8], from: Quantized, to: Quantize, y: &mut [u8]) {
    let channels = y.len();
    if channels == 0 {
        return;
    }
    assert!(x.len().is_multiple_of(channels), "pixels of an image");
    means(cpu, x, channels, from, to, y);
}
