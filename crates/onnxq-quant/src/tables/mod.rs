//! Ranges in files.

mod json;
mod lines;
mod tensorrt;

pub use json::RangeTable;
pub use tensorrt::{tensorrt_flatbuffers, tensorrt_text};
