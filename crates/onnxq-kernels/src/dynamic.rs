//! Quantization whose scale and zero point come from the data, as DynamicQuantizeLinear has it.

use crate::{Cpu, Quantize, range};

/// The quantization to `u8` of data whose smallest and largest elements are given, see
/// [`range`]: its range is widened to 0, and `scale = (high - low) / 255`,
/// `zero = clamp(rne(-low / scale))`. Of nothing but zeros the scale is 1.
pub fn dynamic_parameters([low, high]: [f32; 2]) -> Quantize {
    // Comparisons that are false for the range of nothing.
    let low = if low < 0.0 { low } else { 0.0 };
    let high = if high > 0.0 { high } else { 0.0 };
    if low == high {
        return Quantize::new(1.0, 0, false);
    }
    let scale = (high - low) / 255.0;
    let zero = Quantize::new(1.0, 0, false).rounded(0.0 - low / scale);
    Quantize::new(scale, i32::from(zero), false)
}

/// Quantizes all of `x` with parameters from its own range, which are returned.
///
/// # Panics
/// `y` is not as long.
pub fn dynamic_quantize(cpu: Cpu, x: &[f32], y: &mut [u8]) -> Quantize {
    let quantize = dynamic_parameters(range(cpu, x));
    quantize.run(cpu, x, y);
    quantize
}

/// What is added to the sums of each column of a product for a zero point of the left operand that only data shows:
/// `depth · zero · weight_zero - zero · Σw`. `sums` are those of the packed weights; there may be no `weight_zeros`.
///
/// # Panics
/// Lengths that differ.
pub fn zero_offsets(
    zero: i32,
    sums: &[i32],
    weight_zeros: &[i32],
    depth: usize,
    offsets: &mut [i32],
) {
    assert_eq!(offsets.len(), sums.len(), "an offset for each column");
    let all = zero.wrapping_mul(depth as i32);
    for (offset, sum) in offsets.iter_mut().zip(sums) {
        *offset = 0i32.wrapping_sub(zero.wrapping_mul(*sum));
    }
    if weight_zeros.is_empty() {
        return;
    }
    assert_eq!(
        weight_zeros.len(),
        sums.len(),
        "a zero point for each column"
    );
    for (offset, weight_zero) in offsets.iter_mut().zip(weight_zeros) {
        *offset = offset.wrapping_add(all.wrapping_mul(*weight_zero));
    }
}

/// The factor of each column of a product: `scale`, one or one for each column, times `weight_scale`, one, one for each
/// column, or none.
///
/// # Panics
/// Other lengths.
pub fn column_scales(scale: &[f32], weight_scale: &[f32], scales: &mut [f32]) {
    match scale {
        [one] => scales.fill(*one),
        _ => scales.copy_from_slice(scale),
    }
    match weight_scale {
        [] => {}
        [one] => scales.iter_mut().for_each(|scale| *scale *= one),
        _ => {
            assert_eq!(weight_scale.len(), scales.len(), "a scale for each column");
            for (scale, weight) in scales.iter_mut().zip(weight_scale) {
                *scale *= weight;
            }
        }
    }
}
