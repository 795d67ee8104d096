//! Conversions between element types: the ONNX operator Cast, and reading as `f32` or `f64`.
//!
//! Where the specification leaves a result open, it is that of ONNX Runtime's CPU provider on
//! x86-64, as observed with version 1.31.1:
//!
//! - A float outside the range of an integer type becomes what the instruction `cvttsd2si` gives
//!   (the least number of 32 or 64 bits), cut to the width of the type: 300.0 as `uint8` is 44.
//! - Floats are cut towards zero to become integers, but rounded half away from zero to become
//!   integers under a byte.
//! - `float16`, `bfloat16` and float 8 are reached through `float`: rounded twice from `double`.
//! - A float as a string has eight significant digits, like C's `%.8g`, and `INF`, `-INF`, `NaN`.
//! - A string as a number is read by its longest prefix that is one, which must not be empty.
//!
//! Without `saturate`, float 8 follows the specification (and ml_dtypes): what rounds above the
//! largest number is infinity or NaN, where ONNX Runtime makes exceptions just above it.

use std::borrow::Cow;

use bytes::Bytes;
use half::{bf16, f16, slice::HalfFloatSliceExt};

use self::number::{FromNumber, Number, Small};
use crate::{
    DType, Element, Tensor, TensorError,
    narrow::{self, NarrowFloat, ScaleRounding},
    tensor::Dims,
};

mod number;
mod text;

/// The elements of `bytes`, which need not be aligned.
fn elements<T: bytemuck::Pod>(bytes: &[u8]) -> impl Iterator<Item = T> {
    bytes
        .chunks_exact(size_of::<T>())
        .map(bytemuck::pod_read_unaligned)
}

/// Evaluates `$body` with `$values` an iterator over the elements of `$tensor`, each of a type
/// that is a [`Number`].
macro_rules! with_numbers {
    ($tensor:expr, |$values:ident| $body:expr) => {{
        let tensor: &Tensor = $tensor;
        let bytes = tensor.bytes();
        match tensor.dtype() {
            DType::F32 => with_numbers!($values, elements::<f32>(bytes), $body),
            DType::F64 => with_numbers!($values, elements::<f64>(bytes), $body),
            DType::F16 => with_numbers!($values, elements::<f16>(bytes), $body),
            DType::BF16 => with_numbers!($values, elements::<bf16>(bytes), $body),
            DType::I8 => with_numbers!($values, elements::<i8>(bytes), $body),
            DType::U8 => with_numbers!($values, elements::<u8>(bytes), $body),
            DType::I16 => with_numbers!($values, elements::<i16>(bytes), $body),
            DType::U16 => with_numbers!($values, elements::<u16>(bytes), $body),
            DType::I32 => with_numbers!($values, elements::<i32>(bytes), $body),
            DType::U32 => with_numbers!($values, elements::<u32>(bytes), $body),
            DType::I64 => with_numbers!($values, elements::<i64>(bytes), $body),
            DType::U64 => with_numbers!($values, elements::<u64>(bytes), $body),
            DType::Bool => {
                with_numbers!($values, bytes.iter().map(|&b| u8::from(b != 0)), $body)
            }
            DType::I4 | DType::I2 => {
                // To the top of the byte and back, which extends the sign.
                let shift = 8 - tensor.dtype().bits();
                let codes = (0..tensor.len()).map(|i| tensor.packed_bits(i));
                with_numbers!(
                    $values,
                    codes.map(|c| (c << shift).cast_signed() >> shift),
                    $body
                )
            }
            DType::U4 | DType::U2 => {
                with_numbers!(
                    $values,
                    (0..tensor.len()).map(|i| tensor.packed_bits(i)),
                    $body
                )
            }
            dtype => {
                let table = decode_table(dtype)?;
                let codes = (0..tensor.len()).map(|i| tensor.packed_bits(i));
                with_numbers!($values, codes.map(|c| table[usize::from(c)]), $body)
            }
        }
    }};
    ($values:ident, $iterator:expr, $body:expr) => {{
        let $values = $iterator;
        $body
    }};
}

/// The values of all codes of a float type under two bytes.
fn decode_table(dtype: DType) -> Result<[f32; 256], TensorError> {
    let mut table = [0.0; 256];
    let format = NarrowFloat::of(dtype);
    for (code, value) in (0..=255).zip(&mut table) {
        *value = match (format, dtype) {
            (Some(format), _) => format.decode(code),
            (None, DType::F8E8M0) => narrow::decode_scale(code),
            _ => {
                return Err(TensorError::Kind {
                    expected: "a numeric type",
                    found: dtype,
                });
            }
        };
    }
    Ok(table)
}

