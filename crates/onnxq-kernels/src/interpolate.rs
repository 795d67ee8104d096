//! Images resized by linear interpolation: along the height, then along the width.

use core::ops::Range;

use crate::{Cpu, Line, Quantize, Quantized, memory::floats, tiers::tiers};

/// What the elements along one axis of the result are made of: two elements each, one after the other, and their weights.
/// Where there are none, the axis stays as it is.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a> {
    /// Which elements of the operand.
    pub at: &'a [u32],
    /// As many weights.
    pub weights: &'a [f32],
}

impl Pairs<'_> {
    /// Elements of the result, of an axis of `size` elements.
    fn count(&self, size: usize) -> usize {
        match self.at.len() {
            0 => size,
            n => n / 2,
        }
    }

    fn check(&self, size: usize) {
        assert!(
            self.at.len() == self.weights.len() && self.at.len().is_multiple_of(2),
            "two elements and two weights"
        );
        assert!(
            self.at.iter().all(|&at| (at as usize) < size),
            "elements of an axis"
        );
    }
}

/// An image with its channels last, and how it is resized. A plane is an image of one channel.
///
/// An element of the result is `(0 + a₀·x₀) + a₁·x₁` in `f32`, along the height and then of these along the width.
#[derive(Clone, Copy, Debug)]
pub struct Interpolate<'a> {
    /// Height, width and channels of the operand.
    pub dims: [usize; 3],
    /// Rows of the result.
    pub rows: Pairs<'a>,
    /// Columns of the result.
    pub columns: Pairs<'a>,
}

/// Lines of scratch memory for images of this height, width and number of channels, with as many columns of the result.
pub fn interpolate_scratch_lines(dims: [usize; 3], columns: usize) -> usize {
    3 * Line::count(4 * dims[1] * dims[2]) + Line::count(4 * columns * dims[2])
}

impl Interpolate<'_> {
    /// Computes `part` of the rows of the result, which is `y`, of codes; see [`interpolate_scratch_lines`].
    ///
    /// # Panics
    /// Sizes that do not fit together.
    #[allow(clippy::too_many_arguments, reason = "codes on both sides")]
    pub fn codes(
        &self,
        cpu: Cpu,
        x: &[u8],
        from: Quantized,
        part: Range<usize>,
        y: &mut [u8],
        to: Quantize,
        scratch: &mut [Line],
    ) {
        let load = |x: &[u8], row: &mut [f32]| from.dequantize(cpu, x, row);
        let store = |row: &[f32], y: &mut [u8]| to.run(cpu, row, y);
        self.run(cpu, x, part, y, scratch, load, store);
    }

    /// The same of floats.
    ///
    /// # Panics
    /// Sizes that do not fit together.
    pub fn floats(
        &self,
        cpu: Cpu,
        x: &[f32],
        part: Range<usize>,
        y: &mut [f32],
        scratch: &mut [Line],
    ) {
        let copy = |x: &[f32], y: &mut [f32]| y.copy_from_slice(x);
        self.run(cpu, x, part, y, scratch, copy, copy);
    }

    #[allow(clippy::too_many_arguments, reason = "elements on both sides")]
    fn run<T, U>(
        &self,
        cpu: Cpu,
        x: &[T],
        part: Range<usize>,
        y: &mut [U],
        scratch: &mut [Line],
        load: impl Fn(&[T], &mut [f32]),
        store: impl Fn(&[f32], &mut [U]),
    ) {
        let [height, width, channels] = self.dims;
        let (row, columns) = (width * channels, self.columns.count(width));
        assert_eq!(x.len(), height * row, "an image of {:?}", self.dims);
        self.rows.check(height);
        self.columns.check(width);
        assert!(
            part.start <= part.end && part.end <= self.rows.count(height),
            "rows of the result"
        );
        assert_eq!(y.len(), part.len() * columns * channels, "the result");
        if y.is_empty() {
            return;
        }
        let lines = Line::count(4 * row);
        let (first, scratch) = scratch.split_at_mut(lines);
        let (second, scratch) = scratch.split_at_mut(lines);
        let (between, result) = scratch.split_at_mut(lines);
        let mut loaded = [first, second].map(|lines| &mut floats(lines)[..row]);
        let between = &mut floats(between)[..row];
        let result = &mut floats(result)[..columns * channels];
        // The rows that are loaded.
        let mut which = [usize::MAX; 2];
        for (i, y) in part.zip(y.chunks_exact_mut(columns * channels)) {
            let (at, weights) = match self.rows.at {
                [] => ([i, i], [1.0, 0.0]),
                at => (
                    [at[2 * i] as usize, at[2 * i + 1] as usize],
                    [self.rows.weights[2 * i], self.rows.weights[2 * i + 1]],
                ),
            };
            if which[1] == at[0] {
                loaded.swap(0, 1);
                which.swap(0, 1);
            }
            for ((which, loaded), &at) in which.iter_mut().zip(&mut loaded).zip(&at) {
                if *which != at {
                    load(&x[at * row..][..row], loaded);
                    *which = at;
                }
            }
            let [first, second] = &loaded;
            let whole: &[f32] = match self.rows.at {
                [] => first,
                _ => {
                    blend(cpu, first, second, weights, between);
                    between
                }
            };
            match self.columns.at {
                [] => store(whole, y),
                _ => {
                    blend_pixels(cpu, whole, channels, &self.columns, result);
                    store(result, y);
                }
            }
        }
    }
}

tiers! {
    fn blend(a: &[f32], b: &[f32], weights: [f32; 2], y: &mut [f32]) {
        for (y, (a, b)) in y.iter_mut().zip(a.iter().zip(b)) {
            *y = 0.0 + weights[0] * a + weights[1] * b;
        }
    }

    fn blend_pixels(x: &[f32], channels: usize, columns: &Pairs<'_>, y: &mut [f32]) {
        let pairs = columns.at.as_chunks::<2>().0.iter().zip(columns.weights.as_chunks::<2>().0);
        if channels == 1 {
            for (y, (at, weights)) in y.iter_mut().zip(pairs) {
                let [a, b] = at.map(|at| x[at as usize]);
                *y = 0.0 + weights[0] * a + weights[1] * b;
            }
            return;
        }
        for (y, (at, weights)) in y.chunks_exact_mut(channels).zip(pairs) {
            let [a, b] = at.map(|at| &x[at as usize * channels..][..channels]);
            for (y, (a, b)) in y.iter_mut().zip(a.iter().zip(b)) {
                *y = 0.0 + weights[0] * a + weights[1] * b;
            }
        }
    }
}
