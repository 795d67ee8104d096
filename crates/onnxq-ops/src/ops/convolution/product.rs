//! The sums of products behind every convolution: im2col and a matrix product, in pieces that
//! bound the memory; a direct loop where each channel is by itself.
//!
//! Integer operators use it with `f64`: sums of products of 8-bit integers are exact there.

use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};

use super::window::Placement;
use crate::{
    EvalError,
    ops::{
        numeric::{Real, product},
        rules,
    },
};

/// Elements of one piece of the im2col matrix.
const PIECE: usize = 1 << 21;

/// A convolution (or a transposed one) whose operands have been checked.
pub(super) struct Problem {
    pub(super) batch: usize,
    pub(super) groups: usize,
    /// Channels of the operand in one group.
    pub(super) inputs: usize,
    /// Channels of the result in one group.
    pub(super) outputs: usize,
    pub(super) window: Placement,
}

impl Problem {
    /// The convolution of `x` (batch, groups, inputs, big) with `w` (groups, outputs, inputs,
    /// taps).
    pub(super) fn forward<T: Real>(&self, x: &[T], w: &[T]) -> Result<Vec<T>, EvalError> {
        let (taps, size) = (self.window.taps(), product(&self.window.big));
        let positions = product(&self.window.small);
        let depth = self.inputs * taps;
        let channels = self.groups * self.outputs;
        let mut y = vec![T::zero(); rules::limited(&[self.batch, channels, positions])?];
        if y.is_empty() || depth == 0 || size == 0 {
            return Ok(y);
        }
        // With one channel each, a product of matrices would be one of vectors.
        if self.inputs == 1 {
            self.each_channel(x, w, &mut y);
            return Ok(y);
        }
        let piece = (PIECE / depth).clamp(1, positions);
        let mut column = Vec::new();
        for (n, yn) in y.chunks_exact_mut(self.outputs * positions).enumerate() {
            let x = &x[n * self.inputs * size..][..self.inputs * size];
            let group = n % self.groups;
            let w = &w[group * self.outputs * depth..][..self.outputs * depth];
            let w = view(w, self.outputs, depth);
            if self.is_pointwise() {
                general_mat_mul(
                    T::one(),
                    &w,
                    &view(x, self.inputs, size),
                    T::zero(),
                    &mut view_mut(yn, self.outputs, positions),
                );
                continue;
            }
            for from in (0..positions).step_by(piece) {
                let to = (from + piece).min(positions);
                self.gather(x, from..to, &mut column);
                let mut y = view_mut(yn, self.outputs, positions);
                let mut part = y.slice_mut(ndarray::s![.., from..to]);
                let column = view(&column, depth, to - from);
                general_mat_mul(T::one(), &w, &column, T::zero(), &mut part);
            }
        }
        Ok(y)
    }

    /// The transposed convolution of `x` (batch, groups, inputs, small) with `w` (groups, inputs,
    /// outputs, taps).
    pub(super) fn transposed<T: Real>(&self, x: &[T], w: &[T]) -> Result<Vec<T>, EvalError> {
        let (taps, size) = (self.window.taps(), product(&self.window.big));
        let positions = product(&self.window.small);
        let depth = self.outputs * taps;
        let channels = self.groups * self.outputs;
        let mut y = vec![T::zero(); rules::limited(&[self.batch, channels, size])?];
        if y.is_empty() || self.inputs * taps * positions == 0 {
            return Ok(y);
        }
        let piece = (PIECE / depth).clamp(1, positions);
        let mut column = vec![T::zero(); depth * piece];
        for (n, yn) in y.chunks_exact_mut(self.outputs * size).enumerate() {
            let x = &x[n * self.inputs * positions..][..self.inputs * positions];
            let x = view(x, self.inputs, positions);
            let group = n % self.groups;
            let w = view(
                &w[group * self.inputs * depth..][..self.inputs * depth],
                self.inputs,
                depth,
            );
            for from in (0..positions).step_by(piece) {
                let to = (from + piece).min(positions);
                let column = &mut column[..depth * (to - from)];
                general_mat_mul(
                    T::one(),
                    &w.t(),
                    &x.slice(ndarray::s![.., from..to]),
                    T::zero(),
                    &mut view_mut(column, depth, to - from),
                );
                self.scatter(column, from..to, yn);
            }
        }
        Ok(y)
    }

