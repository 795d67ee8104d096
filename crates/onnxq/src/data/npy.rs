//! Arrays in NumPy's formats.

use std::{
    io::{self, Read, Write},
    path::Path,
};

use npyz::{DType as NpyType, NpyHeader, Order, TypeChar, WriterBuilder};
use onnxq_tensor::{DType, Dims, Element, Tensor};

use super::DataError;

/// What the header of an array says.
pub(super) struct Layout {
    pub(super) dtype: DType,
    pub(super) dims: Dims,
    /// Bytes of an element.
    width: usize,
    /// Bytes to be turned around, where they are in the other order.
    swap: Option<usize>,
    fortran: bool,
    /// Bytes of the header.
    pub(super) header: usize,
    /// Bytes of the elements.
    pub(super) bytes: usize,
}

impl Layout {
    /// Reads the header of the array `name`.
    pub(super) fn read(
        reader: &mut impl Read,
        path: &Path,
        name: &str,
    ) -> Result<Layout, DataError> {
        let bad = |message: String| DataError::array(path, name, message);
        let (header, length) = read_header(reader).map_err(|e| bad(e.to_string()))?;
        let NpyType::Plain(ty) = header.dtype() else {
            return Err(bad("has structured elements".to_owned()));
        };
        let dtype = match (ty.type_char(), ty.size_field()) {
            (TypeChar::Bool, 1) => DType::Bool,
            (TypeChar::Int, 1) => DType::I8,
            (TypeChar::Int, 2) => DType::I16,
            (TypeChar::Int, 4) => DType::I32,
            (TypeChar::Int, 8) => DType::I64,
            (TypeChar::Uint, 1) => DType::U8,
            (TypeChar::Uint, 2) => DType::U16,
            (TypeChar::Uint, 4) => DType::U32,
            (TypeChar::Uint, 8) => DType::U64,
            (TypeChar::Float, 2) => DType::F16,
            (TypeChar::Float, 4) => DType::F32,
            (TypeChar::Float, 8) => DType::F64,
            (TypeChar::Complex, 8) => DType::Complex64,
            (TypeChar::Complex, 16) => DType::Complex128,
            (TypeChar::UnicodeStr, _) => DType::String,
            (other, size) => return Err(bad(format!("has elements of type {other}{size}"))),
        };
        let dims: Dims = header
            .shape()
            .iter()
            .map(|&d| usize::try_from(d).map_err(|e| bad(e.to_string())))
            .collect::<Result<_, _>>()?;
        let count = onnxq_tensor::element_count(&dims).map_err(|e| bad(e.to_string()))?;
        let width = match dtype {
            DType::String => ty.size_field() as usize * 4,
            _ => dtype.bits() / 8,
        };
        let bytes = count
            .checked_mul(width)
            .ok_or_else(|| bad("has too many elements".to_owned()))?;
        let unit = match (dtype, ty.type_char()) {
            (DType::String, _) => 4,
            (_, TypeChar::Complex) => width / 2,
            _ => width,
        };
        let other_order = ty.endianness() == npyz::Endianness::Big;
        Ok(Layout {
            dtype,
            dims,
            width,
            swap: other_order.then_some(unit.max(1)),
            fortran: header.order() == Order::Fortran,
            header: length,
            bytes,
        })
    }

    /// Whether the elements lie in the file as they do in a tensor.
    pub(super) fn is_plain(&self) -> bool {
        self.swap.is_none() && !self.fortran && self.dtype != DType::String
    }

    /// What is wrong where the file has this many bytes of elements instead.
    pub(super) fn expected(&self, found: u64) -> String {
        format!("has {found} bytes of data, expected {}", self.bytes)
    }

    /// Reads the elements, which follow the header.
    pub(super) fn read_elements(
        self,
        reader: impl Read,
        path: &Path,
        name: &str,
    ) -> Result<Tensor, DataError> {
        let bad = |message: String| DataError::array(path, name, message);
        // The header may lie about the size: read what is there.
        let mut bytes = Vec::new();
        reader
            .take(self.bytes as u64)
            .read_to_end(&mut bytes)
            .map_err(|e| bad(e.to_string()))?;
        if bytes.len() != self.bytes {
            return Err(bad(self.expected(bytes.len() as u64)));
        }
        if let Some(unit) = self.swap {
            bytes.chunks_exact_mut(unit).for_each(<[u8]>::reverse);
        }
        let (dims, width) = (self.dims, self.width);
        if self.fortran {
            bytes = row_major(&bytes, &dims, width);
        }
        let tensor = if self.dtype == DType::String {
            let strings: Vec<_> = match width {
                0 => vec![bytes::Bytes::new(); onnxq_tensor::element_count(&dims).unwrap_or(0)],
                _ => bytes.chunks_exact(width).map(utf8).collect(),
            };
            Tensor::from_strings(dims, strings)
        } else {
            Tensor::new(self.dtype, dims, bytes)
        };
        tensor.map_err(|e| bad(e.to_string()))
    }
}

