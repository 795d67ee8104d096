//! Models as files and text write them: flat lists in which values are found by name.
//!
//! [`ModelDef`] is the meeting point of the formats. `onnxq-onnx` reads and writes it as protobuf,
//! [`text`](crate::text) as the ONNX textual syntax; [`Model`](crate::Model) is made from it and
//! gives it back in canonical order. It mirrors `ModelProto` field by field; tensors are views of
//! the file they came from.

use bytes::Bytes;
use indexmap::IndexMap;
use onnxq_tensor::Tensor;

use crate::{Attr, SparseTensor, Type};

/// `metadata_props`, in their order.
pub type Metadata = IndexMap<String, String>;

/// Operator sets imported: domain to version. The standard domain is `""`.
pub type Opsets = IndexMap<String, i64>;

/// `ModelProto`.
#[derive(Clone, PartialEq, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the specification's")]
pub struct ModelDef {
    pub ir_version: i64,
    pub opsets: Opsets,
    pub producer_name: String,
    pub producer_version: String,
    pub domain: String,
    pub model_version: i64,
    pub doc: String,
    pub metadata: Metadata,
    pub graph: GraphDef,
    pub functions: Vec<FunctionDef>,
    /// `TrainingInfoProto`s, encoded: carried along, not looked into.
    pub training: Vec<Bytes>,
    /// `DeviceConfigurationProto`s, encoded: carried along, not looked into.
    pub configurations: Vec<Bytes>,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the specification's")]
pub struct GraphDef {
    pub name: String,
    pub inputs: Vec<ValueDef>,
    pub outputs: Vec<ValueDef>,
    pub value_info: Vec<ValueDef>,
    pub initializers: Vec<InitializerDef>,
    pub nodes: Vec<NodeDef>,
    /// `quantization_annotation`: tensor name, and its parameters' names by role.
    pub annotations: Vec<(String, Metadata)>,
    pub doc: String,
    pub metadata: Metadata,
}

/// `ValueInfoProto`.
#[derive(Clone, PartialEq, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the specification's")]
pub struct ValueDef {
    pub name: String,
    pub ty: Option<Type>,
    pub doc: String,
    pub metadata: Metadata,
}

/// An initializer: a `TensorProto`, or a `SparseTensorProto` whose values carry the name.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "the fields are the specification's")]
pub struct InitializerDef {
    pub name: String,
    pub value: Literal,
    pub doc: String,
    pub metadata: Metadata,
}

/// The value of an initializer.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "the variants are the specification's")]
pub enum Literal {
    Dense(Tensor),
    Sparse(Box<SparseTensor>),
}

/// `NodeProto`. An empty name among `inputs` or `outputs` is an operand or result left out.
#[derive(Clone, PartialEq, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the specification's")]
pub struct NodeDef {
    pub name: String,
    pub domain: String,
    pub op_type: String,
    pub overload: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub attrs: IndexMap<String, Attr<GraphDef>>,
    /// `doc_string`s of attributes that have one.
    pub attr_docs: Metadata,
    pub doc: String,
    pub metadata: Metadata,
    /// `NodeDeviceConfigurationProto`s, encoded.
    pub configurations: Vec<Bytes>,
}

/// `FunctionProto`.
#[derive(Clone, PartialEq, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the specification's")]
pub struct FunctionDef {
    pub domain: String,
    pub name: String,
    pub overload: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    /// Attributes that a call must give.
    pub attributes: Vec<String>,
    /// Attributes with a default.
    pub attribute_defaults: IndexMap<String, Attr<GraphDef>>,
    pub opsets: Opsets,
    pub nodes: Vec<NodeDef>,
    pub value_info: Vec<ValueDef>,
    pub doc: String,
    pub metadata: Metadata,
}

impl Literal {
    /// The dense tensor, if it is one.
    pub fn as_dense(&self) -> Option<&Tensor> {
        match self {
            Literal::Dense(t) => Some(t),
            Literal::Sparse(_) => None,
        }
    }
}

impl ValueDef {
    /// A value without documentation.
    pub fn new(name: impl Into<String>, ty: Option<Type>) -> ValueDef {
        ValueDef {
            name: name.into(),
            ty,
            ..ValueDef::default()
        }
    }
}
