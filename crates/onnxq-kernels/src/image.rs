//! Images: channels-last bytes, windows over them, and copies with room around or in another order.

use core::ops::Range;

use crate::{Cpu, elementwise::Quantize, tiers::tiers, transpose};

/// A channels-last image of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The bytes.
    pub data: &'a [u8],
    /// Whether they are `i8`.
    pub signed: bool,
    /// Height, width, channels.
    pub dims: [usize; 3],
}

impl Image<'_> {
    /// # Panics
    /// The bytes are not as many as the dimensions say.
    pub(crate) fn check(&self) {
        let size = self
            .dims
            .iter()
            .try_fold(1, |n: usize, &d| n.checked_mul(d));
        assert_eq!(
            Some(self.data.len()),
            size,
            "bytes of an image of {:?}",
            self.dims
        );
    }
}

/// A window that moves over an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Rows and columns.
    pub kernel: [usize; 2],
    /// How far it moves down and right.
    pub strides: [usize; 2],
    /// How far its rows and columns are apart.
    pub dilations: [usize; 2],
    /// How far the first one begins above and left of the image. How far the last ones reach beyond it is said by
    /// the size of the result.
    pub pads: [usize; 2],
}

impl Window {
    /// # Panics
    /// A size, stride or dilation is 0.
    pub(crate) fn check(&self) {
        let positive = [self.kernel, self.strides, self.dilations];
        assert!(!positive.as_flattened().contains(&0), "a window {self:?}");
    }

    /// Where the window for a place of the result begins; above or left of the image that wraps
    /// around, to numbers that are outside of any image.
    #[inline(always)]
    pub(crate) fn at(&self, place: [usize; 2]) -> [usize; 2] {
        core::array::from_fn(|i| (place[i] * self.strides[i]).wrapping_sub(self.pads[i]))
    }
}

/// Copies an image (`dims`: height, width, channels) into a larger one of `size` (height, width) whose other pixels
/// are `value`, so that its corner is at `corner` (row, column); what does not fit is left out. Computes `rows` of
/// the padded image; `y` is these rows.
///
/// # Panics
/// Sizes that do not fit together.
pub fn pad<T: Copy>(
    x: &[T],
    dims: [usize; 3],
    corner: [usize; 2],
    size: [usize; 2],
    value: T,
    rows: Range<usize>,
    y: &mut [T],
) {
    let [height, width, channels] = dims;
    assert_eq!(x.len(), height * width * channels, "an image of {dims:?}");
    assert!(
        rows.start <= rows.end && rows.end <= size[0],
        "rows of a padded image"
    );
    let padded = size[1] * channels;
    assert_eq!(y.len(), rows.len() * padded, "a padded image");
    if padded == 0 {
        return;
    }
    let [top, left] = corner;
    let left = left.min(size[1]);
    let copied = width.min(size[1] - left) * channels;
    for (row, y) in rows.zip(y.chunks_exact_mut(padded)) {
        if row < top || row - top >= height {
            y.fill(value);
            continue;
        }
        let x = &x[(row - top) * width * channels..][..copied];
        let (before, rest) = y.split_at_mut(left * channels);
        let (middle, after) = rest.split_at_mut(copied);
        before.fill(value);
        middle.copy_from_slice(x);
        after.fill(value);
    }
}

/// Where the planes of a channels-first image go: pixels with all channels, and room for more.
#[derive(Clone, Copy, Debug)]
pub struct Planes {
    /// How many channels.
    pub channels: usize,
    /// Pixels of a plane.
    pub pixels: usize,
    /// Channels of the result, at least as many.
    pub padded: usize,
    /// The byte of those that are too many.
    pub fill: u8,
}

impl Planes {
    fn check(&self, x: usize, part: &Range<usize>, y: usize) {
        assert_eq!(x, self.channels * self.pixels, "planes of an image");
        assert!(self.padded >= self.channels, "channels of the result");
        assert!(
            part.start <= part.end && part.end <= self.pixels,
            "pixels of an image"
        );
        assert_eq!(y, part.len() * self.padded, "pixels of the result");
    }

    /// Channels-first bytes to channels-last ones: computes `part` of the pixels, which is `y`.
    ///
    /// # Panics
    /// Sizes that do not fit together.
    pub fn to_channels_last(self, cpu: Cpu, x: &[u8], part: Range<usize>, y: &mut [u8]) {
        self.check(x.len(), &part, y.len());
        if y.is_empty() {
            return;
        }
        let Planes {
            channels,
            pixels,
            padded,
            fill,
        } = self;
        let size = [channels, part.len()];
        // Without channels there are no bytes to begin with.
        let x = x.get(part.start..).unwrap_or_default();
        transpose::bytes(cpu, x, size, [pixels, padded], padded, fill, y);
    }

    /// Channels-first floats to channels-last bytes, quantized on the way as by [`quantize`](crate::quantize): computes `part`
    /// of the pixels, which is `y`.
    ///
    /// # Panics
    /// Sizes that do not fit together.
    pub fn quantize(&self, cpu: Cpu, x: &[f32], to: Quantize, part: Range<usize>, y: &mut [u8]) {
        self.check(x.len(), &part, y.len());
        let Planes {
            channels, padded, ..
        } = *self;
        if y.is_empty() {
            return;
        }
        for (i, y) in y.chunks_mut(STRIP * padded).enumerate() {
            let (first, count) = (part.start + i * STRIP, y.len() / padded);
            for channel in (0..padded).step_by(GROUP) {
                let (mut bytes, mut group) = ([self.fill; STRIP * GROUP], 0..0);
                group.end = channels.saturating_sub(channel).min(GROUP);
                for (c, bytes) in group.zip(bytes.chunks_exact_mut(STRIP)) {
                    let x = &x[(channel + c) * self.pixels + first..][..count];
                    to.run(cpu, x, &mut bytes[..count]);
                }
                let width = GROUP.min(padded - channel);
                match padded {
                    3 => three(cpu, &bytes, y),
                    4 => four(cpu, &bytes, y),
                    _ => {}
                }
                if matches!(padded, 3 | 4) {
                    continue;
                }
                let y = &mut y[channel..];
                transpose::bytes(cpu, &bytes, [width, count], [STRIP, padded], width, 0, y);
            }
        }
    }
}

/// Pixels and channels that are quantized before they are transposed.
const STRIP: usize = 256;
const GROUP: usize = 16;

tiers! {
    /// The first three planes of [`STRIP`] bytes, to pixels of three channels.
    fn three(planes: &[u8; STRIP * GROUP], y: &mut [u8]) {
        let (a, rest) = planes.split_at(STRIP);
        let (b, c) = rest.split_at(STRIP);
        for (((y, a), b), c) in y.as_chunks_mut().0.iter_mut().zip(a).zip(b).zip(c) {
            *y = [*a, *b, *c];
        }
    }

    /// The first four planes of [`STRIP`] bytes, to pixels of four channels.
    fn four(planes: &[u8; STRIP * GROUP], y: &mut [u8]) {
        let (a, rest) = planes.split_at(STRIP);
        let (b, rest) = rest.split_at(STRIP);
        let (c, d) = rest.split_at(STRIP);
        for ((((y, a), b), c), d) in y.as_chunks_mut().0.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *y = [*a, *b, *c, *d];
        }
    }
}
