//! Element types, tensors over shared bytes, and symbolic dimensions.
//!
//! *Invariant*: nothing here knows of graphs, operators or files' formats.

#[cfg(target_endian = "big")]
compile_error!("tensor bytes are read in place, which needs a little-endian machine");

mod buffer;
mod convert;
mod dim;
mod dtype;
pub mod narrow;
mod tensor;

pub use buffer::{Buffer, BufferMut, MappedFile};
pub use bytes::Bytes;
pub use dim::{Dim, Shape};
pub use dtype::{DType, Element};
pub use tensor::{Dims, Tensor, TensorError, element_count};