/// Reads magic, version and header; gives their length too. The reading library multiplies the
/// dimensions unchecked, so those that overflow are refused before.
fn read_header(reader: &mut impl Read) -> io::Result<(NpyHeader, usize)> {
    let mut bytes = vec![0; 8];
    reader.read_exact(&mut bytes)?;
    // Version 1 has two bytes of length, later ones four.
    let width = if bytes[6] == 1 { 2 } else { 4 };
    let mut length = [0; 4];
    reader.read_exact(&mut length[..width])?;
    bytes.extend(&length[..width]);
    const LIMIT: u32 = 1 << 20;
    let length = u32::from_le_bytes(length).min(LIMIT);
    reader.take(u64::from(length)).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes[8 + width..]);
    let shape = text.split_once("shape").map_or("", |(_, rest)| rest);
    let shape = shape.split_once(')').map_or(shape, |(shape, _)| shape);
    let dims = shape
        .split(|c: char| !c.is_ascii_digit())
        .filter(|d| !d.is_empty());
    let count = dims
        .map(|d| d.parse::<u64>().ok())
        .try_fold(1u64, |n, d| n.checked_mul(d?.max(1)));
    let long = text
        .split(|c: char| !c.is_ascii_digit())
        .any(|number| number.len() > 13);
    if long || count.is_none_or(|n| n > 1 << 58) {
        return Err(io::Error::other("has sizes that are too large"));
    }
    let length = bytes.len();
    Ok((NpyHeader::from_reader(bytes.as_slice())?, length))
}

/// UTF-8 of NumPy's fixed-width UTF-32, which is padded with zeros.
fn utf8(units: &[u8]) -> bytes::Bytes {
    let text: String = units
        .chunks_exact(4)
        .map(|u| u32::from_le_bytes([u[0], u[1], u[2], u[3]]))
        .take_while(|&u| u != 0)
        .map(|u| char::from_u32(u).unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    text.into()
}

fn row_major(bytes: &[u8], dims: &[usize], width: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = vec![0usize; dims.len()];
    let count = bytes.len().checked_div(width).unwrap_or(0);
    for _ in 0..count {
        let (mut offset, mut stride) = (0, 1);
        for (i, d) in index.iter().zip(dims) {
            offset += i * stride;
            stride *= d;
        }
        out.extend_from_slice(&bytes[offset * width..(offset + 1) * width]);
        for (i, d) in index.iter_mut().zip(dims).rev() {
            *i += 1;
            if *i < *d {
                break;
            }
            *i = 0;
        }
    }
    out
}

/// Writes arrays as `.npz`.
pub(super) fn write_npz(
    writer: impl Write + io::Seek,
    arrays: &[(String, Tensor)],
) -> Result<(), io::Error> {
    let mut npz = zip::ZipWriter::new(writer);
    for (name, t) in arrays {
        match t.dtype() {
            DType::F32 => put::<f32>(&mut npz, name, t)?,
            DType::F64 => put::<f64>(&mut npz, name, t)?,
            DType::F16 => put::<half::f16>(&mut npz, name, t)?,
            DType::I8 => put::<i8>(&mut npz, name, t)?,
            DType::I16 => put::<i16>(&mut npz, name, t)?,
            DType::I32 => put::<i32>(&mut npz, name, t)?,
            DType::I64 => put::<i64>(&mut npz, name, t)?,
            DType::U8 => put::<u8>(&mut npz, name, t)?,
            DType::U16 => put::<u16>(&mut npz, name, t)?,
            DType::U32 => put::<u32>(&mut npz, name, t)?,
            DType::U64 => put::<u64>(&mut npz, name, t)?,
            DType::Bool => {
                let bools = t.as_bools().map_err(io::Error::other)?;
                put_values(&mut npz, name, t.dims(), &bools)?;
            }
            // NumPy has no such types: wider ones hold the values.
            DType::BF16 => {
                let wide = t.cast(DType::F32, true).map_err(io::Error::other)?;
                put::<f32>(&mut npz, name, &wide)?;
            }
            DType::I4 | DType::U4 | DType::I2 | DType::U2 => {
                let wide = t.cast(DType::I8, true).map_err(io::Error::other)?;
                put::<i8>(&mut npz, name, &wide)?;
            }
            other => {
                let message = format!("output '{name}': NumPy files hold no {other}");
                return Err(io::Error::other(message));
            }
        }
    }
    npz.finish()?.flush()
}

type Npz<W> = zip::ZipWriter<W>;

fn put<T: Element + npyz::AutoSerialize>(
    npz: &mut Npz<impl Write + io::Seek>,
    name: &str,
    t: &Tensor,
) -> Result<(), io::Error> {
    let values = t.as_slice::<T>().map_err(io::Error::other)?;
    put_values(npz, name, t.dims(), &values)
}

fn put_values<T: npyz::AutoSerialize + Copy>(
    npz: &mut Npz<impl Write + io::Seek>,
    name: &str,
    dims: &[usize],
    values: &[T],
) -> Result<(), io::Error> {
    let shape: Vec<u64> = dims.iter().map(|&d| d as u64).collect();
    // No clock in what is written.
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .large_file(true)
        .last_modified_time(zip::DateTime::default());
    npz.start_file(format!("{name}.npy"), options)?;
    let mut writer = npyz::WriteOptions::new()
        .default_dtype()
        .shape(&shape)
        .writer(&mut *npz)
        .begin_nd()?;
    writer.extend(values.iter().copied())?;
    writer.finish()
}
