//! [`Tensor`]: an element type, dimensions, and shared bytes.
//!
//! The bytes are exactly `TensorProto.raw_data`: little endian, row-major, elements under a byte
//! packed from the low bits up. Strings are kept apart. Cloning, reshaping and slicing rows share
//! the bytes.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{Buffer, DType, Element};

/// Dimensions of a tensor whose shape is known.
pub type Dims = SmallVec<[usize; 4]>;

/// A dense tensor.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    dtype: DType,
    dims: Dims,
    data: Data,
}

#[derive(Clone, PartialEq)]
enum Data {
    Packed(Buffer),
    Strings(Arc<[Bytes]>),
}

/// Why a tensor cannot be made or read as asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum TensorError {
    #[error("{dtype}{dims:?} needs {expected} bytes, found {found}")]
    Length {
        dtype: DType,
        dims: Vec<usize>,
        expected: usize,
        found: usize,
    },
    #[error("the number of elements of {0:?} is too large")]
    TooLarge(Vec<usize>),
    #[error("expected a tensor of {expected}, found {found}")]
    DType { expected: DType, found: DType },
    #[error("{found} is not {expected}")]
    Kind {
        expected: &'static str,
        found: DType,
    },
    #[error("cannot view {from} elements as {to:?}")]
    Reshape { from: usize, to: Vec<usize> },
    #[error("expected one element, found dimensions {0:?}")]
    Scalar(Vec<usize>),
    #[error("{text:?} is not a {expected}")]
    Text { text: String, expected: DType },
}

/// The number of elements of `dims`.
pub fn element_count(dims: &[usize]) -> Result<usize, TensorError> {
    // A zero anywhere makes the product zero, however large the others.
    if dims.contains(&0) {
        return Ok(0);
    }
    dims.iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= isize::MAX as usize / 16)
        .ok_or_else(|| TensorError::TooLarge(dims.to_vec()))
}

/// An empty vector with room for `count`; an error where there is not that much memory, which a
/// file can claim that it needs.
fn reserve<T>(count: usize, dims: &[usize]) -> Result<Vec<T>, TensorError> {
    let mut values = Vec::new();
    match values.try_reserve_exact(count) {
        Ok(()) => Ok(values),
        Err(_) => Err(TensorError::TooLarge(dims.to_vec())),
    }
}

impl Tensor {
    /// A tensor over bytes in the layout of `raw_data`; their number must be exact.
    pub fn new(
        dtype: DType,
        dims: impl Into<Dims>,
        data: impl Into<Buffer>,
    ) -> Result<Tensor, TensorError> {
        let (dims, data) = (dims.into(), data.into());
        if dtype == DType::String {
            return Err(TensorError::Kind {
                expected: "a fixed-size element type",
                found: dtype,
            });
        }
        let count = element_count(&dims)?;
        let expected = dtype
            .byte_len(count)
            .ok_or_else(|| TensorError::TooLarge(dims.to_vec()))?;
        if data.len() != expected {
            return Err(TensorError::Length {
                dtype,
                dims: dims.to_vec(),
                expected,
                found: data.len(),
            });
        }
        Ok(Tensor {
            dtype,
            dims,
            data: Data::Packed(data),
        })
    }

    /// A tensor of strings.
    pub fn from_strings(
        dims: impl Into<Dims>,
        values: impl Into<Arc<[Bytes]>>,
    ) -> Result<Tensor, TensorError> {
        let (dims, values) = (dims.into(), values.into());
        if element_count(&dims)? != values.len() {
            return Err(TensorError::Length {
                dtype: DType::String,
                expected: element_count(&dims)?,
                found: values.len(),
                dims: dims.to_vec(),
            });
        }
        Ok(Tensor {
            dtype: DType::String,
            dims,
            data: Data::Strings(values),
        })
    }

    /// A tensor that owns `values`, without a copy.
    pub fn from_vec<T: Element>(
        dims: impl Into<Dims>,
        values: Vec<T>,
    ) -> Result<Tensor, TensorError> {
        Tensor::new(T::DTYPE, dims, Buffer::from_vec(values))
    }

