//! Elements of tensors as text, both ways.
//!
//! Numbers are written in the shortest form that reads back as the same bits. For floating-point
//! types of at most 16 bits the standard syntax takes an *integer* as the element's bits, and has
//! nothing else; here a literal with a point, an exponent or a word is the element's value, and
//! that is how they are written.

use std::fmt::{self, Write};

use bytes::Bytes;
use onnxq_tensor::{DType, Dims, Tensor, element_count};

use super::lex::Token;
use super::minifloat::Minifloat;
use super::quote::{self, Lines};

macro_rules! floats {
    ($float:ty, $bits:ty, $nan:expr, $read:ident, $write:ident) => {
        /// Reads a number.
        pub(super) fn $read(token: &Token<'_>) -> Result<$float, String> {
            let expected = || format!("expected a number, found {token}");
            let text = match token {
                Token::NanBits(bits) => {
                    let value = <$bits>::try_from(*bits).map(<$float>::from_bits);
                    return value.ok().filter(|v| v.is_nan()).ok_or_else(|| {
                        format!(concat!("{} is not a NaN of ", stringify!($float)), token)
                    });
                }
                Token::Ident(text) | Token::Int(text) | Token::Float(text) => *text,
                _ => return Err(expected()),
            };
            let value: $float = text.parse().map_err(|_| expected())?;
            if value.is_infinite() && text.bytes().any(|b| b.is_ascii_digit()) {
                return Err(format!("{text} is too large"));
            }
            // The bits of a NaN that was read are not specified.
            Ok(match value.is_nan() {
                true if text.starts_with('-') => -<$float>::from_bits($nan),
                true => <$float>::from_bits($nan),
                false => value,
            })
        }

        /// Writes a number, so that it reads back bit for bit.
        pub(super) fn $write(out: &mut impl Write, value: $float) -> fmt::Result {
            if !value.is_nan() {
                return write!(out, "{value:?}");
            }
            match value.to_bits() {
                bits if bits == $nan => out.write_str("nan"),
                bits if bits == $nan | 1 << (<$bits>::BITS - 1) => out.write_str("-nan"),
                bits => write!(out, "nan(0x{bits:x})"),
            }
        }
    };
}

floats!(f32, u32, 0x7fc0_0000, read_f32, write_f32);
floats!(f64, u64, 0x7ff8_0000_0000_0000, read_f64, write_f64);

/// Whether the elements of `tensor`, written in braces, read back as the same tensor: packed
/// elements must be followed by zero bits.
pub(super) fn is_writable(tensor: &Tensor) -> bool {
    let used = tensor.len() * tensor.dtype().bits() % 8;
    used == 0 || tensor.bytes().last().is_none_or(|last| last >> used == 0)
}

/// Writes the elements of `tensor` with commas between them.
pub(super) fn write_elements(out: &mut impl Write, tensor: &Tensor) -> fmt::Result {
    for i in 0..tensor.len() {
        if i > 0 {
            out.write_str(", ")?;
        }
        write_element(out, tensor, i)?;
    }
    Ok(())
}

fn write_element(out: &mut impl Write, tensor: &Tensor, i: usize) -> fmt::Result {
    let dtype = tensor.dtype();
    if let Some(strings) = tensor.strings() {
        return quote::string(out, &strings[i], Lines::Many);
    }
    let bits = if dtype.is_packed() {
        u64::from(tensor.packed_bits(i))
    } else {
        let width = dtype.bits() / 8;
        let element = &tensor.bytes()[i * width..][..width];
        match dtype {
            DType::Complex64 => {
                write_f32(out, f32::from_bits(little_endian(&element[..4]) as u32))?;
                out.write_str(", ")?;
                return write_f32(out, f32::from_bits(little_endian(&element[4..]) as u32));
            }
            DType::Complex128 => {
                write_f64(out, f64::from_bits(little_endian(&element[..8])))?;
                out.write_str(", ")?;
                return write_f64(out, f64::from_bits(little_endian(&element[8..])));
            }
            _ => little_endian(element),
        }
    };
    match Minifloat::of(dtype) {
        Some(format) => write_minifloat(out, format, bits as u16),
        None if dtype == DType::F32 => write_f32(out, f32::from_bits(bits as u32)),
        None if dtype == DType::F64 => write_f64(out, f64::from_bits(bits)),
        None if dtype.is_signed_int() => {
            let unused = 64 - dtype.bits();
            write!(out, "{}", ((bits << unused) as i64) >> unused)
        }
        None => write!(out, "{bits}"),
    }
}

/// At most 8 bytes as a number.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b))
}

