//! Ranges in files.

mod json;

pub use json::RangeTable;
