//! The elements that a convolution meets, as a matrix.

use std::ops::Range;

use super::stencil::Window2;

/// Writes, for each channel and tap, a row of what it meets at positions `at` of the result,
/// counted along its rows. `planes` are the channels.
pub(crate) fn im2col(window: &Window2, planes: &[f32], at: Range<usize>, columns: &mut [f32]) {
    let [height, width] = window.input;
    let len = at.len();
    let mut rows = columns.chunks_exact_mut(len);
    for plane in planes.chunks_exact(height * width) {
        for i in 0..window.kernel[0] {
            for j in 0..window.kernel[1] {
                let Some(row) = rows.next() else { return };
                tap(window, plane, [i, j], at.clone(), row);
            }
        }
    }
}

/// What one tap meets.
fn tap(window: &Window2, plane: &[f32], tap: [usize; 2], at: Range<usize>, to: &mut [f32]) {
    let ([height, width], out_width) = (window.input, window.output[1]);
    let shift = [0, 1].map(|axis| tap[axis] * window.dilations[axis]);
    let stride = window.strides[1];
    // Positions x of the result for which x * stride + shift - begin is in 0..width.
    let inside = {
        let lo = window.begin[1].saturating_sub(shift[1]).div_ceil(stride);
        let end = (width + window.begin[1]).saturating_sub(shift[1]);
        lo.min(out_width)..end.div_ceil(stride).min(out_width)
    };
    let (mut p, mut to) = (at.start, to);
    while p < at.end {
        let (y, from) = (p / out_width, p % out_width);
        let until = (from + at.end - p).min(out_width);
        let (row, rest) = std::mem::take(&mut to).split_at_mut(until - from);
        to = rest;
        p += until - from;
        let source = (y * window.strides[0] + shift[0]).checked_sub(window.begin[0]);
        let Some(source) = source.filter(|&y| y < height) else {
            row.fill(0.0);
            continue;
        };
        let lo = inside.start.clamp(from, until);
        let hi = inside.end.clamp(lo, until);
        row[..lo - from].fill(0.0);
        row[hi - from..].fill(0.0);
        if lo == hi {
            continue;
        }
        let start = source * width + lo * stride + shift[1] - window.begin[1];
        let row = &mut row[lo - from..hi - from];
        if stride == 1 {
            row.copy_from_slice(&plane[start..start + row.len()]);
        } else {
            for (to, &v) in row.iter_mut().zip(plane[start..].iter().step_by(stride)) {
                *to = v;
            }
        }
    }
}