fn write_minifloat(out: &mut impl Write, format: Minifloat, code: u16) -> fmt::Result {
    let value = format.decode(code);
    if value.is_nan() {
        return match format.encode(f32::NAN) {
            Some(nan) if nan == code => out.write_str("nan"),
            _ => write!(out, "{code}"),
        };
    }
    // 9 digits tell every f32 apart, so that the last try succeeds.
    let short = (0..9)
        .filter_map(|digits| format!("{value:.digits$e}").parse::<f32>().ok())
        .find(|&short| format.encode(short) == Some(code));
    write!(out, "{:?}", short.unwrap_or(value))
}

/// Elements read so far.
pub(super) struct Elements {
    dtype: DType,
    /// Bytes of the elements; of packed types, one code each.
    bytes: Vec<u8>,
    strings: Vec<Bytes>,
    numbers: usize,
}

impl Elements {
    pub(super) fn new(dtype: DType) -> Elements {
        Elements {
            dtype,
            bytes: Vec::new(),
            strings: Vec::new(),
            numbers: 0,
        }
    }

    /// Adds an element, or one part of a complex one.
    pub(super) fn push(&mut self, token: &Token<'_>) -> Result<(), String> {
        match (self.dtype, token) {
            (DType::String, Token::Str(value)) => {
                self.strings.push(Bytes::copy_from_slice(value));
                self.numbers += 1;
                Ok(())
            }
            (DType::String, _) => Err(format!("expected a string, found {token}")),
            (DType::Bool, Token::Ident("true")) => self.push_int(1),
            (DType::Bool, Token::Ident("false")) => self.push_int(0),
            (DType::F32 | DType::Complex64, _) => {
                self.push_bytes(&read_f32(token)?.to_le_bytes());
                Ok(())
            }
            (DType::F64 | DType::Complex128, _) => {
                self.push_bytes(&read_f64(token)?.to_le_bytes());
                Ok(())
            }
            (_, Token::Int(text)) => {
                self.push_int(text.parse().map_err(|_| format!("{text} is too large"))?)
            }
            _ if self.dtype.is_float() => self.push_real(read_f32(token)?.into()),
            _ => Err(format!("expected an integer, found {token}")),
        }
    }

    /// Adds a number to a tensor of integers; bits to one of small floats.
    pub(super) fn push_int(&mut self, value: i128) -> Result<(), String> {
        let (lo, hi) = int_range(self.dtype);
        if value < lo || value > hi {
            return Err(format!("{value} is not in the range of {}", self.dtype));
        }
        let mask = (1u128 << self.dtype.bits()) - 1;
        let bits = value as u128 & mask;
        self.push_bytes(&bits.to_le_bytes()[..self.dtype.bits().div_ceil(8)]);
        Ok(())
    }

    /// Adds a number to a tensor of floats.
    pub(super) fn push_real(&mut self, value: f64) -> Result<(), String> {
        match Minifloat::of(self.dtype) {
            Some(format) => {
                let code = format
                    .encode(value as f32)
                    .ok_or_else(|| format!("{value:?} is not in the range of {}", self.dtype))?;
                self.push_bytes(&code.to_le_bytes()[..self.dtype.bits().div_ceil(8)]);
            }
            None if matches!(self.dtype, DType::F32 | DType::Complex64) => {
                self.push_bytes(&(value as f32).to_le_bytes());
            }
            None => self.push_bytes(&value.to_le_bytes()),
        }
        Ok(())
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.numbers += 1;
    }

    /// Takes what was read `count` times. Strings are not repeated.
    pub(super) fn repeat(&mut self, count: usize) {
        self.bytes = self.bytes.repeat(count);
        self.numbers *= count;
    }

    /// The tensor, if the number of elements is right.
    pub(super) fn finish(self, dims: Dims) -> Result<Tensor, String> {
        let dtype = self.dtype;
        let parts = if matches!(dtype, DType::Complex64 | DType::Complex128) {
            2
        } else {
            1
        };
        let expected = element_count(&dims)
            .map_err(|e| e.to_string())?
            .saturating_mul(parts);
        if self.numbers != expected {
            let dims = dims.as_slice();
            let found = self.numbers;
            return Err(format!(
                "{dtype}{dims:?} takes {expected} elements, found {found}"
            ));
        }
        let tensor = match dtype {
            DType::String => Tensor::from_strings(dims, self.strings),
            _ if dtype.is_packed() => Tensor::from_packed_bits(dtype, dims, self.bytes),
            _ => Tensor::new(dtype, dims, self.bytes),
        };
        tensor.map_err(|e| e.to_string())
    }
}

