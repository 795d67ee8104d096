//! How ranges follow from observed values.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A way from values to a range.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", rename_all_fields = "kebab-case")]
pub enum Method {
    /// The smallest and the largest value.
    MinMax {
        /// The mean of the samples' smallest and that of their largest values instead.
        moving_average: bool,
        /// Samples in a round of a moving average; without it all are one round. The mean of
        /// each further round moves the average by [`averaging_constant`] of its distance.
        ///
        /// [`averaging_constant`]: Method::MinMax::averaging_constant
        round: Option<NonZeroUsize>,
        /// The weight of a further round.
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

impl Method {
    /// The smallest and the largest value.
    pub const MINMAX: Method = Method::MinMax {
        moving_average: false,
        round: None,
        averaging_constant: 0.01,
    };
    /// 2048 bins, quantized to 128, as the method was published. (`onnxruntime.quantization`
    /// has 128 of both by default, which leaves one candidate: the range of all values. That is
    /// `bins: 128`.)
    pub const ENTROPY: Method = Method::Entropy {
        bins: 2048,
        quantized_bins: 128,
    };
    /// 99.999 % of the magnitudes.
    pub const PERCENTILE: Method = Method::Percentile {
        percentile: 99.999,
        bins: 2048,
        magnitudes: true,
    };
    /// 2048 bins.
    pub const DISTRIBUTION: Method = Method::Distribution { bins: 2048 };
    /// 2048 bins, 8-bit codes.
    pub const MSE: Method = Method::Mse {
        bins: 2048,
        steps: 255,
    };

    /// The name in options and files.
    pub fn name(&self) -> &'static str {
        match self {
            Method::MinMax { .. } => "minmax",
            Method::Entropy { .. } => "entropy",
            Method::Percentile { .. } => "percentile",
            Method::Distribution { .. } => "distribution",
            Method::Mse { .. } => "mse",
        }
    }

    /// The method of this [`name`](Method::name) with its defaults.
    pub fn from_name(name: &str) -> Option<Method> {
        let all = [
            Method::MINMAX,
            Method::ENTROPY,
            Method::PERCENTILE,
            Method::DISTRIBUTION,
            Method::MSE,
        ];
        all.into_iter().find(|m| m.name() == name)
    }

    /// The bins of the histogram, where there is one.
    pub fn bins(&self) -> Option<usize> {
        match *self {
            Method::MinMax { .. } => None,
            Method::Entropy { bins, .. }
            | Method::Percentile { bins, .. }
            | Method::Distribution { bins }
            | Method::Mse { bins, .. } => Some(bins),
        }
    }

    /// Refuses numbers that mean nothing.
    pub fn check(&self) -> Result<()> {
        let refuse = |what, value| Err(Error::Method { what, value });
        if let Some(bins) = self.bins()
            && !(2..=MAX_BINS).contains(&bins)
        {
            return refuse("number of bins (2 to 65536)", bins as f64);
        }
        match *self {
            Method::MinMax {
                averaging_constant: c,
                ..
            } if !(0.0..=1.0).contains(&c) => refuse("averaging constant (0 to 1)", c),
            Method::Entropy {
                bins,
                quantized_bins: q,
            } if !(1..=bins).contains(&q) => {
                refuse("number of quantized bins (1 to that of bins)", q as f64)
            }
            Method::Percentile { percentile: p, .. } if !(0.0..=100.0).contains(&p) => {
                refuse("percentile (0 to 100)", p)
            }
            Method::Mse { steps, .. } if !(1..=65535).contains(&steps) => {
                refuse("number of steps (1 to 65535)", steps as f64)
            }
            _ => Ok(()),
        }
    }
}

/// More bins than a float's mantissa tells apart are of no use, and entropy is quadratic in them.
const MAX_BINS: usize = 1 << 16;

/// What a calibration is to do with what it observes.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct CalibrationSpec {
    /// The way from values to a range.
    pub method: Method,
    /// Whether a range is made to lie around 0.
    pub symmetric: bool,
}

impl CalibrationSpec {
    /// The smallest and the largest value.
    pub const MINMAX: CalibrationSpec = CalibrationSpec {
        method: Method::MINMAX,
        symmetric: false,
    };
}
