//! Reading types, constants and the values of attributes.

use onnxq_tensor::{DType, Dim, Dims, Shape, Tensor};

use super::super::constant::{Elements, read_f32};
use super::super::generate::generate;
use super::super::lex::{Token, is_float_word};
use super::super::quote::is_type_word;
use super::{Parser, Result};
use crate::def::{GraphDef, InitializerDef, Literal, ValueDef};
use crate::{Attr, AttrKind, MAX_NESTING, SparseTensor, TensorType, Type};

/// The value of an attribute.
pub(super) enum Value {
    Attr(Attr<GraphDef>),
    /// A graph, which comes next.
    Graph,
    /// A list of graphs, the first of which comes next.
    Graphs,
}

impl Value {
    fn kind(&self) -> AttrKind {
        match self {
            Value::Attr(attr) => attr.kind(),
            Value::Graph => AttrKind::Graph,
            Value::Graphs => AttrKind::Graphs,
        }
    }
}

/// A type around another.
enum Wrapper {
    Sequence,
    Optional,
    Map(DType),
}

impl Parser<'_> {
    /// Whether a type comes next.
    pub(super) fn is_type(&self) -> bool {
        match self.token {
            Token::Ident(word) => is_type_word(word),
            Token::Punct('?') => true,
            _ => false,
        }
    }

    pub(super) fn ty(&mut self) -> Result<Type> {
        let at = self.at;
        let mut wrappers = Vec::new();
        let mut ty = loop {
            if wrappers.len() > MAX_NESTING {
                return Err(
                    self.error(at, format!("this type is nested deeper than {MAX_NESTING}"))
                );
            }
            let wrapper = match self.token {
                Token::Ident("seq") => Wrapper::Sequence,
                Token::Ident("optional") => Wrapper::Optional,
                Token::Ident("map") => {
                    self.bump()?;
                    self.expect('(')?;
                    wrappers.push(Wrapper::Map(self.dtype()?));
                    if !self.eat(',')? {
                        break None;
                    }
                    continue;
                }
                _ => break Some(self.innermost_type()?),
            };
            wrappers.push(wrapper);
            self.bump()?;
            self.expect('(')?;
            if self.token == Token::Punct(')') {
                break None;
            }
        };
        while let Some(wrapper) = wrappers.pop() {
            self.expect(')')?;
            let inner = ty.map(Box::new);
            ty = Some(match wrapper {
                Wrapper::Sequence => Type::Sequence(inner),
                Wrapper::Optional => Type::Optional(inner),
                Wrapper::Map(key) => Type::Map { key, value: inner },
            });
        }
        ty.ok_or_else(|| self.error(at, "expected a type"))
    }

    /// A type that contains no other.
    fn innermost_type(&mut self) -> Result<Type> {
        match self.token {
            Token::Ident("sparse_tensor") => {
                self.bump()?;
                self.expect('(')?;
                let ty = self.element_and_shape()?;
                self.expect(')')?;
                Ok(Type::SparseTensor(ty))
            }
            Token::Ident("opaque") => {
                self.bump()?;
                self.expect('(')?;
                let (mut domain, mut name) = (String::new(), String::new());
                if self.token != Token::Punct(')') {
                    name = self.qualified_text()?;
                    if self.eat(',')? {
                        domain = name;
                        name = self.name()?;
                    }
                }
                self.expect(')')?;
                Ok(Type::Opaque { domain, name })
            }
            _ => Ok(Type::Tensor(self.element_and_shape()?)),
        }
    }

    /// `a.b.c` as it stands.
    fn qualified_text(&mut self) -> Result<String> {
        let (domain, name) = self.qualified()?;
        Ok(if domain.is_empty() {
            name
        } else {
            format!("{domain}.{name}")
        })
    }

    fn dtype(&mut self) -> Result<DType> {
        let found = match self.token {
            Token::Ident(word) => DType::from_name(word),
            _ => None,
        };
        let dtype = found.ok_or_else(|| self.expected("an element type"))?;
        self.bump()?;
        Ok(dtype)
    }

    fn element_and_shape(&mut self) -> Result<TensorType> {
        let dtype = if self.eat('?')? {
            None
        } else {
            Some(self.dtype()?)
        };
        let mut shape = Some(Shape::new());
        if self.eat('[')? {
            if self.token == Token::Punct(']') {
                shape = None;
            }
            self.list(']', |p| {
                let dim = match p.token {
                    Token::Punct('?') => {
                        p.bump()?;
                        Dim::UNKNOWN
                    }
                    // A negative size says in files that it is not known.
                    Token::Int(_) => match p.int()? {
                        size @ 0.. => Dim::known(size),
                        _ => Dim::UNKNOWN,
                    },
                    _ => Dim::from_param(&p.name()?),
                };
                shape.get_or_insert_default().push(dim);
                Ok(())
            })?;
        }
        Ok(TensorType { dtype, shape })
    }

    /// `= data`, the value of `declared`.
    pub(super) fn initializer(&mut self, declared: ValueDef) -> Result<InitializerDef> {
        let ValueDef {
            name,
            ty,
            doc,
            metadata,
        } = declared;
        let at = self.at;
        self.expect('=')?;
        let value = match ty {
            Some(Type::Tensor(ty)) => Literal::Dense(self.tensor(&ty, at)?),
            Some(Type::SparseTensor(ty)) => Literal::Sparse(Box::new(self.sparse(&ty, at)?)),
            _ => return Err(self.error(at, "a constant must be declared as a tensor")),
        };
        Ok(InitializerDef {
            name,
            value,
            doc,
            metadata,
        })
    }

    /// The elements of a tensor, or what stands for them. Errors about its type are at `at`.
    fn tensor(&mut self, ty: &TensorType, at: usize) -> Result<Tensor> {
        let (dtype, dims) = self.constant_type(ty, at)?;
        let dims = dims
            .into_iter()
            .map(|d| usize::try_from(d).ok())
            .collect::<Option<Dims>>();
        let dims = dims.ok_or_else(|| self.error(at, "a dimension does not fit"))?;
        let tensor = match self.token {
            Token::Punct('{') => self.elements(dtype, dims)?,
            Token::Punct('[') => return self.tensor_elsewhere(dtype, dims),
            _ => return Err(self.expected("the elements of a tensor, `{` or `[`")),
        };
        tensor.map_err(|message| self.error(at, message))
    }

    /// The element type and the dimensions of a constant of this type.
    fn constant_type(&self, ty: &TensorType, at: usize) -> Result<(DType, Vec<i64>)> {
        let dims = ty
            .shape
            .as_ref()
            .map(|dims| dims.iter().map(Dim::as_const).collect());
        match (ty.dtype, dims) {
            (Some(dtype), Some(Some(dims))) => Ok((dtype, dims)),
            _ => Err(self.error(
                at,
                "a constant needs an element type and constant dimensions",
            )),
        }
    }

    /// `{...}`. That the number of elements is wrong is the inner error.
    fn elements(
        &mut self,
        dtype: DType,
        dims: Dims,
    ) -> Result<std::result::Result<Tensor, String>> {
        let mut elements = Elements::new(dtype);
        self.expect('{')?;
        self.list('}', |p| {
            elements
                .push(&p.token)
                .map_err(|message| p.error(p.at, message))?;
            p.bump()
        })?;
        Ok(elements.finish(dims))
    }

    /// `["sha256": "..."]`, or the description of a generated constant.
    fn tensor_elsewhere(&mut self, dtype: DType, dims: Dims) -> Result<Tensor> {
        let at = self.at;
        let mut entries = Vec::new();
        self.expect('[')?;
        self.list(']', |p| {
            let key = p.text()?;
            p.expect(':')?;
            entries.push((key, p.text()?));
            Ok(())
        })?;
        let tensor = match entries.first().map(|(key, value)| (key.as_str(), value)) {
            Some(("sha256", hash)) if entries.len() == 1 => {
                let hash = hash.parse().map_err(|e| self.error(at, e))?;
                let found = self.tensors.get(&hash, dtype, &dims);
                let fits = |t: &Tensor| t.dtype() == dtype && t.dims() == &dims[..];
                found.filter(fits).ok_or_else(|| {
                    let dims = dims.as_slice();
                    format!("no tensor {dtype}{dims:?} with this hash is at hand")
                })
            }
            Some(("bytes", _)) => {
                Err("this text was written without hashes, for people only".into())
            }
            Some(("location", _)) => Err("external files are not read from text".into()),
            _ => generate(dtype, dims, &entries, &mut self.budget),
        };
        tensor.map_err(|message| self.error(at, message))
    }

    /// `{values = tensor, indices = tensor}`
    fn sparse(&mut self, ty: &TensorType, at: usize) -> Result<SparseTensor> {
        let (dtype, dims) = self.constant_type(ty, at)?;
        self.expect('{')?;
        self.expect_token(&Token::Ident("values"))?;
        self.expect('=')?;
        let values = self.typed_tensor()?;
        self.expect(',')?;
        self.expect_token(&Token::Ident("indices"))?;
        self.expect('=')?;
        let indices = self.typed_tensor()?;
        self.expect('}')?;
        if values.dtype() != dtype {
            let found = values.dtype();
            return Err(self.error(
                at,
                format!("a sparse tensor of {dtype} has values of {found}"),
            ));
        }
        Ok(SparseTensor {
            values,
            indices,
            dims,
        })
    }

    /// A tensor with its type before it.
    fn typed_tensor(&mut self) -> Result<Tensor> {
        let at = self.at;
        let ty = self.element_and_shape()?;
        self.eat('=')?;
        self.tensor(&ty, at)
    }

    /// `: kind = value`, the kind perhaps left out.
    pub(super) fn attr_value(&mut self) -> Result<Value> {
        let kind = match self.eat(':')? {
            true => Some(self.attr_kind()?),
            false => None,
        };
        self.expect('=')?;
        let at = self.at;
        if self.eat('@')? {
            let kind = kind.unwrap_or(AttrKind::Undefined);
            return Ok(Value::Attr(Attr::Ref {
                name: self.name()?,
                kind,
            }));
        }
        let value = match self.eat('[')? {
            true => self.attr_list(kind)?,
            false => self.attr_single(kind)?,
        };
        match kind {
            Some(kind) if kind != value.kind() => {
                let (kind, found) = (kind.name(), value.kind().name());
                Err(self.error(
                    at,
                    format!("expected a value of kind {kind}, found {found}"),
                ))
            }
            _ => Ok(value),
        }
    }

    fn attr_kind(&mut self) -> Result<AttrKind> {
        let found = match self.token {
            Token::Ident(word) => AttrKind::ALL.into_iter().find(|kind| kind.name() == word),
            _ => None,
        };
        let kind = found.ok_or_else(|| self.expected("the kind of an attribute"))?;
        self.bump()?;
        Ok(kind)
    }

    /// Whether a number comes next.
    fn is_number(&self) -> bool {
        match self.token {
            Token::Int(_) | Token::Float(_) | Token::NanBits(_) => true,
            Token::Ident(word) => is_float_word(word),
            _ => false,
        }
    }

    /// Whether a string comes next that is not the name of a graph.
    fn is_string(&self) -> bool {
        let mut lexer = self.lexer.clone();
        matches!(self.token, Token::Str(_))
            && lexer
                .token()
                .is_ok_and(|(_, token)| token != Token::Punct('('))
    }

    fn attr_single(&mut self, kind: Option<AttrKind>) -> Result<Value> {
        let attr = match self.token {
            Token::Int(_) if kind != Some(AttrKind::Float) => Attr::Int(self.int()?),
            _ if self.is_number() => Attr::Float(self.float()?),
            Token::Str(_) if self.is_string() => Attr::String(self.bytes()?),
            _ if self.is_type() => self.tensor_or_type(kind == Some(AttrKind::Type))?,
            Token::Ident(_) | Token::Str(_) => return Ok(Value::Graph),
            _ => return Err(self.expected("the value of an attribute")),
        };
        Ok(Value::Attr(attr))
    }

    fn float(&mut self) -> Result<f32> {
        let value = read_f32(&self.token).map_err(|message| self.error(self.at, message))?;
        self.bump()?;
        Ok(value)
    }

    /// A tensor, dense or sparse, perhaps with a name, which nothing refers to; or a type.
    fn tensor_or_type(&mut self, only_type: bool) -> Result<Attr<GraphDef>> {
        let at = self.at;
        let ty = self.ty()?;
        let is_constant = matches!(
            self.token,
            Token::Punct('{' | '[' | '=') | Token::Ident(_) | Token::Str(_)
        );
        match ty {
            Type::Tensor(ty) if is_constant && !only_type => {
                self.constant_name()?;
                Ok(Attr::Tensor(self.tensor(&ty, at)?))
            }
            Type::SparseTensor(ty) if is_constant && !only_type => {
                self.constant_name()?;
                Ok(Attr::SparseTensor(Box::new(self.sparse(&ty, at)?)))
            }
            ty => Ok(Attr::Type(ty)),
        }
    }

    fn constant_name(&mut self) -> Result<()> {
        if matches!(self.token, Token::Ident(_) | Token::Str(_)) {
            self.name()?;
        }
        self.eat('=')?;
        Ok(())
    }

    /// A list after its bracket.
    fn attr_list(&mut self, kind: Option<AttrKind>) -> Result<Value> {
        if self.token == Token::Punct(']') {
            let empty = self.empty_list(kind)?;
            self.bump()?;
            return Ok(Value::Attr(empty));
        }
        if self.is_number() {
            return self.numbers(kind).map(Value::Attr);
        }
        if self.is_type() {
            return self.tensors_or_types(kind).map(Value::Attr);
        }
        if self.is_string() {
            return Ok(Value::Attr(Attr::Strings(self.strings()?)));
        }
        match self.token {
            Token::Ident(_) | Token::Str(_) => Ok(Value::Graphs),
            _ => Err(self.expected("the value of an attribute")),
        }
    }

    fn empty_list(&self, kind: Option<AttrKind>) -> Result<Attr<GraphDef>> {
        Ok(match kind {
            Some(AttrKind::Floats) => Attr::Floats(Vec::new()),
            Some(AttrKind::Ints) => Attr::Ints(Vec::new()),
            Some(AttrKind::Strings) => Attr::Strings(Vec::new()),
            Some(AttrKind::Tensors) => Attr::Tensors(Vec::new()),
            Some(AttrKind::Graphs) => Attr::Graphs(Vec::new()),
            Some(AttrKind::SparseTensors) => Attr::SparseTensors(Vec::new()),
            Some(AttrKind::Types) => Attr::Types(Vec::new()),
            _ => {
                let message = "an empty list needs its kind, as in `axes: ints = []`";
                return Err(self.error(self.at, message));
            }
        })
    }

    /// Integers, or floats where one of them is.
    fn numbers(&mut self, kind: Option<AttrKind>) -> Result<Attr<GraphDef>> {
        let (mut ints, mut floats) = (Vec::new(), Vec::new());
        self.list(']', |p| {
            if let Token::Int(text) = p.token
                && kind != Some(AttrKind::Floats)
            {
                let int = text.parse::<i64>();
                ints.push(int.map_err(|_| p.error(p.at, "this does not fit in 64 bits"))?);
            }
            floats.push(p.float()?);
            Ok(())
        })?;
        let is_ints = ints.len() == floats.len() && kind != Some(AttrKind::Floats);
        Ok(if is_ints {
            Attr::Ints(ints)
        } else {
            Attr::Floats(floats)
        })
    }

    fn strings(&mut self) -> Result<Vec<bytes::Bytes>> {
        let mut strings = Vec::new();
        self.list(']', |p| {
            strings.push(p.bytes()?);
            Ok(())
        })?;
        Ok(strings)
    }

    fn tensors_or_types(&mut self, kind: Option<AttrKind>) -> Result<Attr<GraphDef>> {
        let (mut tensors, mut sparse, mut types) = (Vec::new(), Vec::new(), Vec::new());
        let at = self.at;
        self.list(']', |p| {
            match p.tensor_or_type(kind == Some(AttrKind::Types))? {
                Attr::Tensor(t) => tensors.push(t),
                Attr::SparseTensor(t) => sparse.push(*t),
                Attr::Type(t) => types.push(t),
                _ => {}
            }
            Ok(())
        })?;
        match (tensors.is_empty(), sparse.is_empty(), types.is_empty()) {
            (false, true, true) => Ok(Attr::Tensors(tensors)),
            (true, false, true) => Ok(Attr::SparseTensors(sparse)),
            (true, true, false) => Ok(Attr::Types(types)),
            _ => Err(self.error(at, "the values of a list must be of one kind")),
        }
    }
}
