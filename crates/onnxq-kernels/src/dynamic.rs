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