    /// A tensor of `bool`, one byte each.
    pub fn from_bools(dims: impl Into<Dims>, values: Vec<bool>) -> Result<Tensor, TensorError> {
        Tensor::new(DType::Bool, dims, Buffer::from_vec(values))
    }

    /// A tensor of rank 0.
    pub fn scalar<T: Element>(value: T) -> Tensor {
        Tensor {
            dtype: T::DTYPE,
            dims: Dims::new(),
            data: Data::Packed(Buffer::from_vec(vec![value])),
        }
    }

    /// A tensor of rank 1.
    pub fn vector<T: Element>(values: Vec<T>) -> Tensor {
        let dims = Dims::from_slice(&[values.len()]);
        Tensor {
            dtype: T::DTYPE,
            dims,
            data: Data::Packed(Buffer::from_vec(values)),
        }
    }

    /// A tensor of zeros (empty strings for [`DType::String`]).
    pub fn zeros(dtype: DType, dims: impl Into<Dims>) -> Result<Tensor, TensorError> {
        let dims = dims.into();
        let count = element_count(&dims)?;
        if dtype == DType::String {
            return Tensor::repeat(dims, &Tensor::from_strings(Dims::new(), [Bytes::new()])?);
        }
        let too_large = || TensorError::TooLarge(dims.to_vec());
        let bytes = dtype.byte_len(count).ok_or_else(too_large)?;
        // Words of u64 are aligned for every element type. Asking for zeros instead of writing
        // them leaves the memory untouched until it is used.
        let words = bytemuck::allocation::try_zeroed_slice_box::<u64>(bytes.div_ceil(8))
            .map_err(|()| too_large())?;
        Tensor::new(
            dtype,
            dims,
            Buffer::from_vec(words.into_vec()).slice(0..bytes),
        )
    }

    /// A tensor whose every element is the one element of `value`.
    pub(crate) fn repeat(dims: Dims, value: &Tensor) -> Result<Tensor, TensorError> {
        fn of<T: bytemuck::Pod + Send + Sync>(
            dims: Dims,
            value: &Tensor,
        ) -> Result<Tensor, TensorError> {
            let count = element_count(&dims)?;
            let mut values = reserve::<T>(count, &dims)?;
            values.resize(count, bytemuck::pod_read_unaligned(value.bytes()));
            Tensor::new(value.dtype, dims, Buffer::from_vec(values))
        }
        let count = element_count(&dims)?;
        if let Data::Strings(strings) = &value.data {
            let mut values = reserve(count, &dims)?;
            values.resize(count, strings[0].clone());
            return Tensor::from_strings(dims, values);
        }
        match value.dtype.bits() {
            _ if value.bytes().iter().all(|&b| b == 0) => Tensor::zeros(value.dtype, dims),
            8 => of::<u8>(dims, value),
            16 => of::<u16>(dims, value),
            32 => of::<u32>(dims, value),
            64 => of::<u64>(dims, value),
            128 => of::<[u64; 2]>(dims, value),
            _ => {
                let codes = std::iter::repeat_n(value.packed_bits(0), count);
                Tensor::from_packed_bits(value.dtype, dims, codes)
            }
        }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        // Checked when the tensor was made.
        if self.dims.contains(&0) {
            0
        } else {
            self.dims.iter().product()
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the elements: of the packed data, or of all strings together.
    pub fn byte_len(&self) -> usize {
        match &self.data {
            Data::Packed(b) => b.len(),
            Data::Strings(s) => s.iter().map(Bytes::len).sum(),
        }
    }

    /// The packed bytes; `None` for strings.
    pub fn buffer(&self) -> Option<&Buffer> {
        match &self.data {
            Data::Packed(b) => Some(b),
            Data::Strings(_) => None,
        }
    }

    /// The packed bytes; empty for strings.
    pub fn bytes(&self) -> &[u8] {
        self.buffer().map_or(&[], |b| b)
    }

    /// The strings; `None` for other types.
    pub fn strings(&self) -> Option<&Arc<[Bytes]>> {
        match &self.data {
            Data::Packed(_) => None,
            Data::Strings(s) => Some(s),
        }
    }

    /// The elements as `T`, which must be their type exactly. Borrowed where the bytes are
    /// aligned, which those in files need not be.
    pub fn as_slice<T: Element>(&self) -> Result<Cow<'_, [T]>, TensorError> {
        if T::DTYPE != self.dtype {
            return Err(TensorError::DType {
                expected: T::DTYPE,
                found: self.dtype,
            });
        }
        let bytes = self.bytes();
        Ok(match bytemuck::try_cast_slice(bytes) {
            Ok(slice) => Cow::Borrowed(slice),
            Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(bytes)),
        })
    }

