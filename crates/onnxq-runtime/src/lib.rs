//! Running models.
//!
//! [`Executor`] is the reference: it evaluates the graph node by node over the operators'
//! own definitions. Faster ways to run are held against it.
//!
//! *Invariant*: models come in as IR; nothing here reads files.

mod executor;

pub use executor::{Executor, RunError};
