//! The types that floats are quantized to, and their ranges of codes.

use std::fmt;

use onnxq_tensor::DType;

/// A type to quantize to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the variants are the specification's names")]
pub enum QuantType {
    Int8,
    UInt8,
    Int16,
    UInt16,
    Int4,
    UInt4,
    Float8E4M3FN,
}

use QuantType::*;

impl QuantType {
    /// Every type.
    pub const ALL: &'static [QuantType] = &[Int8, UInt8, Int16, UInt16, Int4, UInt4, Float8E4M3FN];

    /// The element type of tensors of these codes.
    pub fn dtype(self) -> DType {
        match self {
            Int8 => DType::I8,
            UInt8 => DType::U8,
            Int16 => DType::I16,
            UInt16 => DType::U16,
            Int4 => DType::I4,
            UInt4 => DType::U4,
            Float8E4M3FN => DType::F8E4M3FN,
        }
    }

    /// The type whose codes are elements of `dtype`.
    pub fn from_dtype(dtype: DType) -> Option<QuantType> {
        QuantType::ALL.iter().copied().find(|t| t.dtype() == dtype)
    }

    /// The name in options and messages, that of the element type.
    pub fn name(self) -> &'static str {
        self.dtype().name()
    }

    /// The type of this [`name`](QuantType::name).
    pub fn from_name(name: &str) -> Option<QuantType> {
        QuantType::ALL.iter().copied().find(|t| t.name() == name)
    }

    /// Whether codes have a sign. Weights of such types are symmetric by default.
    pub fn is_signed(self) -> bool {
        matches!(self, Int8 | Int16 | Int4 | Float8E4M3FN)
    }
}

impl fmt::Display for QuantType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An inclusive range of codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct QRange {
    pub min: i32,
    pub max: i32,
}

impl QRange {
    /// The range from which scale and zero point are derived. Data is clamped to the
    /// [`full`](QRange::full) range whatever this one is.
    ///
    /// A reduced range leaves one bit unused, so that 16-bit sums of two 8-bit products cannot
    /// overflow; it wins over `symmetric`. Only 8 and 16 bits have a symmetric range of their
    /// own: 4 bits cannot spare a code.
    pub fn of(qtype: QuantType, symmetric: bool, reduce_range: bool) -> QRange {
        let (min, max) = match (qtype, reduce_range, symmetric) {
            (Int8, true, _) => (-64, 64),
            (UInt8, true, _) => (0, 127),
            (Int16, true, _) => (-16384, 16384),
            (UInt16, true, _) => (0, 32767),
            (Int4, true, _) => (-4, 3),
            (UInt4, true, _) => (0, 7),
            (Int8, false, true) => (-127, 127),
            (Int16, false, true) => (-32767, 32767),
            _ => return QRange::full(qtype),
        };
        QRange { min, max }
    }

    /// The range of the type. For `float8e4m3fn` that of its finite values.
    pub fn full(qtype: QuantType) -> QRange {
        let (min, max) = match qtype {
            Int8 => (-128, 127),
            UInt8 => (0, 255),
            Int16 => (-32768, 32767),
            UInt16 => (0, 65535),
            Int4 => (-8, 7),
            UInt4 => (0, 15),
            Float8E4M3FN => (-448, 448),
        };
        QRange { min, max }
    }

    /// The number of steps from one end to the other.
    pub fn steps(self) -> i32 {
        self.max - self.min
    }

    /// The zero point of symmetric quantization: the middle, ties to even.
    pub fn middle(self) -> i32 {
        let (sum, below) = (self.min + self.max, (self.min + self.max).div_euclid(2));
        below + (sum & below & 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middles_are_the_symmetric_zero_points() {
        let middle = |t, reduce| QRange::of(t, true, reduce).middle();
        assert_eq!([Int8, Int16, Int4].map(|t| middle(t, false)), [0, 0, 0]);
        assert_eq!(
            [UInt8, UInt16, UInt4].map(|t| middle(t, false)),
            [128, 32768, 8]
        );
        assert_eq!([Int8, Int16, Int4].map(|t| middle(t, true)), [0, 0, 0]);
        assert_eq!(
            [UInt8, UInt16, UInt4].map(|t| middle(t, true)),
            [64, 16384, 4]
        );
    }

    #[test]
    fn names_and_element_types_go_both_ways() {
        for &t in QuantType::ALL {
            assert_eq!(QuantType::from_name(t.name()), Some(t));
            assert_eq!(QuantType::from_dtype(t.dtype()), Some(t));
        }
        assert_eq!(QuantType::from_dtype(DType::F32), None);
    }
}