/// The least and the greatest number of an integer type; of other types, their bits.
pub(super) fn int_range(dtype: DType) -> (i128, i128) {
    let bits = dtype.bits();
    if dtype.is_signed_int() {
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        (0, (1 << bits) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::lex::Lexer;

    /// Writes, reads back, compares.
    fn text(tensor: &Tensor) -> String {
        let mut out = String::new();
        write_elements(&mut out, tensor).unwrap();
        assert_eq!(
            &read(tensor.dtype(), tensor.dims(), &out).unwrap(),
            tensor,
            "{out}"
        );
        out
    }

    fn read(dtype: DType, dims: &[usize], text: &str) -> Result<Tensor, String> {
        let (mut lexer, mut elements) = (Lexer::new(text), Elements::new(dtype));
        loop {
            match lexer.token().unwrap().1 {
                Token::End => return elements.finish(Dims::from_slice(dims)),
                Token::Punct(',') => {}
                token => elements.push(&token)?,
            }
        }
    }

    #[test]
    fn floats() {
        let values = vec![1.0, -0.0, 0.1, 1e-45, f32::MAX, 1e38, f32::INFINITY];
        assert_eq!(
            text(&Tensor::vector(values)),
            "1.0, -0.0, 0.1, 1e-45, 3.4028235e38, 1e38, inf"
        );
        let nans = [0x7fc0_0000, 0xffc0_0000, 0x7f80_0001, 0xffff_ffff].map(f32::from_bits);
        assert_eq!(
            text(&Tensor::vector(nans.to_vec())),
            "nan, -nan, nan(0x7f800001), nan(0xffffffff)"
        );
        let nans = [
            f64::from_bits(0x7ff8 << 48),
            f64::from_bits(0xfff8 << 48),
            1e300,
        ];
        assert_eq!(text(&Tensor::vector(nans.to_vec())), "nan, -nan, 1e300");
        assert_eq!(text(&Tensor::vector(vec![[1.0f32, -2.5]])), "1.0, -2.5");
        assert_eq!(text(&Tensor::vector(vec![[1.0f64, -2.5]])), "1.0, -2.5");
    }

    #[test]
    fn every_code_of_small_types() {
        for &dtype in DType::ALL
            .iter()
            .filter(|t| t.bits() <= 16 && **t != DType::String)
        {
            let codes = 0..1usize << dtype.bits();
            let dims = Dims::from_slice(&[codes.len()]);
            let tensor = match dtype.bits() {
                8 => Tensor::new(dtype, dims, codes.map(|c| c as u8).collect::<Vec<_>>()),
                16 => Tensor::vector(codes.map(|c| c as u16).collect::<Vec<_>>()).bit_cast(dtype),
                _ => Tensor::from_packed_bits(dtype, dims, codes.map(|c| c as u8)),
            };
            text(&tensor.unwrap());
        }
    }

    #[test]
    fn small_floats_are_short() {
        let f16 = |v: Vec<u16>| text(&Tensor::vector(v).bit_cast(DType::F16).unwrap());
        assert_eq!(
            f16(vec![0x3c00, 0x2e66, 0x7bff, 0x7e00]),
            "1.0, 0.1, 65500.0, nan"
        );
        assert_eq!(f16(vec![0xfc00, 0x7c01]), "-inf, 31745");
    }

    #[test]
    fn integers_are_bits_of_small_floats() {
        let bits = read(DType::F16, &[2], "15360, 1.0").unwrap();
        assert_eq!(bits.bytes(), [0, 0x3c, 0, 0x3c]);
    }

    #[test]
    fn errors() {
        for (dtype, text) in [
            (DType::F32, "1e39"),
            (DType::F32, "nan(0x1)"),
            (DType::F32, "nan(0x7ff8000000000000)"),
            (DType::F32, "x"),
            (DType::U8, "256"),
            (DType::I8, "-129"),
            (DType::I4, "8"),
            (DType::I64, "9223372036854775808"),
            (DType::I64, "999999999999999999999999999999999999999999999"),
            (DType::I64, "1.0"),
            (DType::F16, "65536"),
            (DType::F16, "1e5"),
            (DType::F4E2M1, "nan"),
            (DType::Bool, "yes"),
            (DType::String, "1"),
            (DType::F32, "1.0, 2.0"),
            (DType::Complex64, "1.0"),
            (DType::F32, ""),
        ] {
            assert!(read(dtype, &[1], text).is_err(), "{dtype} {text}");
        }
        assert!(read(DType::F32, &[usize::MAX, 3], "1").is_err());
    }

    #[test]
    fn bits_after_packed_elements() {
        let clean = Tensor::from_packed_bits(DType::I4, Dims::from_slice(&[1]), [15]).unwrap();
        assert!(is_writable(&clean));
        assert_eq!(text(&clean), "-1");
        let unclean = Tensor::new(DType::I4, Dims::from_slice(&[1]), vec![0x1f]).unwrap();
        assert!(!is_writable(&unclean));
    }
}
