//! Softmax, normalizations and reductions of rows.
//!
//! A row is so many contiguous floats. Sums are of [`PARTS`] partial sums, each of every
//! `PARTS`th element, which are then added by halves: the same order on every tier, and a
//! smaller error than one sum has.

use core::slice;

use crate::{
    Cpu,
    activation::{map, map_all},
    math::{exp_negative, ln, sqrt},
    tiers::tiers,
};

/// Partial results of a reduction.
const PARTS: usize = 32;

/// What becomes of each row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Softmax {
    /// `e^x / Σ e^x`.
    Softmax,
    /// `x - ln Σ e^x`.
    LogSoftmax,
}

/// How rows are normalized: `(x - mean) / sqrt(variance + epsilon) · scale + bias`.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// As long as a row.
    pub scale: &'a [f32],
    /// As long as a row, or empty.
    pub bias: &'a [f32],
    /// Added to the variance.
    pub epsilon: f32,
    /// Whether the mean is subtracted; else the variance is the mean of squares (RMS).
    pub centered: bool,
}

/// What is added to rows before they are normalized. What is not there is empty.
#[derive(Debug, Default)]
pub struct Skip<'a> {
    /// Rows, or fewer that are repeated.
    pub skip: &'a [f32],
    /// One row, added to each.
    pub bias: &'a [f32],
    /// Where the sums go.
    pub sum: &'a mut [f32],
}

/// What is made of each row, or of each column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reduction {
    /// The sum.
    Sum,
    /// The sum divided by the number of elements.
    Mean,
    /// The largest element; NaN if one is.
    Max,
    /// The smallest element; NaN if one is.
    Min,
    /// The sum of absolute values.
    L1,
    /// The root of the sum of squares.
    L2,
    /// The sum of squares.
    SumSquares,
}

/// Softmax of each row of `width` elements of `x`, in place.
///
/// Before it, each element is multiplied by `scale`, and `mask` is added: nothing where it is
/// empty, one row to each, or as many rows as there are.
///
/// # Panics
/// `x` is no whole number of rows, or `mask` does not fit.
pub fn softmax(cpu: Cpu, f: Softmax, x: &mut [f32], width: usize, scale: f32, mask: &[f32]) {
    assert!(width > 0 && x.len().is_multiple_of(width), "whole rows");
    assert!(
        mask.is_empty() || mask.len() == width || mask.len() == x.len(),
        "a mask for one row or for all"
    );
    softmax_rows(cpu, f, x, width, scale, mask);
}

/// `y = norm(x)`, row by row.
///
/// # Panics
/// The lengths of `x` and `y` differ or are no whole number of rows, or `norm` has another width.
pub fn normalize(cpu: Cpu, norm: &Norm<'_>, x: &[f32], y: &mut [f32]) {
    let mut skip = Skip::default();
    skip_normalize(cpu, norm, x, &mut skip, y);
}

/// `y = norm(x + skip + bias)`, row by row; the sums are stored if there is room for them.
///
/// # Panics
/// Lengths that do not fit together.
pub fn skip_normalize(cpu: Cpu, norm: &Norm<'_>, x: &[f32], skip: &mut Skip<'_>, y: &mut [f32]) {
    let (width, len) = (norm.scale.len(), x.len());
    assert!(width > 0 && len.is_multiple_of(width), "whole rows");
    assert_eq!(y.len(), len, "a result for each element");
    let optional = |len: usize| len == 0 || len == width;
    assert!(optional(norm.bias.len()), "a bias for each column");
    assert!(optional(skip.bias.len()), "a bias for each column");
    assert!(skip.skip.len().is_multiple_of(width), "whole rows to add");
    let sum = skip.sum.len();
    assert!(sum == 0 || sum == len, "room for all sums");
    normalize_rows(cpu, norm, x, skip, y);
}

/// Reduces each row of `width` elements to one: `y[i] = f(x[i * width ..][.. width])`.
///
/// # Panics
/// `x` is not as many rows as `y` has elements, or `width` is 0.
pub fn reduce_rows(cpu: Cpu, f: Reduction, x: &[f32], width: usize, y: &mut [f32]) {
    assert!(
        width > 0 && x.len() == y.len() * width,
        "a row for each result"
    );
    rows_to_column(cpu, f, x, width, y);
}

/// Reduces rows, each as long as `y`, to one: `y[j] = f(x[j], x[width + j], ..)`, in this order.
///
/// # Panics
/// `x` is no whole number of rows, or has none.
pub fn reduce_columns(cpu: Cpu, f: Reduction, x: &[f32], y: &mut [f32]) {
    assert!(
        !x.is_empty() && !y.is_empty() && x.len().is_multiple_of(y.len()),
        "whole rows, at least one"
    );
    columns_to_row(cpu, f, x, y);
}

/// Reduces a row; `pad` is an element that changes nothing.
#[inline(always)]
fn reduce(x: &[f32], pad: f32, map: impl Fn(f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let (blocks, rest) = x.as_chunks::<PARTS>();
    let mut last = [pad; PARTS];
    let mut lasts: &[_] = &[];
    if !rest.is_empty() {
        last[..rest.len()].copy_from_slice(rest);
        lasts = slice::from_ref(&last);
    }
    let mut parts = [map(pad); PARTS];
    for blocks in [blocks, lasts] {
        for block in blocks {
            for i in 0..PARTS {
                parts[i] = join(parts[i], map(block[i]));
            }
        }
    }
    let mut width = PARTS / 2;
    while width > 0 {
        for i in 0..width {
            parts[i] = join(parts[i], parts[i + width]);
        }
        width /= 2;
    }
    parts[0]
}

#[inline(always)]
fn sum(x: &[f32]) -> f32 {
    reduce(x, 0.0, |x| x, |a, b| a + b)
}

/// The larger one; NaN if one is.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a >= b || a.is_nan() { a } else { b }
}

