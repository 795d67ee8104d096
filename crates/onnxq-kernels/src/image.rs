//! Images: channels-last bytes, windows over them, and copies with room around or in another order.

use core::ops::Range;

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
        let size = self.dims.iter().product::<usize>();
        assert_eq!(
            self.data.len(),
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

/// Copies an image (`dims`: height, width, channels) into one with `pads` more pixels of `value` above, left,
/// below and right. Computes `rows` of the padded image; `y` is these rows.
///
/// # Panics
/// Sizes that do not fit together.
pub fn pad(
    x: &[u8],
    dims: [usize; 3],
    pads: [usize; 4],
    value: u8,
    rows: Range<usize>,
    y: &mut [u8],
) {
    let ([height, width, channels], [top, left, bottom, right]) = (dims, pads);
    let padded = (left + width + right) * channels;
    assert_eq!(x.len(), height * width * channels, "an image of {dims:?}");
    assert!(
        rows.start <= rows.end && rows.end <= top + height + bottom,
        "rows of a padded image"
    );
    assert_eq!(y.len(), rows.len() * padded, "a padded image");
    if padded == 0 {
        return;
    }
    for (row, y) in rows.zip(y.chunks_exact_mut(padded)) {
        if row < top || row - top >= height {
            y.fill(value);
            continue;
        }
        let x = &x[(row - top) * width * channels..][..width * channels];
        y[..left * channels].fill(value);
        y[left * channels..][..x.len()].copy_from_slice(x);
        y[left * channels + x.len()..].fill(value);
    }
}
