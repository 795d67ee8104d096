//! `TypeProto` and [`Type`], both ways. Nested types are walked in loops.

use onnxq_ir::{TensorType, Type};
use onnxq_tensor::{Bytes, DType, Dim, Shape};
use prost::Message;

use crate::{
    Error, MAX_NESTING,
    import::name,
    proto::{DimensionValue, TensorShapeProto, TensorTypeProto, TypeProto, TypeValue},
    rope::Rope,
    tensor::dtype,
};

/// A type around another one.
enum Around {
    Sequence,
    Optional,
    Map(DType),
}

/// The type of an encoded `TypeProto`; `None` where it says nothing.
pub(crate) fn read_type(bytes: Bytes) -> Result<Option<Type>, Error> {
    let mut around = Vec::new();
    let mut inner = Some(bytes);
    let mut ty = None;
    while let Some(bytes) = inner.take() {
        let (outer, element) = match TypeProto::decode(bytes)?.value {
            None => break,
            Some(TypeValue::Tensor(t)) => {
                ty = Some(Type::Tensor(tensor_type(t)?));
                break;
            }
            Some(TypeValue::SparseTensor(t)) => {
                ty = Some(Type::SparseTensor(tensor_type(t)?));
                break;
            }
            Some(TypeValue::Opaque(t)) => {
                let (domain, n) = (name("domain", &t.domain)?, name("name", &t.name)?);
                ty = Some(Type::Opaque { domain, name: n });
                break;
            }
            Some(TypeValue::Sequence(t)) => (Around::Sequence, t.elem_type),
            Some(TypeValue::Optional(t)) => (Around::Optional, t.elem_type),
            Some(TypeValue::Map(t)) => {
                let key = dtype(t.key_type)?
                    .ok_or_else(|| Error::invalid("a map type without a type of keys"))?;
                (Around::Map(key), t.value_type)
            }
        };
        around.push(outer);
        inner = element;
        if around.len() > MAX_NESTING {
            return Err(Error::unsupported(format!(
                "a type nested more than {MAX_NESTING} deep is"
            )));
        }
    }
    while let Some(outer) = around.pop() {
        let inner = ty.map(Box::new);
        ty = Some(match outer {
            Around::Sequence => Type::Sequence(inner),
            Around::Optional => Type::Optional(inner),
            Around::Map(key) => Type::Map { key, value: inner },
        });
    }
    Ok(ty)
}

fn tensor_type(proto: TensorTypeProto) -> Result<TensorType, Error> {
    let shape = proto.shape.map(|s| read_shape(&s)).transpose()?;
    Ok(TensorType {
        dtype: dtype(proto.elem_type)?,
        shape,
    })
}

fn read_shape(proto: &TensorShapeProto) -> Result<Shape, Error> {
    let dim = |value: &Option<DimensionValue>| {
        Ok(match value {
            None => Dim::UNKNOWN,
            // Some exporters write -1 for a dimension they do not know, as NumPy's reshape has it.
            Some(DimensionValue::Value(v)) if *v < 0 => Dim::UNKNOWN,
            Some(DimensionValue::Value(v)) => Dim::known(*v),
            Some(DimensionValue::Param(p)) => Dim::from_param(&name("dim_param", p)?),
        })
    };
    proto.dim.iter().map(|d| dim(&d.value)).collect()
}

/// Writes the `TypeProto` of `ty` as the message `field`.
pub(crate) fn write_type(out: &mut Rope, field: u32, ty: &Type) {
    // Nothing follows a type in the type around it, so that all of them end here.
    let end = out.mark();
    let mut around = vec![];
    let mut inner = Some(ty);
    while let Some(ty) = inner {
        around.push(ty);
        inner = match ty {
            Type::Sequence(t) | Type::Optional(t) => t.as_deref(),
            Type::Map { value, .. } => value.as_deref(),
            Type::Tensor(_) | Type::SparseTensor(_) | Type::Opaque { .. } => None,
        };
    }
    while let Some(ty) = around.pop() {
        let kind = match ty {
            Type::Tensor(t) => {
                write_tensor_type(out, t);
                1
            }
            Type::SparseTensor(t) => {
                write_tensor_type(out, t);
                8
            }
            Type::Opaque { domain, name } => {
                out.text(2, name);
                out.text(1, domain);
                7
            }
            Type::Sequence(_) => 4,
            Type::Optional(_) => 9,
            Type::Map { key, .. } => {
                out.int(1, i64::from(key.onnx()));
                5
            }
        };
        out.close(kind, end);
        let field = match around.last() {
            None => field,
            Some(Type::Map { .. }) => 2,
            Some(_) => 1,
        };
        out.close(field, end);
    }
}

fn write_tensor_type(out: &mut Rope, ty: &TensorType) {
    if let Some(shape) = &ty.shape {
        let shape_end = out.mark();
        for dim in shape.iter().rev() {
            let end = out.mark();
            if let Some(value) = dim.as_const() {
                out.int(1, value);
            } else if let Some(name) = dim.is_symbol() {
                out.required_text(2, name);
            } else if !dim.is_unknown() {
                out.text(2, &dim.to_string());
            }
            out.close(1, end);
        }
        out.close(2, shape_end);
    }
    if let Some(dtype) = ty.dtype {
        out.int(1, i64::from(dtype.onnx()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written_and_read(dim: &Dim) -> (Option<DimensionValue>, Type) {
        let ty = Type::tensor(DType::F32, Some([dim.clone()].into_iter().collect()));
        let mut out = Rope::default();
        write_type(&mut out, 1, &ty);
        let mut bytes = Vec::new();
        out.write_to(&mut bytes).unwrap();
        // One tag and one byte of length before the type.
        let bytes = Bytes::from(bytes).slice(2..);
        let Some(TypeValue::Tensor(t)) = TypeProto::decode(bytes.clone()).unwrap().value else {
            panic!("not a tensor");
        };
        let value = t.shape.unwrap().dim[0].value.clone();
        (value, read_type(bytes).unwrap().unwrap())
    }

    #[test]
    fn names_of_dimensions_stay_as_they_are() {
        let n = Dim::symbol("N");
        let cases = [
            ("N", n.clone()),
            ("3*N + 1", 3 * &n + 1),
            ("floor(N/2)", n.floor_div(&2.into())),
            ("dyn-axis", Dim::symbol("dyn-axis")),
            ("a/b_dim_1", Dim::symbol("a/b_dim_1")),
            ("1*N", Dim::symbol("1*N")),
            ("N+1", Dim::symbol("N+1")),
            ("two words", Dim::symbol("two words")),
        ];
        for (text, dim) in cases {
            assert_eq!(Dim::from_param(text), dim);
            let (value, ty) = written_and_read(&dim);
            assert_eq!(value, Some(DimensionValue::Param(text.to_owned().into())));
            assert_eq!(ty.shape().unwrap()[0], dim);
        }
        for text in ["", "?"] {
            assert_eq!(Dim::from_param(text), Dim::UNKNOWN);
        }
        assert_eq!(written_and_read(&Dim::UNKNOWN).0, None);
        assert_eq!(
            written_and_read(&Dim::known(0)).0,
            Some(DimensionValue::Value(0))
        );
        let unknown = written_and_read(&Dim::UNKNOWN).1;
        assert_eq!(written_and_read(&Dim::known(-1)).1, unknown);
    }
}
