//! The pass manager over toy passes.

mod manager;
mod pipeline;
mod registry;
mod rewriter;
mod toys;