    /// The elements of a `bool` tensor. Any non-zero byte is true.
    pub fn as_bools(&self) -> Result<Vec<bool>, TensorError> {
        if self.dtype != DType::Bool {
            return Err(TensorError::DType {
                expected: DType::Bool,
                found: self.dtype,
            });
        }
        Ok(self.bytes().iter().map(|&b| b != 0).collect())
    }

    /// The same elements under other dimensions.
    pub fn reshape(&self, dims: impl Into<Dims>) -> Result<Tensor, TensorError> {
        let dims = dims.into();
        if element_count(&dims)? != self.len() {
            return Err(TensorError::Reshape {
                from: self.len(),
                to: dims.to_vec(),
            });
        }
        Ok(Tensor {
            dtype: self.dtype,
            dims,
            data: self.data.clone(),
        })
    }

    /// The entries `range` of the first axis, sharing the bytes.
    ///
    /// # Errors
    /// The range is out of bounds, or rows of a packed type do not begin at a byte.
    pub fn rows(&self, range: std::ops::Range<usize>) -> Result<Tensor, TensorError> {
        let error = || TensorError::Reshape {
            from: self.len(),
            to: vec![range.start, range.end],
        };
        let (&first, rest) = self.dims.split_first().ok_or_else(error)?;
        if range.start > range.end || range.end > first {
            return Err(error());
        }
        let row = element_count(rest)?;
        let mut dims = self.dims.clone();
        dims[0] = range.len();
        let data = match &self.data {
            Data::Packed(b) => {
                let (start, end) = (range.start * row, range.end * row);
                let bits = self.dtype.bits();
                if !(start * bits).is_multiple_of(8) {
                    return Err(error());
                }
                Data::Packed(b.slice(start * bits / 8..(end * bits).div_ceil(8)))
            }
            Data::Strings(s) => {
                Data::Strings(s[range.start * row..range.end * row].to_vec().into())
            }
        };
        Ok(Tensor {
            dtype: self.dtype,
            dims,
            data,
        })
    }

    /// Tensors of one type, and of equal dimensions but for the first, one after the other.
    ///
    /// # Errors
    /// There are none, they do not fit together, or their type is packed.
    pub fn concat_rows(parts: &[Tensor]) -> Result<Tensor, TensorError> {
        let none = TensorError::Reshape {
            from: 0,
            to: vec![],
        };
        let first = parts.first().ok_or(none)?;
        let (_, rest) = first.dims.split_first().ok_or(TensorError::Reshape {
            from: 1,
            to: vec![parts.len()],
        })?;
        let mut count = 0;
        for part in parts {
            if part.dtype != first.dtype {
                return Err(TensorError::DType {
                    expected: first.dtype,
                    found: part.dtype,
                });
            }
            if part.rank() == 0 || &part.dims[1..] != rest || first.dtype.is_packed() {
                let to = first.dims.to_vec();
                return Err(TensorError::Reshape {
                    from: part.len(),
                    to,
                });
            }
            count += part.dims[0];
        }
        let mut dims = first.dims.clone();
        dims[0] = count;
        if first.dtype == DType::String {
            let strings: Vec<Bytes> = parts
                .iter()
                .filter_map(Tensor::strings)
                .flat_map(|s| s.iter().cloned())
                .collect();
            return Tensor::from_strings(dims, strings);
        }
        let mut bytes = Vec::with_capacity(parts.iter().map(Tensor::byte_len).sum());
        for part in parts {
            bytes.extend_from_slice(part.bytes());
        }
        Tensor::new(first.dtype, dims, bytes)
    }

    /// The same bytes as elements of another type of equal width (`int8` as `uint8`, ...).
    pub fn bit_cast(&self, dtype: DType) -> Result<Tensor, TensorError> {
        if dtype.bits() != self.dtype.bits() || dtype == DType::String {
            return Err(TensorError::DType {
                expected: dtype,
                found: self.dtype,
            });
        }
        Ok(Tensor {
            dtype,
            dims: self.dims.clone(),
            data: self.data.clone(),
        })
    }

