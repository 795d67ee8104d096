//! Values while a plan runs, and how observers see them.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use onnxq_ops::Value;
use onnxq_tensor::{Buffer, DType, Dims, Tensor, TensorError};

/// A `float32` tensor in memory of a [`Pool`](super::buffers::Pool). The vector may be longer than
/// the tensor.
#[derive(Clone)]
pub(crate) struct Floats {
    pub(crate) data: Arc<Vec<f32>>,
    pub(crate) dims: Dims,
}

impl Floats {
    /// The first elements of `data` under `dims`. There must be enough.
    pub(crate) fn new(data: Vec<f32>, dims: Dims) -> Floats {
        debug_assert!(data.len() >= dims.iter().product());
        Floats {
            data: Arc::new(data),
            dims,
        }
    }

    pub(crate) fn elements(&self) -> &[f32] {
        &self.data[..self.dims.iter().product()]
    }

    /// The same memory as a tensor.
    fn tensor(&self) -> Result<Tensor, TensorError> {
        struct Owner(Arc<Vec<f32>>, usize);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                bytemuck::cast_slice(&self.0[..self.1])
            }
        }
        let owner = Owner(self.data.clone(), self.elements().len());
        let buffer = Buffer::from(Bytes::from_owner(owner));
        Tensor::new(DType::F32, self.dims.clone(), buffer)
    }
}

/// A value while a plan runs.
#[derive(Clone)]
pub(crate) enum Data {
    /// What kernels make.
    Floats(Floats),
    /// What comes from outside or from the reference.
    Value(Value),
}

impl Data {
    /// Elements and dimensions, if this is a `float32` tensor whose memory is aligned.
    pub(crate) fn floats(&self) -> Option<(&[f32], &[usize])> {
        match self {
            Data::Floats(f) => Some((f.elements(), &f.dims)),
            Data::Value(Value::Tensor(t)) if t.dtype() == DType::F32 => {
                let elements = bytemuck::try_cast_slice(t.bytes()).ok()?;
                Some((elements, t.dims()))
            }
            Data::Value(_) => None,
        }
    }

    /// The tensor, if it is none of floats in pooled memory.
    pub(crate) fn tensor(&self) -> Option<&Tensor> {
        match self {
            Data::Value(Value::Tensor(t)) => Some(t),
            _ => None,
        }
    }

    /// The value, sharing memory.
    pub(crate) fn value(&self) -> Result<Value, TensorError> {
        match self {
            Data::Floats(f) => f.tensor().map(Value::Tensor),
            Data::Value(v) => Ok(v.clone()),
        }
    }

    /// How observers see it, if it is a tensor.
    pub(crate) fn view(&self) -> Option<View<'_>> {
        match self {
            Data::Floats(f) => Some(View {
                dtype: DType::F32,
                dims: &f.dims,
                source: Source::Floats(f.elements()),
            }),
            Data::Value(Value::Tensor(t)) => Some(View::of(t)),
            Data::Value(_) => None,
        }
    }
}

/// A tensor that lives until the observer returns.
#[derive(Clone, Copy)]
pub struct View<'a> {
    dtype: DType,
    dims: &'a [usize],
    source: Source<'a>,
}

#[derive(Clone, Copy)]
enum Source<'a> {
    Floats(&'a [f32]),
    Tensor(&'a Tensor),
}

impl<'a> View<'a> {
    /// A view of `tensor`.
    pub fn of(tensor: &'a Tensor) -> View<'a> {
        View {
            dtype: tensor.dtype(),
            dims: tensor.dims(),
            source: Source::Tensor(tensor),
        }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions.
    pub fn dims(&self) -> &'a [usize] {
        self.dims
    }

    /// The elements, if they are `float32`.
    pub fn floats(&self) -> Option<Cow<'a, [f32]>> {
        match self.source {
            Source::Floats(f) => Some(Cow::Borrowed(f)),
            Source::Tensor(t) => t.as_slice().ok(),
        }
    }

    /// A tensor that may be kept.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn to_tensor(&self) -> Result<Tensor, TensorError> {
        match self.source {
            Source::Floats(f) => Tensor::from_vec(self.dims, f.to_vec()),
            Source::Tensor(t) => Ok(t.clone()),
        }
    }
}
