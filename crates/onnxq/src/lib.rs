//! onnxq as a library.

pub mod data;