    /// The integers of an integer or `bool` tensor of any width.
    pub fn to_i64s(&self) -> Result<Vec<i64>, TensorError> {
        fn widen<T: Element + TryInto<i64>>(t: &Tensor) -> Result<Vec<i64>, TensorError> {
            let kind = TensorError::Kind {
                expected: "in the range of int64",
                found: t.dtype,
            };
            t.as_slice::<T>()?
                .iter()
                .map(|&v| v.try_into().map_err(|_| kind.clone()))
                .collect()
        }
        match self.dtype {
            DType::I64 => Ok(self.as_slice::<i64>()?.into_owned()),
            DType::I32 => widen::<i32>(self),
            DType::I16 => widen::<i16>(self),
            DType::I8 => widen::<i8>(self),
            DType::U64 => widen::<u64>(self),
            DType::U32 => widen::<u32>(self),
            DType::U16 => widen::<u16>(self),
            DType::U8 => widen::<u8>(self),
            DType::Bool => Ok(self.bytes().iter().map(|&b| i64::from(b != 0)).collect()),
            d if d.is_int() => Ok((0..self.len()).map(|i| self.packed_int(i)).collect()),
            found => Err(TensorError::Kind {
                expected: "an integer type",
                found,
            }),
        }
    }

    /// The element code at `i` of a packed type, its bits as they are.
    pub fn packed_bits(&self, i: usize) -> u8 {
        let width = self.dtype.bits();
        let (bytes, bit) = (self.bytes(), i * width);
        let low = u16::from(bytes[bit / 8]);
        let high = bytes.get(bit / 8 + 1).map_or(0, |&b| u16::from(b) << 8);
        ((low | high) >> (bit % 8)) as u8 & ((1u16 << width) - 1) as u8
    }

    fn packed_int(&self, i: usize) -> i64 {
        let (bits, width) = (i64::from(self.packed_bits(i)), self.dtype.bits());
        if self.dtype.is_signed_int() && bits >> (width - 1) == 1 {
            bits - (1 << width)
        } else {
            bits
        }
    }

    /// Packs element codes of a type under a byte.
    pub fn from_packed_bits(
        dtype: DType,
        dims: impl Into<Dims>,
        codes: impl IntoIterator<Item = u8>,
    ) -> Result<Tensor, TensorError> {
        let dims = dims.into();
        let (count, width) = (element_count(&dims)?, dtype.bits());
        if !dtype.is_packed() {
            return Err(TensorError::Kind {
                expected: "a packed type",
                found: dtype,
            });
        }
        let mut bytes = reserve::<u8>((count * width).div_ceil(8), &dims)?;
        // Bits that do not fill a byte yet, and how many they are.
        let (mut bits, mut pending, mut found) = (0u16, 0, 0);
        for code in codes.into_iter().take(count) {
            bits |= (u16::from(code) & ((1 << width) - 1)) << pending;
            pending += width;
            if pending >= 8 {
                bytes.push(bits as u8);
                bits >>= 8;
                pending -= 8;
            }
            found += 1;
        }
        if pending > 0 {
            bytes.push(bits as u8);
        }
        if found != count {
            return Err(TensorError::Reshape {
                from: found,
                to: dims.to_vec(),
            });
        }
        Tensor::new(dtype, dims, bytes)
    }

    /// Gives the memory of mapped pages back until they are read again (see [`Buffer`]).
    pub fn release(&self) {
        if let Some(buffer) = self.buffer() {
            buffer.release();
        }
    }

    /// Whether both have the same type, dimensions and memory: certainly equal, found at once.
    pub fn same(&self, other: &Tensor) -> bool {
        self.dtype == other.dtype
            && self.dims == other.dims
            && match (&self.data, &other.data) {
                (Data::Packed(a), Data::Packed(b)) => a.same(b),
                (Data::Strings(a), Data::Strings(b)) => Arc::ptr_eq(a, b),
                _ => false,
            }
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.dims.as_slice())
    }
}

#[cfg(test)]
mod tests;
