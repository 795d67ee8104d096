//! How much the channels of a weight differ in range.
//!
//! With one scale for all of them, a channel whose range is narrower than the widest by a factor
//! of 64 has 4 steps of 8 bits, and by one of 300 none.

use onnxq_quant::{Granularity, QuantizedWeight, ValueRange, weight_ranges};
use onnxq_tensor::{DType, Tensor};

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

/// The steps from the zero point to the farthest code, in the median channel and in all.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Steps {
    pub(super) median: u8,
    pub(super) all: u8,
}

impl Steps {
    /// Whether half of the channels are as good as lost.
    pub(super) fn are_lost(self) -> bool {
        u32::from(self.median) * 48 < u32::from(self.all)
    }
}

/// The steps of the channels along `axis` of a weight of 8 bits with one scale. Channels
/// that were zeros to begin with count as lost.
pub(super) fn steps(weight: &QuantizedWeight, axis: i64) -> Option<Steps> {
    let dims = weight.data.dims();
    let axis = if axis < 0 {
        axis + dims.len() as i64
    } else {
        axis
    };
    let axis = usize::try_from(axis).ok().filter(|&a| a < dims.len())?;
    let inner: usize = dims[axis + 1..].iter().product();
    let zero = *weight.zero_point.bytes().first()?;
    let is_signed = weight.data.dtype() == DType::I8;
    let steps = |code: u8| match is_signed {
        true => (code as i8).abs_diff(zero as i8),
        false => code.abs_diff(zero),
    };
    let mut largest = vec![0u8; dims[axis]];
    if inner == 1 {
        for row in weight.data.bytes().chunks(dims[axis].max(1)) {
            for (largest, &code) in largest.iter_mut().zip(row) {
                *largest = steps(code).max(*largest);
            }
        }
    } else {
        for (i, channel) in weight.data.bytes().chunks(inner.max(1)).enumerate() {
            let far = channel.iter().map(|&code| steps(code)).max();
            let largest = &mut largest[i % dims[axis]];
            *largest = far.unwrap_or(0).max(*largest);
        }
    }
    largest.sort_unstable();
    Some(Steps {
        median: *largest.get(largest.len() / 2)?,
        all: *largest.last()?,
    })
}

#[cfg(test)]
mod tests {
    use onnxq_quant::{QuantType, WeightSpec, quantize_weight};

    use super::*;

    /// Rows of ranges 100, 1 and 0.1.
    fn rows() -> Tensor {
        let values = vec![100.0f32, -50.0, 1.0, -1.0, 0.1, 0.0];
        Tensor::from_vec([3, 2].as_slice(), values).unwrap()
    }

    #[test]
    fn the_median_channel_counts() {
        assert_eq!(spread(&rows(), 0), 100.0);
        assert_eq!(spread(&rows(), -2), 100.0);
        assert_eq!(spread(&rows(), 1), 1.0);
        let zeros = Tensor::zeros(DType::F32, [3, 2].as_slice()).unwrap();
        assert_eq!(spread(&zeros, 0), 1.0);
    }

    #[test]
    fn steps_are_counted_from_the_zero_point() {
        for qtype in [QuantType::Int8, QuantType::UInt8] {
            let spec = WeightSpec {
                symmetric: Some(true),
                ..WeightSpec::new(qtype)
            };
            let q = quantize_weight(&rows(), &spec).unwrap();
            let lost = steps(&q, 0).unwrap();
            assert_eq!(lost.median, 1);
            assert!(lost.all >= 127 && lost.are_lost(), "{lost:?}");
            assert!(!steps(&q, 1).unwrap().are_lost());
            assert_eq!(steps(&q, 2), None);
        }
    }
}
