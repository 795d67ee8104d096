//! Operators that run graphs, and those on sequences and optional values.

pub(super) mod branch;
mod join;
pub(super) mod loops;
pub(super) mod optional;
pub(super) mod scan;
pub(super) mod sequence;
pub(super) mod split;
mod stack;
