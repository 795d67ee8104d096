//! Windows over one plane, without a border to care about.
//!
//! A plane is copied into *phases* first: padded, and its rows and columns dealt out by their
//! remainders modulo the strides. Then the elements that a tap meets, at neighbouring positions of
//! the result, lie next to each other; with rows of the result as wide as those of the phases,
//! each tap is one offset for the whole plane.

use super::{mul_add, multiversion};

/// A window over two axes, placed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window2 {
    pub(crate) input: [usize; 2],
    pub(crate) output: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) strides: [usize; 2],
    pub(crate) dilations: [usize; 2],
    /// Padding before.
    pub(crate) begin: [usize; 2],
}

impl Window2 {
    /// Rows and columns of one phase.
    fn phase(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let last = (self.kernel[axis] - 1) * self.dilations[axis] / self.strides[axis];
            self.output[axis] + last
        })
    }

    /// Elements from one row of the result to the next, in the form that [`weighted`] and
    /// [`largest`] write.
    pub(crate) fn pitch(&self) -> usize {
        self.phase()[1]
    }

    /// Elements of the result in that form, in whole blocks.
    pub(crate) fn span(&self) -> usize {
        let span = (self.output[0] - 1) * self.pitch() + self.output[1];
        span.next_multiple_of(BLOCK)
    }

    /// Elements of all phases, and what a last block that is not full reads after them; `None` if
    /// that is absurd.
    pub(crate) fn phases_len(&self) -> Option<usize> {
        let [rows, columns] = self.phase();
        let phases = self.strides[0].checked_mul(self.strides[1])?;
        let len = phases.checked_mul(rows.checked_mul(columns)?)?;
        len.checked_add(BLOCK)
    }

    /// Where each tap begins in the phases, row by row.
    pub(crate) fn offsets(&self) -> Vec<usize> {
        let [rows, columns] = self.phase();
        let mut offsets = Vec::with_capacity(self.kernel[0] * self.kernel[1]);
        for i in 0..self.kernel[0] {
            for j in 0..self.kernel[1] {
                let (y, x) = (i * self.dilations[0], j * self.dilations[1]);
                let phase = y % self.strides[0] * self.strides[1] + x % self.strides[1];
                let inside = y / self.strides[0] * columns + x / self.strides[1];
                offsets.push(phase * rows * columns + inside);
            }
        }
        offsets
    }

    /// Deals a plane out into phases. What is not of the plane must be filled before and stays.
    pub(crate) fn deal(&self, plane: &[f32], phases: &mut [f32]) {
        let [rows, columns] = self.phase();
        let [sy, sx] = self.strides;
        for (y, row) in plane.chunks_exact(self.input[1]).enumerate() {
            let y = y + self.begin[0];
            if y / sy >= rows {
                continue;
            }
            for px in 0..sx {
                // Columns x of the plane for which x + begin is px modulo the stride.
                let first = (px + sx - self.begin[1] % sx) % sx;
                let Some(row) = row.get(first..) else {
                    continue;
                };
                let at = (first + self.begin[1]) / sx;
                if at >= columns {
                    continue;
                }
                let start = ((y % sy * sx + px) * rows + y / sy) * columns + at;
                let to = &mut phases[start..start + columns - at];
                if sx == 1 {
                    let n = to.len().min(row.len());
                    to[..n].copy_from_slice(&row[..n]);
                } else {
                    for (to, &v) in to.iter_mut().zip(row.iter().step_by(sx)) {
                        *to = v;
                    }
                }
            }
        }
    }
}

/// Positions that are worked on together, in registers.
const BLOCK: usize = 64;

multiversion! {
    /// `y[p] = Σ_t weights[t] * x[p + offsets[t]]`, in whole blocks.
    pub(crate) fn weighted(x: &[f32], offsets: &[usize], weights: &[f32], y: &mut [f32]) {
        for (i, y) in y.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            let mut sums = [0.0; BLOCK];
            for (&offset, &w) in offsets.iter().zip(weights) {
                let x = &x[i * BLOCK + offset..][..BLOCK];
                for (sum, &x) in sums.iter_mut().zip(x) {
                    *sum = mul_add::<FMA>(x, w, *sum);
                }
            }
            *y = sums;
        }
    }
}

multiversion! {
    /// `y[p] = max_t x[p + offsets[t]]`, NaN not winning, in whole blocks.
    pub(crate) fn largest(x: &[f32], offsets: &[usize], y: &mut [f32]) {
        let _ = FMA;
        for (i, y) in y.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            let mut best = [f32::NEG_INFINITY; BLOCK];
            for &offset in offsets {
                let x = &x[i * BLOCK + offset..][..BLOCK];
                for (best, &x) in best.iter_mut().zip(x) {
                    *best = if x > *best { x } else { *best };
                }
            }
            *y = best;
        }
    }
}
