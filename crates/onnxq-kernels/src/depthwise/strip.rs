//! What the vector tiers share: parts of rows, and the numbers that make bytes of sums.

use super::{
    Depthwise,
    pack::{Block, DOT, PARAMETERS, Plan},
    target::Target,
};
use crate::Line;

/// Scales, offsets and biases in the order of the sums. Returns whether no scaled sum leaves `i32`.
#[inline(always)]
pub(super) fn load_parameters(
    x: &Depthwise<'_>,
    block: Block,
    to: &impl Target,
    lines: &mut [Line; PARAMETERS],
) -> bool {
    let Block {
        first,
        count,
        width,
    } = block;
    let (mut scales, mut offsets, mut biases) = ([0f32; 64], [0i32; 64], [0f32; 64]);
    scales[..count].copy_from_slice(&to.scale()[first..][..count]);
    if let Some(bias) = to.bias().get(first..first + count) {
        biases[..count].copy_from_slice(bias);
    }
    offsets[..count].copy_from_slice(&x.offset[first..][..count]);
    if x.image.signed {
        // Signed bytes are read with 128 added.
        let sums = x.weights.sums()[first * 4..].chunks_exact(4);
        for (offset, sum) in offsets[..count].iter_mut().zip(sums) {
            let sum = i32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]]);
            *offset = offset.wrapping_sub(sum.wrapping_mul(128));
        }
    }
    let taps = x.window.kernel[0] * x.window.kernel[1];
    let largest = (taps * 255 * 128) as f32;
    let mut fits = true;
    for (scale, offset) in scales.iter().zip(&offsets) {
        fits &= ((*offset as f32).abs() + largest) * scale.abs() < 1e9;
    }
    for i in width..64 {
        scales[i] = scales[i - width];
        offsets[i] = offsets[i - width];
        biases[i] = biases[i - width];
    }
    for i in 0..64 {
        // Each 16 channels are a quarter of four registers.
        let (register, at) = (i / 4 % 4, i / 16 * 16 + i % 4 * 4);
        let mut put = |kind: usize, bytes: [u8; 4]| {
            lines[kind * 4 + register].0[at..at + 4].copy_from_slice(&bytes);
        };
        put(0, scales[i].to_ne_bytes());
        put(1, offsets[i].to_ne_bytes());
        put(2, biases[i].to_ne_bytes());
    }
    fits
}

/// Where one part of a row of results is.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    pub(super) row: usize,
    /// How many rows.
    pub(super) rows: usize,
    pub(super) column: usize,
    /// How many pixels.
    pub(super) pixels: usize,
}

impl Strip {
    /// The four rows of a group that the strip needs, where they are inside of the image.
    #[inline(always)]
    pub(super) fn rows_of(
        &self,
        x: &Depthwise<'_>,
        plan: &Plan,
        block: Block,
        group: usize,
        around: &Line,
    ) -> [Row; DOT] {
        let [height, width, channels] = x.image.dims;
        let [top, _] = x.window.at([self.row, self.column]);
        let needed = (self.rows - 1) * x.window.strides[0] + x.window.kernel[0];
        let mut rows = [Row {
            first: around.0.as_ptr(),
            stride: 0,
        }; DOT];
        for (i, to) in rows.iter_mut().enumerate() {
            let i = group * DOT + i;
            let row = top.wrapping_add(i * plan.row_step);
            if i < needed && row < height {
                let at = row * width * channels + block.first;
                *to = Row {
                    first: x.image.data[at..].as_ptr(),
                    stride: channels,
                };
            }
        }
        rows
    }
}

/// A row of the image: its first pixel, at the first channel of the block, and the distance of pixels; around
/// the image a line that stands for every pixel.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) first: *const u8,
    pub(super) stride: usize,
}