/// The smaller one; NaN if one is.
#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if a <= b || a.is_nan() { a } else { b }
}

/// Softmax of one row.
#[inline(always)]
fn softmax_row(f: Softmax, x: &mut [f32]) {
    let max = reduce(
        x,
        f32::NEG_INFINITY,
        |x| x,
        |a, b| if a > b { a } else { b },
    );
    match f {
        Softmax::Softmax => {
            map_all!(x, |v| exp_negative(v - max));
            let scale = 1.0 / sum(x);
            map!(x, |v| v * scale);
        }
        Softmax::LogSoftmax => {
            let log = ln(reduce(
                x,
                f32::NEG_INFINITY,
                |v| exp_negative(v - max),
                |a, b| a + b,
            ));
            map!(x, |v| v - max - log);
        }
    }
}

/// The mean of a row, and the inverse of its deviation.
#[inline(always)]
fn moments(norm: &Norm<'_>, x: &[f32]) -> [f32; 2] {
    let count = x.len() as f32;
    let mean = if norm.centered { sum(x) / count } else { 0.0 };
    let squares = reduce(x, mean, |x| (x - mean) * (x - mean), |a, b| a + b);
    [mean, 1.0 / sqrt(squares / count + norm.epsilon)]
}

/// A row in place, by its moments.
#[inline(always)]
fn normalized(norm: &Norm<'_>, [mean, inverse]: [f32; 2], x: &mut [f32]) {
    if norm.bias.is_empty() {
        for (x, &s) in x.iter_mut().zip(norm.scale) {
            *x = (*x - mean) * inverse * s;
        }
    } else {
        for ((x, &s), &b) in x.iter_mut().zip(norm.scale).zip(norm.bias) {
            *x = (*x - mean) * inverse * s + b;
        }
    }
}

#[inline(always)]
fn add(x: &mut [f32], y: &[f32]) {
    for (x, &y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

tiers! {
    fn softmax_rows(f: Softmax, x: &mut [f32], width: usize, scale: f32, mask: &[f32]) {
        let step = if mask.len() == width { 0 } else { width };
        for (i, x) in x.chunks_exact_mut(width).enumerate() {
            if scale != 1.0 {
                map!(x, |v| v * scale);
            }
            if !mask.is_empty() {
                add(x, &mask[i * step..][..width]);
            }
            softmax_row(f, x);
        }
    }

    fn normalize_rows(norm: &Norm<'_>, x: &[f32], skip: &mut Skip<'_>, y: &mut [f32]) {
        let width = norm.scale.len();
        let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
        let mut at = 0;
        for (i, (x, y)) in rows.enumerate() {
            if skip.skip.is_empty() {
                y.copy_from_slice(x);
            } else {
                let skipped = &skip.skip[at..][..width];
                for ((y, &x), &s) in y.iter_mut().zip(x).zip(skipped) {
                    *y = x + s;
                }
                at = (at + width) % skip.skip.len();
            }
            if !skip.bias.is_empty() {
                add(y, skip.bias);
            }
            if !skip.sum.is_empty() {
                skip.sum[i * width..][..width].copy_from_slice(y);
            }
            normalized(norm, moments(norm, y), y);
        }
    }

    fn rows_to_column(f: Reduction, x: &[f32], width: usize, y: &mut [f32]) {
        for (x, y) in x.chunks_exact(width).zip(y) {
            *y = match f {
                Reduction::Sum => sum(x),
                Reduction::Mean => sum(x) / width as f32,
                Reduction::Max => reduce(x, f32::NEG_INFINITY, |x| x, larger),
                Reduction::Min => reduce(x, f32::INFINITY, |x| x, smaller),
                Reduction::L1 => reduce(x, 0.0, f32::abs, |a, b| a + b),
                Reduction::SumSquares => reduce(x, 0.0, |x| x * x, |a, b| a + b),
                Reduction::L2 => sqrt(reduce(x, 0.0, |x| x * x, |a, b| a + b)),
            };
        }
    }

    fn columns_to_row(f: Reduction, x: &[f32], y: &mut [f32]) {
        macro_rules! rows {
            ($start:expr, |$y:ident, $x:ident| $next:expr) => {{
                y.fill($start);
                for x in x.chunks_exact(y.len()) {
                    for (y, &$x) in y.iter_mut().zip(x) {
                        let $y = *y;
                        *y = $next;
                    }
                }
            }};
        }
        match f {
            Reduction::Sum | Reduction::Mean => rows!(0.0, |y, x| y + x),
            Reduction::Max => rows!(f32::NEG_INFINITY, |y, x| larger(y, x)),
            Reduction::Min => rows!(f32::INFINITY, |y, x| smaller(y, x)),
            Reduction::L1 => rows!(0.0, |y, x| y + x.abs()),
            Reduction::L2 | Reduction::SumSquares => rows!(0.0, |y, x| y + x * x),
        }
        match f {
            Reduction::Mean => {
                let rows = (x.len() / y.len()) as f32;
                map!(y, |v| v / rows);
            }
            Reduction::L2 => map!(y, |v| sqrt(v)),
            _ => {}
        }
    }
}