    /// Whether the matrix that im2col would make is the operand itself.
    fn is_pointwise(&self) -> bool {
        let w = &self.window;
        w.taps() == 1
            && w.big == w.small
            && w.strides.iter().all(|&s| s == 1)
            && w.begin.iter().all(|&b| b == 0)
    }

    fn each_channel<T: Real>(&self, x: &[T], w: &[T], y: &mut [T]) {
        let (taps, size) = (self.window.taps(), product(&self.window.big));
        let positions = product(&self.window.small);
        let stride = self.window.stride();
        for tap in 0..taps {
            let index = self.window.tap(tap);
            let mut runs = Vec::new();
            self.window.runs(&index, 0..positions, |run| runs.push(run));
            for (channel, y) in y.chunks_exact_mut(positions).enumerate() {
                let factor = w[channel % (self.groups * self.outputs) * taps + tap];
                let x = &x[channel / self.outputs * size..][..size];
                for run in &runs {
                    let y = &mut y[run.small..][..run.len];
                    if stride == 1 {
                        for (y, &x) in y.iter_mut().zip(&x[run.big..][..run.len]) {
                            *y += factor * x;
                        }
                    } else {
                        for (y, &x) in y.iter_mut().zip(x[run.big..].iter().step_by(stride)) {
                            *y += factor * x;
                        }
                    }
                }
            }
        }
    }

    /// Columns `range` of the im2col matrix: a row for every input channel and tap.
    fn gather<T: Real>(&self, x: &[T], range: std::ops::Range<usize>, column: &mut Vec<T>) {
        let (taps, size) = (self.window.taps(), product(&self.window.big));
        let (width, stride) = (range.len(), self.window.stride());
        column.clear();
        column.resize(self.inputs * taps * width, T::zero());
        for tap in 0..taps {
            let index = self.window.tap(tap);
            let mut runs = Vec::new();
            self.window
                .runs(&index, range.clone(), |run| runs.push(run));
            for (channel, x) in x.chunks_exact(size).enumerate() {
                let row = &mut column[(channel * taps + tap) * width..][..width];
                for run in &runs {
                    let row = &mut row[run.small..][..run.len];
                    if stride == 1 {
                        row.copy_from_slice(&x[run.big..][..run.len]);
                    } else {
                        for (to, &from) in row.iter_mut().zip(x[run.big..].iter().step_by(stride)) {
                            *to = from;
                        }
                    }
                }
            }
        }
    }

    /// Adds columns `range` of a matrix like that of im2col to where they belong.
    fn scatter<T: Real>(&self, column: &[T], range: std::ops::Range<usize>, y: &mut [T]) {
        let (taps, size) = (self.window.taps(), product(&self.window.big));
        let (width, stride) = (range.len(), self.window.stride());
        for tap in 0..taps {
            let index = self.window.tap(tap);
            let mut runs = Vec::new();
            self.window
                .runs(&index, range.clone(), |run| runs.push(run));
            for (channel, y) in y.chunks_exact_mut(size).enumerate() {
                let row = &column[(channel * taps + tap) * width..][..width];
                for run in &runs {
                    let row = &row[run.small..][..run.len];
                    for (y, &x) in y[run.big..].iter_mut().step_by(stride).zip(row) {
                        *y += x;
                    }
                }
            }
        }
    }
}

/// Adds `bias`, one element for each channel.
pub(super) fn add_bias<T: Real>(y: &mut [T], bias: &[T], positions: usize) {
    if positions == 0 || bias.is_empty() {
        return;
    }
    for (i, y) in y.chunks_exact_mut(positions).enumerate() {
        let b = bias[i % bias.len()];
        y.iter_mut().for_each(|y| *y += b);
    }
}

fn view<T>(data: &[T], rows: usize, cols: usize) -> ArrayView2<'_, T> {
    ArrayView2::from_shape((rows, cols), data).expect("callers slice to rows * cols")
}

fn view_mut<T>(data: &mut [T], rows: usize, cols: usize) -> ArrayViewMut2<'_, T> {
    ArrayViewMut2::from_shape((rows, cols), data).expect("callers slice to rows * cols")
}
