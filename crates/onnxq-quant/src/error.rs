//! What can be wrong with what is to be quantized.

use onnxq_tensor::{DType, TensorError};

use crate::QuantType;

/// Why something cannot be quantized as asked. Names of tensors are added by the caller.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("expected float, float16 or bfloat16, found {0}")]
    NotFloat(DType),
    #[error("{0} is not a type to quantize to")]
    NotQuantType(DType),
    #[error("element {index} is {value}")]
    NotFinite { index: usize, value: f32 },
    #[error("[{lo}, {hi}] is not a range of finite numbers")]
    Range { lo: f32, hi: f32 },
    #[error("the minimum real range {0} is not a finite number that is at least 0")]
    MinRealRange(f64),
    #[error("axis {axis} is out of bounds for rank {rank}")]
    Axis { axis: i64, rank: usize },
    #[error("the block size is 0")]
    EmptyBlock,
    #[error("float8e4m3fn takes no {0}")]
    Float8(&'static str),
    #[error("expected {expected} {what}, found {found}")]
    Count {
        what: &'static str,
        expected: usize,
        found: usize,
    },
    #[error("scale {index} is {value}, not a positive finite number")]
    Scale { index: usize, value: f32 },
    #[error("zero point {index} is {value}, out of the range of {qtype}")]
    ZeroPoint {
        index: usize,
        value: i64,
        qtype: QuantType,
    },
    #[error("expected an LSTM weight of rank 3, found {0:?}")]
    LstmShape(Vec<usize>),
    #[error("a bias of shape {bias:?} does not fit {channels} channels in its last dimension")]
    BiasShape { bias: Vec<usize>, channels: usize },
    #[error("{value} is not a valid {what}")]
    Method { what: &'static str, value: f64 },
    #[error("the observations cannot be merged: {0}")]
    Merge(&'static str),
    #[error("{0}")]
    Table(String),
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// The result of something that can fail with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
