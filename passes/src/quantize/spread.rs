//! How much the channels of a weight differ in range.
//!
//! With one scale for all of them, a channel whose range is narrower than the widest by a factor
//! of 64 has 4 codes of 8 bits, and by one of 200 none but 0.

use onnxq_quant::{Granularity, ValueRange, weight_ranges};
use onnxq_tensor::Tensor;

/// A spread from which on most channels are as good as lost, which is worth a warning.
pub(super) const LOST: f32 = 64.0;

/// A spread from which on scales of their own are worth their bytes. Of the models measured, the
/// first to gain are speech detectors with spreads of 24 and 198; most weights are below 6.
pub(super) const WORTH_CHANNELS: f32 = 16.0;

/// How much larger the largest of all elements is than that of the median channel along `axis`.
pub(super) fn spread(weight: &Tensor, axis: i64) -> f32 {
    let ranges = weight_ranges(weight, Granularity::PerChannel { axis });
    let largest = |r: &ValueRange| r.hi.max(-r.lo);
    let mut channels: Vec<f32> = ranges.iter().flatten().map(largest).collect();
    // Channels of zeros lose nothing.
    channels.retain(|&c| c > 0.0);
    channels.sort_unstable_by(f32::total_cmp);
    match (channels.get(channels.len() / 2), channels.last()) {
        (Some(median), Some(all)) => all / median,
        _ => 1.0,
    }
}
