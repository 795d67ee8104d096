//! How ranges follow from observed values.

/// A way from values to a range.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Method {
    /// The smallest and the largest value.
    MinMax {
        /// The mean of the samples' ranges, instead of the range of all samples. A constant here
        /// combines rounds of samples exponentially.
        moving_average: bool,
        /// The weight of a new round in the average.
        averaging_constant: f64,
    },
    /// The thresholds whose quantized histogram is least far from the histogram, by
    /// Kullback-Leibler divergence.
    Entropy {
        /// Bins of the histogram.
        bins: usize,
        /// Bins after quantization.
        quantized_bins: usize,
    },
    /// All but the farthest values.
    Percentile {
        /// The share of the values that is kept, in percent.
        percentile: f64,
        /// Bins of the histogram.
        bins: usize,
        /// Whether the histogram is of magnitudes, and the threshold the same on both sides.
        magnitudes: bool,
    },
    /// A scale from the standard deviation, for float8.
    Distribution {
        /// Bins of the histogram.
        bins: usize,
    },
    /// The thresholds of the least squared error of quantization.
    Mse {
        /// Bins of the histogram.
        bins: usize,
        /// Steps of the quantized type.
        steps: usize,
    },
}

/// What a calibration is to do with what it observes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CalibrationSpec {
    /// The way from values to a range.
    pub method: Method,
    /// Whether a range is made to lie around 0.
    pub symmetric: bool,
}

impl CalibrationSpec {
    /// The smallest and the largest value.
    pub const MINMAX: CalibrationSpec = CalibrationSpec {
        method: Method::MinMax {
            moving_average: false,
            averaging_constant: 0.01,
        },
        symmetric: false,
    };
}
