//! Types of values: what ONNX calls `TypeProto`.

use onnxq_tensor::{DType, Dim, Shape};

/// The type of a value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Type {
    /// A dense tensor. `dtype` is `None` where the file does not say; `shape` where the rank is
    /// unknown.
    Tensor(TensorType),
    /// A sparse tensor.
    SparseTensor(TensorType),
    /// A sequence; the element type is `None` where the file does not say.
    Sequence(Option<Box<Type>>),
    /// An optional value.
    Optional(Option<Box<Type>>),
    /// A map.
    Map {
        /// Integral or string.
        key: DType,
        /// The type of the values.
        value: Option<Box<Type>>,
    },
    /// A type of some other domain.
    Opaque {
        /// The domain, may be empty.
        domain: String,
        /// The name in it.
        name: String,
    },
}

/// Element type and shape of a tensor, each as far as known.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct TensorType {
    /// The element type.
    pub dtype: Option<DType>,
    /// The dimensions; `None` where not even the rank is known.
    pub shape: Option<Shape>,
}

impl Type {
    /// A dense tensor of known element type.
    pub fn tensor(dtype: DType, shape: Option<Shape>) -> Type {
        Type::Tensor(TensorType {
            dtype: Some(dtype),
            shape,
        })
    }

    /// A dense tensor of constant dimensions.
    pub fn dense(dtype: DType, dims: &[usize]) -> Type {
        let shape = dims.iter().map(|&d| Dim::known(d as i64)).collect();
        Type::tensor(dtype, Some(shape))
    }

    /// Element type and shape, if this is a dense tensor.
    pub fn as_tensor(&self) -> Option<&TensorType> {
        match self {
            Type::Tensor(t) => Some(t),
            _ => None,
        }
    }

    /// The element type, if this is a dense tensor of which it is known.
    pub fn dtype(&self) -> Option<DType> {
        self.as_tensor()?.dtype
    }

    /// The shape, if this is a dense tensor of known rank.
    pub fn shape(&self) -> Option<&Shape> {
        self.as_tensor()?.shape.as_ref()
    }
}
