//! Type and shape inference: one engine, symbolic, which never fails.
//!
//! [`analyze`] computes a [`Fact`] for every value: its type, its tensor where it is constant, and
//! the symbolic elements of small integer tensors, so that shapes computed in the graph
//! (`Shape` → `Gather` → `Concat` → `Reshape`) are known. It changes nothing; [`annotate`] writes the
//! types into the model. What cannot be known stays unknown, with a reason in the [`Report`].
//! Where the file's own annotation and what is inferred contradict each other, the report names
//! both.

mod context;
mod engine;
mod fact;

pub use context::{InferContext, Unknown};
pub use engine::{GraphFacts, Note, Report, analyze, annotate};
pub use fact::{Fact, SymTensor};
