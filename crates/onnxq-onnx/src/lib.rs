//! ONNX files, both ways: [`load`] gives a [`ModelDef`], [`save`] writes one.
//!
//! Format: `onnx.proto` of IR version 14, <https://github.com/onnx/onnx/blob/main/onnx/onnx.in.proto>,
//! and `docs/ExternalData.md` beside it.
//!
//! # Reading
//!
//! The file is mapped and tensors are views of the mapping, so that loading a model costs the
//! memory of its structure, whatever the weights weigh. Every form in which a file may store a
//! tensor (`raw_data`, the typed fields, another file) becomes the one form of
//! [`Tensor`](onnxq_tensor::Tensor).
//!
//! Some things are spelt in one way afterwards: the domain `ai.onnx` is `""`; an attribute without a
//! type, as in files of IR version 1, has the type of its value; of a repeated key the last value
//! counts; documentation and metadata that are not UTF-8 are mended, while a name that is not UTF-8
//! is an error. What neither ONNX Runtime nor the checker reads is dropped: fields unknown to the
//! schema, names and documentation of tensors inside attributes, denotations.
//!
//! # Writing
//!
//! Weights go from the tensors' buffers straight to the file, and mapped ones are let go of behind
//! the writer. A file appears whole or not at all.
//!
//! # Hostile input
//!
//! Lengths are checked before they are believed, paths of external data stay inside the model's
//! directory, and nothing recurses on the nesting of graphs or types, which [`MAX_NESTING`] limits.
//! What is wrong is an [`Error`], never a panic.
//!
//! [`ModelDef`]: onnxq_ir::def::ModelDef

mod encode;
mod error;
mod export;
mod external;
mod import;
mod proto;
mod rope;
mod tensor;
#[cfg(test)]
mod tests;
mod types;

pub use error::Error;
pub use export::{SaveOptions, SaveReport, save, write_file, write_to};
pub use import::{from_buffer, load};
pub use tensor::tensor_from_bytes;

/// How deep graphs may be nested in attributes, and types in types.
///
/// Real models stay below ten. The limit keeps what is recursive elsewhere (dropping and comparing
/// a model) within the 2 MiB of a thread's stack.
pub const MAX_NESTING: usize = 1000;
