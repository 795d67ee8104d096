//! The compiler's intermediate representation: models as graphs of values and operations.
//!
//! - [`def::ModelDef`] is a model as files and text write it, lists and names.
//! - [`Model`] is what passes work on: a [`Graph`] with edges for uses, built from a `ModelDef` and
//!   giving it back in canonical order.
//! - [`text`] prints and parses models in the ONNX textual syntax.
//! - [`verify`](Model::verify) lists every violation of the invariants.
//!
//! *Invariant*: nothing here knows what an operator means or how files are encoded.

mod attr;
mod build;
mod captures;
pub mod def;
mod error;
mod flatten;
mod graph;
mod model;
mod node;
mod order;
pub mod text;
mod types;
mod verify;

pub use attr::{Attr, AttrKind, SparseTensor};
pub use build::MAX_NESTING;
pub use error::Error;
pub use graph::{Graph, NodeId, Operands, Use, ValueId};
pub use model::{Function, FunctionId, Model};
pub use node::{Constant, Node, NodeExtra, NodeKind, Op, Value, ValueExtra};
pub use types::{TensorType, Type};
pub use verify::Violation;

/// Runs `f` on a stack that grows where little is left.
///
/// Whatever recurses into regions goes through this: graphs may be nested hundreds deep, and
/// threads have small stacks.
pub fn deep<R>(f: impl FnOnce() -> R) -> R {
    const RED_ZONE: usize = 256 << 10;
    const GROWTH: usize = 4 << 20;
    stacker::maybe_grow(RED_ZONE, GROWTH, f)
}
