//! The compiler's intermediate representation.

mod attr;
pub mod def;
mod graph;
pub mod text;
mod types;

pub use attr::{Attr, AttrKind, SparseTensor};
pub use graph::Graph;
pub use types::{TensorType, Type};
