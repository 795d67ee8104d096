//! `TensorProto` to [`Tensor`].
//!
//! `raw_data` and external data are taken as they lie. The typed fields are brought into the same
//! layout, with their lengths checked against the shape before anything is allocated from it. Values too large for the element type lose their high bits, as
//! in ONNX Runtime.

use std::borrow::Cow;

use onnxq_ir::SparseTensor;
use onnxq_tensor::{Buffer, Bytes, DType, Dims, Tensor, element_count};
use prost::Message;

use crate::{
    Error,
    error::Within,
    external::ExternalFiles,
    proto::{SparseTensorProto, TensorProto},
};

/// Reads one serialized `TensorProto`, the form of `input_0.pb` in ONNX test data: its name and the
/// tensor. `file` names it in messages.
pub fn tensor_from_bytes(data: &Buffer, file: &str) -> Result<(String, Tensor), Error> {
    let read = || {
        let proto = TensorProto::decode(data.bytes().clone())?;
        let name = String::from_utf8_lossy(&proto.name).into_owned();
        let tensor = read_tensor(proto, data, &mut ExternalFiles::new(None))
            .within(|| format!("tensor `{name}`"))?;
        Ok::<_, Error>((name, tensor))
    };
    read().in_file(file)
}

/// The tensor of `proto`, which was decoded from (a part of) `source`.
pub(crate) fn read_tensor(
    mut proto: TensorProto,
    source: &Buffer,
    external: &mut ExternalFiles,
) -> Result<Tensor, Error> {
    let dtype = dtype(proto.data_type.unwrap_or(0))?
        .ok_or_else(|| Error::invalid("a tensor without an element type"))?;
    let dims = dims(&proto.dims)?;
    if proto.segment.is_some() {
        return Err(Error::unsupported("a tensor in segments is"));
    }
    let count = element_count(&dims)?;
    let fits = |what: &str, data: Buffer| {
        Tensor::new(dtype, dims.clone(), data).map_err(|e| Error::invalid(format!("{what}: {e}")))
    };
    if proto.data_location == 1 {
        let expected = dtype
            .byte_len(count)
            .filter(|_| dtype != DType::String)
            .ok_or_else(|| Error::invalid(format!("{dtype}{dims:?} in external data")))?;
        return fits(
            "external data",
            external.data(&proto.external_data, expected)?,
        );
    }
    match proto.raw_data.take() {
        // Writers that always set `raw_data` leave it empty beside the field that counts.
        Some(raw) if !raw.is_empty() => fits("raw_data", source.adopt(raw)),
        _ if dtype == DType::String => {
            check("string_data", dtype, &dims, proto.string_data.len(), count)?;
            Ok(Tensor::from_strings(dims, proto.string_data)?)
        }
        _ if dtype.bits() == 6 => {
            check("int32_data", dtype, &dims, proto.int32_data.len(), count)?;
            let codes = proto.int32_data.iter().map(|&v| v as u8);
            Ok(Tensor::from_packed_bits(dtype, dims, codes)?)
        }
        _ => fits("typed data", typed_data(proto, dtype, &dims, count)?),
    }
}

fn check(
    field: &str,
    dtype: DType,
    dims: &[usize],
    found: usize,
    expected: usize,
) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{field}: {dtype}{dims:?} needs {expected} values, found {found}"
    )))
}

/// The elements in the field that the schema names for their type, in the layout of `raw_data`.
fn typed_data(
    proto: TensorProto,
    dtype: DType,
    dims: &[usize],
    count: usize,
) -> Result<Buffer, Error> {
    use DType::*;
    let check = |field, found, expected| check(field, dtype, dims, found, expected);
    let int32 = |expected| {
        check("int32_data", proto.int32_data.len(), expected)?;
        Ok::<_, Error>(proto.int32_data.iter())
    };
    // `count` is at most isize::MAX / 16, so that doubling it cannot overflow.
    Ok(match dtype {
        F32 | Complex64 => {
            let width = if dtype == F32 { 1 } else { 2 };
            check("float_data", proto.float_data.len(), count * width)?;
            Buffer::from_vec(proto.float_data)
        }
        F64 | Complex128 => {
            let width = if dtype == F64 { 1 } else { 2 };
            check("double_data", proto.double_data.len(), count * width)?;
            Buffer::from_vec(proto.double_data)
        }
        I64 => {
            check("int64_data", proto.int64_data.len(), count)?;
            Buffer::from_vec(proto.int64_data)
        }
        U64 => {
            check("uint64_data", proto.uint64_data.len(), count)?;
            Buffer::from_vec(proto.uint64_data)
        }
        U32 => {
            check("uint64_data", proto.uint64_data.len(), count)?;
            Buffer::from_vec(proto.uint64_data.iter().map(|&v| v as u32).collect())
        }
        I32 => {
            check("int32_data", proto.int32_data.len(), count)?;
            Buffer::from_vec(proto.int32_data)
        }
        Bool => Buffer::from_vec(int32(count)?.map(|&v| u8::from(v != 0)).collect()),
        U16 | I16 | F16 | BF16 => Buffer::from_vec(int32(count)?.map(|&v| v as u16).collect()),
        // One value is one byte: an element, or two or four that are packed in it.
        _ => {
            let per_byte = 8 / dtype.bits();
            Buffer::from_vec(int32(count.div_ceil(per_byte))?.map(|&v| v as u8).collect())
        }
    })
}

/// The sparse tensor of `proto`; its name and documentation are those of `values`.
pub(crate) fn read_sparse(
    proto: SparseTensorProto,
    source: &Buffer,
    external: &mut ExternalFiles,
) -> Result<SparseTensor, Error> {
    let mut part = |name: &str, part: Option<TensorProto>| {
        part.ok_or_else(|| Error::invalid(format!("a sparse tensor without {name}")))
            .and_then(|p| read_tensor(p, source, external))
            .within(|| name.to_owned())
    };
    let values = part("values", proto.values)?;
    let indices = part("indices", proto.indices)?;
    Ok(SparseTensor {
        values,
        indices,
        dims: proto.dims,
    })
}

/// The element type with this code; `None` for 0, which is "undefined".
pub(crate) fn dtype(code: i32) -> Result<Option<DType>, Error> {
    match DType::from_onnx(code) {
        None if code != 0 => Err(Error::unsupported(format!("element type {code} is"))),
        dtype => Ok(dtype),
    }
}

fn dims(dims: &[i64]) -> Result<Dims, Error> {
    dims.iter()
        .map(|&d| usize::try_from(d))
        .collect::<Result<Dims, _>>()
        .map_err(|_| Error::invalid(format!("negative dimension in {dims:?}")))
}

/// Text for people to read: what is not UTF-8 is mended.
pub(crate) fn lossy(text: &Bytes) -> String {
    match String::from_utf8_lossy(text) {
        Cow::Borrowed(s) => s.to_owned(),
        Cow::Owned(s) => s,
    }
}