impl Tensor {
    /// The elements as `f32`, of any type but strings and complex numbers; `bool` is 0 and 1.
    /// Borrowed where they are `f32` already.
    pub fn to_f32s(&self) -> Result<Cow<'_, [f32]>, TensorError> {
        match self.dtype() {
            DType::F32 => self.as_slice(),
            DType::F16 => {
                let halves = self.as_slice::<f16>()?;
                let mut floats = vec![0.0; halves.len()];
                halves.convert_to_f32_slice(&mut floats);
                Ok(floats.into())
            }
            _ => Ok(self.numbers()?.into()),
        }
    }

    /// The elements as `f64`, likewise.
    pub fn to_f64s(&self) -> Result<Cow<'_, [f64]>, TensorError> {
        match self.dtype() {
            DType::F64 => self.as_slice(),
            _ => Ok(self.numbers()?.into()),
        }
    }

    /// The one element of a tensor of `T` that has one element, whatever its rank.
    pub fn item<T: Element>(&self) -> Result<T, TensorError> {
        self.check_single()?;
        Ok(self.as_slice::<T>()?[0])
    }

    /// The one element as an `f64`, as [`to_f64s`](Tensor::to_f64s) reads it.
    pub fn scalar_f64(&self) -> Result<f64, TensorError> {
        self.check_single()?;
        Ok(self.to_f64s()?[0])
    }

    /// The one element of an integer or `bool` tensor.
    pub fn scalar_i64(&self) -> Result<i64, TensorError> {
        self.check_single()?;
        Ok(self.to_i64s()?[0])
    }

    fn check_single(&self) -> Result<(), TensorError> {
        if self.len() == 1 {
            Ok(())
        } else {
            Err(TensorError::Scalar(self.dims().to_vec()))
        }
    }

    /// A tensor of `dtype`, cast from `values` with saturation.
    pub fn from_f32s(
        dtype: DType,
        dims: impl Into<Dims>,
        values: Vec<f32>,
    ) -> Result<Tensor, TensorError> {
        Tensor::from_vec(dims, values)?.cast(dtype, true)
    }

    /// A tensor whose every element is the one element of `value`, cast to `dtype`.
    pub fn fill(
        dtype: DType,
        dims: impl Into<Dims>,
        value: &Tensor,
    ) -> Result<Tensor, TensorError> {
        value.check_single()?;
        Tensor::repeat(dims.into(), &value.cast(dtype, true)?)
    }

    /// The operator Cast. `saturate` matters for float 8 only; a scale (`float8e8m0`) is rounded
    /// up. Fails for complex numbers and for strings that are no numbers. Shares the bytes where
    /// the type is the same already.
    pub fn cast(&self, to: DType, saturate: bool) -> Result<Tensor, TensorError> {
        self.cast_rounded(to, saturate, ScaleRounding::Up)
    }

    /// [`cast`](Tensor::cast) with the attribute `round_mode`, which matters for `float8e8m0`.
    pub fn cast_rounded(
        &self,
        to: DType,
        saturate: bool,
        rounding: ScaleRounding,
    ) -> Result<Tensor, TensorError> {
        if to == self.dtype() {
            return Ok(self.clone());
        }
        if let Some(strings) = self.strings() {
            let read = text::read(strings, to)?.reshape(self.dims())?;
            return read.cast_rounded(to, saturate, rounding);
        }
        let dims = || Dims::from_slice(self.dims());
        match to {
            DType::F32 => Tensor::from_vec(dims(), self.to_f32s()?.into_owned()),
            DType::F64 => self.cast_to::<f64>(),
            DType::F16 if self.dtype() == DType::F32 => {
                let floats = self.as_slice::<f32>()?;
                let mut halves = vec![f16::ZERO; floats.len()];
                halves.convert_from_f32_slice(&floats);
                Tensor::from_vec(dims(), halves)
            }
            DType::F16 => self.cast_to::<f16>(),
            DType::BF16 => self.cast_to::<bf16>(),
            DType::I8 => self.cast_to::<i8>(),
            DType::U8 => self.cast_to::<u8>(),
            DType::I16 => self.cast_to::<i16>(),
            DType::U16 => self.cast_to::<u16>(),
            DType::I32 => self.cast_to::<i32>(),
            DType::U32 => self.cast_to::<u32>(),
            DType::I64 => self.cast_to::<i64>(),
            DType::U64 => self.cast_to::<u64>(),
            DType::Bool => Tensor::from_bools(dims(), self.numbers()?),
            DType::I4 | DType::U4 | DType::I2 | DType::U2 => {
                with_numbers!(self, |values| {
                    Tensor::from_packed_bits(to, dims(), values.map(|v| Small::from_number(v).0))
                })
            }
            DType::String => {
                let strings: Vec<Bytes> =
                    with_numbers!(self, |values| values.map(|v| v.text().into()).collect());
                Tensor::from_strings(dims(), strings)
            }
            DType::Complex64 | DType::Complex128 => Err(TensorError::Kind {
                expected: "a numeric type",
                found: to,
            }),
            DType::F8E8M0 => {
                self.encode(to, |value| narrow::encode_scale(value, saturate, rounding))
            }
            DType::F8E4M3FN
            | DType::F8E4M3FNUZ
            | DType::F8E5M2
            | DType::F8E5M2FNUZ
            | DType::F4E2M1
            | DType::F6E2M3
            | DType::F6E3M2 => {
                let format = NarrowFloat::of(to).expect("all but float8e8m0 are described");
                self.encode(to, |value| format.encode(value, saturate))
            }
        }
    }

    /// Of a float type of a byte or less, from codes.
    fn encode(&self, to: DType, code: impl Fn(f32) -> u8) -> Result<Tensor, TensorError> {
        let dims = Dims::from_slice(self.dims());
        with_numbers!(self, |values| {
            let codes = values.map(|v| code(v.f32()));
            if to.is_packed() {
                Tensor::from_packed_bits(to, dims, codes)
            } else {
                Tensor::new(to, dims, codes.collect::<Vec<u8>>())
            }
        })
    }

    fn cast_to<T: FromNumber + Element>(&self) -> Result<Tensor, TensorError> {
        Tensor::from_vec(self.dims(), self.numbers::<T>()?)
    }

    fn numbers<T: FromNumber>(&self) -> Result<Vec<T>, TensorError> {
        Ok(with_numbers!(self, |values| values
            .map(T::from_number)
            .collect()))
    }
}

#[cfg(test)]
mod tests;
