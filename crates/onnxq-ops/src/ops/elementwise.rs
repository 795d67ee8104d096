//! Operators that work element by element, broadcasting included.

pub(super) mod activation;
mod arithmetic;
pub(super) mod binary;
pub(super) mod cast;
pub(super) mod clip;
pub(super) mod gated;
pub(super) mod logic;
pub(super) mod select;
pub(super) mod unary;
pub(super) mod variadic;
