//! Running models.
//!
//! [`Executor`] is the reference: it evaluates the graph node by node over the operators'
//! own definitions. [`Plan`] is the fast way, held against it.
//!
//! *Invariant*: models come in as IR; nothing here reads files.

mod executor;
#[expect(
    dead_code,
    reason = "what families of kernels need is there before them"
)]
mod plan;

pub use executor::{Executor, RunError};
pub use plan::{Plan, View, Workspace};
