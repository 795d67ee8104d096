//! Reductions over rows, and what is made of them.

use super::{mul_add, multiversion, unary::exp};

/// How many partial sums a reduction keeps: they are added in a fixed order at the end, so that
/// the result is the same on every instruction set that has the same multiplication.
const LANES: usize = 32;

#[inline(always)]
fn reduce(x: &[f32], start: f32, f: impl Fn(f32, f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut partial = [start; LANES];
    for chunk in chunks {
        for (p, &x) in partial.iter_mut().zip(chunk) {
            *p = f(*p, x);
        }
    }
    for (p, &x) in partial.iter_mut().zip(rest) {
        *p = f(*p, x);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            partial[i] = f(partial[i], partial[i + width]);
        }
        width /= 2;
    }
    partial[0]
}

#[inline(always)]
fn total(x: &[f32]) -> f32 {
    reduce(x, 0.0, |a, b| a + b)
}

multiversion! {
    /// Softmax of each row of `width` elements.
    pub(crate) fn softmax(x: &[f32], y: &mut [f32], width: usize) {
        let _ = FMA;
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let max = reduce(x, f32::NEG_INFINITY, |a, b| if a > b { a } else { b });
            for (y, &x) in y.iter_mut().zip(x) {
                *y = exp(x - max);
            }
            let scale = 1.0 / total(y);
            for y in y {
                *y *= scale;
            }
        }
    }
}

multiversion! {
    /// Layer normalization of each row of `scale.len()` elements; an empty `bias` is none.
    pub(crate) fn layer_norm(
        x: &[f32],
        y: &mut [f32],
        scale: &[f32],
        bias: &[f32],
        epsilon: f32,
    ) {
        let width = scale.len();
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let mean = total(x) / width as f32;
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x - mean;
            }
            let variance = sum_of_squares::<FMA>(y) / width as f32;
            let inverse = 1.0 / (variance + epsilon).sqrt();
            if bias.is_empty() {
                for (y, &s) in y.iter_mut().zip(scale) {
                    *y = *y * inverse * s;
                }
            } else {
                for ((y, &s), &b) in y.iter_mut().zip(scale).zip(bias) {
                    *y = *y * inverse * s + b;
                }
            }
        }
    }
}

#[inline(always)]
fn sum_of_squares<const FMA: bool>(x: &[f32]) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut partial = [0.0; LANES];
    for chunk in chunks {
        for (p, &x) in partial.iter_mut().zip(chunk) {
            *p = mul_add::<FMA>(x, x, *p);
        }
    }
    for (p, &x) in partial.iter_mut().zip(rest) {
        *p = mul_add::<FMA>(x, x, *p);
    }
    total(&partial)
}

multiversion! {
    /// The sum of each row of `width` elements, times `scale`.
    pub(crate) fn sums(x: &[f32], y: &mut [f32], width: usize, scale: f32) {
        let _ = FMA;
        for (x, y) in x.chunks_exact(width).zip(y) {
            *y = total(x) * scale;
        }
    }
}

/// What follows a product, element by element.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Clamp {
    pub(crate) min: Option<f32>,
    pub(crate) max: Option<f32>,
}

multiversion! {
    /// Adds `bias` and `other`, element by element where it is not empty, then clamps.
    pub(crate) fn finish(y: &mut [f32], bias: f32, other: &[f32], clamp: Clamp) {
        let _ = FMA;
        let min = clamp.min.unwrap_or(f32::NEG_INFINITY);
        let max = clamp.max.unwrap_or(f32::INFINITY);
        // Comparisons that let NaN through.
        let clamped = |v: f32| {
            let v = if v < min { min } else { v };
            if v > max { max } else { v }
        };
        if other.is_empty() {
            for y in y {
                *y = clamped(*y + bias);
            }
        } else {
            for (y, &o) in y.iter_mut().zip(other) {
                *y = clamped(*y + bias + o);
            }
        }
    }
}

multiversion! {
    /// `y = x * scale + shift`.
    pub(crate) fn affine(x: &[f32], y: &mut [f32], scale: f32, shift: f32) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = mul_add::<FMA>(x, scale, shift);
        }
    }
}
