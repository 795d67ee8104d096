//! The messages of `onnx-ml.proto`, as far as models are read through them.
//!
//! Two departures from the schema, both with the same bytes on the wire. Text is `bytes`, so that
//! what is not UTF-8 can be reported with its place. Messages that may be large in number or deep in
//! nesting (graphs, nodes, attributes, tensors, types within types) are `bytes` in the message that holds
//! them and are decoded one at a time: every message here has a depth that is known, and a model is
//! never in memory as a whole in this form.

use bytes::Bytes;
use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ModelProto {
    #[prost(int64, optional, tag = "1")]
    pub(crate) ir_version: Option<i64>,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) producer_name: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) producer_version: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) domain: Bytes,
    #[prost(int64, tag = "5")]
    pub(crate) model_version: i64,
    #[prost(bytes = "bytes", tag = "6")]
    pub(crate) doc_string: Bytes,
    /// `GraphProto`
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub(crate) graph: Option<Bytes>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) opset_import: Vec<OperatorSetIdProto>,
    #[prost(message, repeated, tag = "14")]
    pub(crate) metadata_props: Vec<StringStringEntryProto>,
    /// `TrainingInfoProto`
    #[prost(bytes = "bytes", repeated, tag = "20")]
    pub(crate) training_info: Vec<Bytes>,
    /// `FunctionProto`
    #[prost(bytes = "bytes", repeated, tag = "25")]
    pub(crate) functions: Vec<Bytes>,
    /// `DeviceConfigurationProto`
    #[prost(bytes = "bytes", repeated, tag = "26")]
    pub(crate) configuration: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OperatorSetIdProto {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) domain: Bytes,
    #[prost(int64, tag = "2")]
    pub(crate) version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StringStringEntryProto {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GraphProto {
    /// `NodeProto`
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) node: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) name: Bytes,
    /// `TensorProto`
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub(crate) initializer: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "10")]
    pub(crate) doc_string: Bytes,
    #[prost(message, repeated, tag = "11")]
    pub(crate) input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) output: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) value_info: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "14")]
    pub(crate) quantization_annotation: Vec<TensorAnnotation>,
    #[prost(message, repeated, tag = "15")]
    pub(crate) sparse_initializer: Vec<SparseTensorProto>,
    #[prost(message, repeated, tag = "16")]
    pub(crate) metadata_props: Vec<StringStringEntryProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorAnnotation {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) tensor_name: Bytes,
    #[prost(message, repeated, tag = "2")]
    pub(crate) quant_parameter_tensor_names: Vec<StringStringEntryProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValueInfoProto {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) name: Bytes,
    /// `TypeProto`
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) r#type: Option<Bytes>,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) doc_string: Bytes,
    #[prost(message, repeated, tag = "4")]
    pub(crate) metadata_props: Vec<StringStringEntryProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeProto {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) input: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) output: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) name: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) op_type: Bytes,
    /// `AttributeProto`
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub(crate) attribute: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "6")]
    pub(crate) doc_string: Bytes,
    #[prost(bytes = "bytes", tag = "7")]
    pub(crate) domain: Bytes,
    #[prost(bytes = "bytes", tag = "8")]
    pub(crate) overload: Bytes,
    #[prost(message, repeated, tag = "9")]
    pub(crate) metadata_props: Vec<StringStringEntryProto>,
    /// `NodeDeviceConfigurationProto`
    #[prost(bytes = "bytes", repeated, tag = "10")]
    pub(crate) device_configurations: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AttributeProto {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) name: Bytes,
    #[prost(float, optional, tag = "2")]
    pub(crate) f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub(crate) i: Option<i64>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) s: Option<Bytes>,
    #[prost(message, optional, boxed, tag = "5")]
    pub(crate) t: Option<Box<TensorProto>>,
    /// `GraphProto`
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub(crate) g: Option<Bytes>,
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub(crate) floats: Vec<f32>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub(crate) ints: Vec<i64>,
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub(crate) strings: Vec<Bytes>,
    #[prost(message, repeated, tag = "10")]
    pub(crate) tensors: Vec<TensorProto>,
    /// `GraphProto`
    #[prost(bytes = "bytes", repeated, tag = "11")]
    pub(crate) graphs: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "13")]
    pub(crate) doc_string: Bytes,
    /// `TypeProto`
    #[prost(bytes = "bytes", optional, tag = "14")]
    pub(crate) tp: Option<Bytes>,
    /// `TypeProto`
    #[prost(bytes = "bytes", repeated, tag = "15")]
    pub(crate) type_protos: Vec<Bytes>,
    #[prost(int32, optional, tag = "20")]
    pub(crate) r#type: Option<i32>,
    #[prost(bytes = "bytes", tag = "21")]
    pub(crate) ref_attr_name: Bytes,
    #[prost(message, optional, boxed, tag = "22")]
    pub(crate) sparse_tensor: Option<Box<SparseTensorProto>>,
    #[prost(message, repeated, tag = "23")]
    pub(crate) sparse_tensors: Vec<SparseTensorProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorProto {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(crate) dims: Vec<i64>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) data_type: Option<i32>,
    /// `TensorProto.Segment`
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) segment: Option<Bytes>,
    #[prost(float, repeated, tag = "4")]
    pub(crate) float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    pub(crate) int32_data: Vec<i32>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub(crate) string_data: Vec<Bytes>,
    #[prost(int64, repeated, tag = "7")]
    pub(crate) int64_data: Vec<i64>,
    #[prost(bytes = "bytes", tag = "8")]
    pub(crate) name: Bytes,
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub(crate) raw_data: Option<Bytes>,
    #[prost(double, repeated, tag = "10")]
    pub(crate) double_data: Vec<f64>,
    #[prost(uint64, repeated, tag = "11")]
    pub(crate) uint64_data: Vec<u64>,
    #[prost(bytes = "bytes", tag = "12")]
    pub(crate) doc_string: Bytes,
    #[prost(message, repeated, tag = "13")]
    pub(crate) external_data: Vec<StringStringEntryProto>,
    /// `DataLocation`: 0 here, 1 in another file.
    #[prost(int32, tag = "14")]
    pub(crate) data_location: i32,
    #[prost(message, repeated, tag = "16")]
    pub(crate) metadata_props: Vec<StringStringEntryProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SparseTensorProto {
    #[prost(message, optional, tag = "1")]
    pub(crate) values: Option<TensorProto>,
    #[prost(message, optional, tag = "2")]
    pub(crate) indices: Option<TensorProto>,
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub(crate) dims: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TypeProto {
    #[prost(oneof = "TypeValue", tags = "1, 4, 5, 7, 8, 9")]
    pub(crate) value: Option<TypeValue>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum TypeValue {
    #[prost(message, tag = "1")]
    Tensor(TensorTypeProto),
    #[prost(message, tag = "4")]
    Sequence(ElementTypeProto),
    #[prost(message, tag = "5")]
    Map(MapTypeProto),
    #[prost(message, tag = "7")]
    Opaque(OpaqueTypeProto),
    #[prost(message, tag = "8")]
    SparseTensor(TensorTypeProto),
    #[prost(message, tag = "9")]
    Optional(ElementTypeProto),
}

/// `TypeProto.Tensor` and `TypeProto.SparseTensor`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    pub(crate) elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) shape: Option<TensorShapeProto>,
}

/// `TypeProto.Sequence` and `TypeProto.Optional`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ElementTypeProto {
    /// `TypeProto`
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) elem_type: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MapTypeProto {
    #[prost(int32, tag = "1")]
    pub(crate) key_type: i32,
    /// `TypeProto`
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) value_type: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OpaqueTypeProto {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) domain: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) name: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    pub(crate) dim: Vec<DimensionProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DimensionProto {
    #[prost(oneof = "DimensionValue", tags = "1, 2")]
    pub(crate) value: Option<DimensionValue>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum DimensionValue {
    #[prost(int64, tag = "1")]
    Value(i64),
    #[prost(bytes = "bytes", tag = "2")]
    Param(Bytes),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FunctionProto {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) name: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub(crate) input: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub(crate) output: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub(crate) attribute: Vec<Bytes>,
    /// `NodeProto`
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub(crate) node: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "8")]
    pub(crate) doc_string: Bytes,
    #[prost(message, repeated, tag = "9")]
    pub(crate) opset_import: Vec<OperatorSetIdProto>,
    #[prost(bytes = "bytes", tag = "10")]
    pub(crate) domain: Bytes,
    /// `AttributeProto`
    #[prost(bytes = "bytes", repeated, tag = "11")]
    pub(crate) attribute_proto: Vec<Bytes>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) value_info: Vec<ValueInfoProto>,
    #[prost(bytes = "bytes", tag = "13")]
    pub(crate) overload: Bytes,
    #[prost(message, repeated, tag = "14")]
    pub(crate) metadata_props: Vec<StringStringEntryProto>,
}
