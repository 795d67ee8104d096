//! What becomes of the sums of a depthwise convolution.

use crate::{
    Requantize,
    epilogue::quantized,
    math::{at_least, at_most},
};

/// Sums to floats: `clamp(f32(sum) · scale[c] + bias[c])`.
#[derive(Clone, Copy, Debug)]
pub struct Dequantize<'a> {
    /// By channel.
    pub scale: &'a [f32],
    /// By channel; zero if there is none.
    pub bias: &'a [f32],
    /// Bounds of the result, which may be infinite. A NaN goes through.
    pub bounds: [f32; 2],
}

/// Makes elements of the result.
pub(super) trait Target {
    type Element: Copy + Default;
    /// Whether the elements are floats; bytes if not.
    const FLOATS: bool;

    fn scale(&self) -> &[f32];

    /// By channel, or none.
    fn bias(&self) -> &[f32];

    /// The zero point and the bounds of bytes.
    fn codes(&self) -> (i32, [i32; 2]);

    /// The bounds of floats.
    fn clamp(&self) -> [f32; 2];

    /// The element for a sum, which defines what vector tiers make.
    fn element(&self, sum: i32, scale: f32, bias: f32) -> Self::Element;

    /// Whether the vector tiers can make the elements: they pack bytes with saturation.
    fn is_plain(&self) -> bool {
        let (zero, bounds) = self.codes();
        let range = match bounds[0] < 0 {
            true => -128..=127,
            false => 0..=255,
        };
        bounds.iter().all(|b| range.contains(b)) && (-256..256).contains(&zero)
    }
}

impl Target for Requantize<'_> {
    type Element = u8;
    const FLOATS: bool = false;

    fn scale(&self) -> &[f32] {
        self.scale
    }

    fn bias(&self) -> &[f32] {
        &[]
    }

    fn codes(&self) -> (i32, [i32; 2]) {
        (self.zero, self.bounds)
    }

    fn clamp(&self) -> [f32; 2] {
        crate::UNBOUNDED
    }

    #[inline(always)]
    fn element(&self, sum: i32, scale: f32, _: f32) -> u8 {
        quantized(sum as f32 * scale, self.zero, self.bounds) as u8
    }
}

impl Target for Dequantize<'_> {
    type Element = f32;
    const FLOATS: bool = true;

    fn scale(&self) -> &[f32] {
        self.scale
    }

    fn bias(&self) -> &[f32] {
        self.bias
    }

    fn codes(&self) -> (i32, [i32; 2]) {
        (0, [0, 255])
    }

    fn clamp(&self) -> [f32; 2] {
        self.bounds
    }

    #[inline(always)]
    fn element(&self, sum: i32, scale: f32, bias: f32) -> f32 {
        let value = sum as f32 * scale + bias;
        at_most(at_least(value, self.bounds[0]), self.bounds[1])
    }
}
