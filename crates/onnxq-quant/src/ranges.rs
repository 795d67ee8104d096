//! Calibrated ranges, by tensor.

use indexmap::IndexMap;

use crate::ValueRange;

/// What calibration knows of one tensor.
#[derive(Clone, PartialEq, Debug)]
pub enum TensorRange {
    /// One range for all of it.
    Tensor(ValueRange),
    /// A range for each slice along an axis.
    Channels {
        /// The axis; negative counts from the end.
        axis: i64,
        /// One for each index along the axis.
        ranges: Vec<ValueRange>,
    },
}

impl TensorRange {
    /// The range of all of the tensor.
    pub fn whole(&self) -> ValueRange {
        match self {
            TensorRange::Tensor(range) => *range,
            TensorRange::Channels { ranges, .. } => ranges
                .iter()
                .fold(ValueRange::EMPTY, |all, &range| all.merge(range)),
        }
    }
}

/// How the values of a tensor are distributed.
#[derive(Clone, Copy, PartialEq, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Moments {
    pub mean: f32,
    /// The standard deviation, from which `float8` has its [scale](crate::float8_scale).
    pub deviation: f32,
}

/// Ranges by the name of the tensor, in the order they were found.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ranges {
    tensors: IndexMap<String, TensorRange>,
    moments: IndexMap<String, Moments>,
}

impl Ranges {
    /// The range of a tensor.
    pub fn get(&self, tensor: &str) -> Option<&TensorRange> {
        self.tensors.get(tensor)
    }

    /// Sets the range of a tensor.
    pub fn insert(&mut self, tensor: impl Into<String>, range: TensorRange) {
        self.tensors.insert(tensor.into(), range);
    }

    /// Mean and deviation of a tensor, known from
    /// [`Method::Distribution`](crate::Method::Distribution) alone.
    pub fn moments(&self, tensor: &str) -> Option<Moments> {
        self.moments.get(tensor).copied()
    }

    /// Sets mean and deviation of a tensor.
    pub fn set_moments(&mut self, tensor: impl Into<String>, moments: Moments) {
        self.moments.insert(tensor.into(), moments);
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &TensorRange)> {
        self.tensors.iter().map(|(name, range)| (&**name, range))
    }

    /// How many tensors have one.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}

impl<N: Into<String>> FromIterator<(N, TensorRange)> for Ranges {
    fn from_iter<I: IntoIterator<Item = (N, TensorRange)>>(ranges: I) -> Ranges {
        Ranges {
            tensors: ranges.into_iter().map(|(n, r)| (n.into(), r)).collect(),
            moments: IndexMap::new(),
        }
    }
}
