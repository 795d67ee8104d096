//! The pass manager over toy passes.

mod manager;
mod registry;
mod rewriter;
mod toys;
