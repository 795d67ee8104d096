//! Softmax over rows of bytes, as QLinearSoftmax does it.

use crate::{Cpu, Quantize, elementwise::CHUNK, tiers::tiers};

/// Softmax over rows of bytes: `clamp(rne(e · factor / Σe) + zero)` where `e = table[255 - (max - x)]`.
#[derive(Clone, Copy, Debug)]
pub struct ByteSoftmax<'a> {
    /// Exponentials of the distances to the largest element, the last being that of zero; all times the same factor.
    pub table: &'a [f32; 256],
    /// `1 / scale` of the result, a whole number.
    pub factor: f32,
    /// The zero point of the result.
    pub zero: i32,
    /// Whether operand and result are `i8`.
    pub signed: bool,
}

impl ByteSoftmax<'_> {
    /// Computes rows of `width` bytes. The sum of each is in order.
    ///
    /// # Panics
    /// `x` is no whole number of rows, or `y` not as long.
    pub fn run(&self, cpu: Cpu, x: &[u8], width: usize, y: &mut [u8]) {
        assert_eq!(x.len(), y.len(), "the result");
        if x.is_empty() {
            return;
        }
        assert!(width > 0 && x.len().is_multiple_of(width), "whole rows");
        rows(cpu, self, x, width, y);
    }
}

tiers! {
    fn rows(by: &ByteSoftmax<'_>, x: &[u8], width: usize, y: &mut [u8]) {
        let flip = if by.signed { 0x80 } else { 0 };
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let mut most = 0;
            for x in x {
                most = most.max(x ^ flip);
            }
            let exp = |x: u8| by.table[usize::from(255 - (most - (x ^ flip)))];
            let mut sum = 0f32;
            for x in x {
                sum += exp(*x);
            }
            let to = Quantize::new(sum, by.zero, by.signed);
            let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<CHUNK>(), y.as_chunks_mut());
            for (x, y) in x.iter().zip(y) {
                to.chunk(&x.map(|x| exp(x) * by.factor), y);
            }
            for (x, y) in x_rest.iter().zip(y_rest) {
                *y = to.exact(exp(*x) * by.factor);
            }
        }
    }
}
