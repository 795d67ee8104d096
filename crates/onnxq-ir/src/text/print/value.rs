//! Writing types, constants and the values of attributes.

use std::fmt::{self, Write};

use bytes::Bytes;
use onnxq_tensor::Tensor;

use super::super::ContentHash;
use super::super::constant::{is_writable, write_elements, write_f32};
use super::super::quote::{self, Lines};
use super::{Printer, notes};
use crate::def::{GraphDef, InitializerDef, Literal, ValueDef};
use crate::{Attr, SparseTensor, TensorType, Type};

/// Strings of more bytes than this are written as their hash.
const MAX_STRING_BYTES: usize = 256;

impl<W: Write> Printer<'_, W> {
    pub(super) fn value(&mut self, value: &ValueDef) -> fmt::Result {
        if let Some(ty) = &value.ty {
            self.ty(ty)?;
            self.out.write_char(' ')?;
        }
        quote::name(self.out, &value.name)?;
        self.extra(" ", &notes(&value.doc, &value.metadata))
    }

    pub(super) fn initializer(&mut self, initializer: &InitializerDef) -> fmt::Result {
        match &initializer.value {
            Literal::Dense(t) => self.tensor_type(t)?,
            Literal::Sparse(t) => self.sparse_type(t)?,
        }
        self.out.write_char(' ')?;
        quote::name(self.out, &initializer.name)?;
        self.extra(" ", &notes(&initializer.doc, &initializer.metadata))?;
        self.out.write_str(" = ")?;
        match &initializer.value {
            Literal::Dense(t) => self.tensor_data(t),
            Literal::Sparse(t) => self.sparse_data(t),
        }
    }

    fn ty(&mut self, ty: &Type) -> fmt::Result {
        let (mut ty, mut open) = (Some(ty), 0);
        // Each step writes the type up to what it contains.
        while let Some(outer) = ty.take() {
            let (word, inner) = match outer {
                Type::Tensor(t) => {
                    self.element_and_shape(t)?;
                    break;
                }
                Type::Sequence(inner) => ("seq(", inner),
                Type::Optional(inner) => ("optional(", inner),
                Type::Map { key, value } => {
                    write!(
                        self.out,
                        "map({key}{}",
                        if value.is_some() { ", " } else { "" }
                    )?;
                    ("", value)
                }
                Type::SparseTensor(t) => {
                    self.out.write_str("sparse_tensor(")?;
                    self.element_and_shape(t)?;
                    ("", &None)
                }
                Type::Opaque { domain, name } => {
                    self.opaque(domain, name)?;
                    ("", &None)
                }
            };
            self.out.write_str(word)?;
            ty = inner.as_deref();
            open += 1;
        }
        (0..open).try_for_each(|_| self.out.write_char(')'))
    }

    fn element_and_shape(&mut self, ty: &TensorType) -> fmt::Result {
        self.out
            .write_str(ty.dtype.map_or("?", |dtype| dtype.name()))?;
        match &ty.shape {
            None => self.out.write_str("[]"),
            Some(dims) if dims.is_empty() => Ok(()),
            Some(dims) => self.list("[", dims, "]", |p, dim| match dim.as_const() {
                _ if dim.is_unknown() => p.out.write_char('?'),
                Some(value) => write!(p.out, "{value}"),
                None => quote::name(p.out, &dim.to_string()),
            }),
        }
    }

    fn opaque(&mut self, domain: &str, name: &str) -> fmt::Result {
        self.out.write_str("opaque(")?;
        if !domain.is_empty() {
            quote::qualified(self.out, domain)?;
            self.out.write_str(", ")?;
            return quote::name(self.out, name);
        }
        if name.is_empty() {
            Ok(())
        } else {
            quote::qualified(self.out, name)
        }
    }

    fn tensor_type(&mut self, tensor: &Tensor) -> fmt::Result {
        self.out.write_str(tensor.dtype().name())?;
        self.dims(tensor.dims())
    }

    fn sparse_type(&mut self, tensor: &SparseTensor) -> fmt::Result {
        write!(self.out, "sparse_tensor({}", tensor.values.dtype())?;
        self.dims(&tensor.dims)?;
        self.out.write_char(')')
    }

    fn dims(&mut self, dims: &[impl fmt::Display]) -> fmt::Result {
        if dims.is_empty() {
            return Ok(());
        }
        self.list("[", dims, "]", |p, dim| write!(p.out, "{dim}"))
    }

    /// The elements of a tensor, or what stands for them.
    fn tensor_data(&mut self, tensor: &Tensor) -> fmt::Result {
        if self.is_inline(tensor) {
            self.out.write_char('{')?;
            write_elements(self.out, tensor)?;
            self.out.write_char('}')
        } else if self.options.hashes {
            write!(self.out, "[\"sha256\": \"{}\"]", ContentHash::of(tensor))
        } else {
            write!(self.out, "[\"bytes\": \"{}\"]", tensor.byte_len())
        }
    }

    fn is_inline(&self, tensor: &Tensor) -> bool {
        tensor.len() <= self.options.max_elements
            && (tensor.strings().is_none() || tensor.byte_len() <= MAX_STRING_BYTES)
            && is_writable(tensor)
    }

    fn sparse_data(&mut self, tensor: &SparseTensor) -> fmt::Result {
        self.out.write_str("{values = ")?;
        self.tensor(&tensor.values)?;
        self.out.write_str(", indices = ")?;
        self.tensor(&tensor.indices)?;
        self.out.write_char('}')
    }

    fn tensor(&mut self, tensor: &Tensor) -> fmt::Result {
        self.tensor_type(tensor)?;
        self.out
            .write_str(if self.is_inline(tensor) { " " } else { " = " })?;
        self.tensor_data(tensor)
    }

    /// The value of an attribute that has no graphs.
    pub(super) fn attr_value(&mut self, attr: &Attr<GraphDef>) -> fmt::Result {
        let string = |p: &mut Self, s: &Bytes| quote::string(p.out, s, Lines::Many);
        match attr {
            Attr::Float(v) => write_f32(self.out, *v),
            Attr::Int(v) => write!(self.out, "{v}"),
            Attr::String(v) => string(self, v),
            Attr::Tensor(v) => self.tensor(v),
            Attr::SparseTensor(v) => self.sparse(v),
            Attr::Type(v) => self.ty(v),
            Attr::Floats(vs) => self.list("[", vs, "]", |p, v| write_f32(p.out, *v)),
            Attr::Ints(vs) => self.list("[", vs, "]", |p, v| write!(p.out, "{v}")),
            Attr::Strings(vs) => self.list("[", vs, "]", string),
            Attr::Tensors(vs) => self.list("[", vs, "]", Self::tensor),
            Attr::SparseTensors(vs) => self.list("[", vs, "]", Self::sparse),
            Attr::Types(vs) => self.list("[", vs, "]", Self::ty),
            Attr::Ref { name, .. } => {
                self.out.write_char('@')?;
                quote::name(self.out, name)
            }
            Attr::Graph(_) | Attr::Graphs(_) => self.out.write_str("[]"),
        }
    }

    fn sparse(&mut self, tensor: &SparseTensor) -> fmt::Result {
        self.sparse_type(tensor)?;
        self.out.write_char(' ')?;
        self.sparse_data(tensor)
    }
}
