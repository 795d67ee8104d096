//! Models as text: the [ONNX textual syntax](https://github.com/onnx/onnx/blob/main/docs/Syntax.md),
//! with additions for what it has no place for (`docs/ir.md` has the grammar).
//!
//! ```
//! # use onnxq_ir::text;
//! let source = r#"<ir_version: 10, opset_import: ["": 21]>
//! main (float[N, 64] x) => (float[N, 10] y) <float[64, 10] W = ["seed": "7"]>
//! {
//!     h = MatMul (x, W)
//!     y = Relu (h)
//! }
//! "#;
//! let model = text::parse(source, &())?;
//! let printed = text::print(&model);
//! assert!(printed.contains(r#"<float[64, 10] W = ["sha256": ""#));
//! assert_eq!(text::parse(&printed, &text::TensorIndex::new(&model))?, model);
//! # Ok::<(), text::ParseError>(())
//! ```
//!
//! Constants of more than a few elements are written as type and hash of the contents, and are
//! found by hash in a [`TensorStore`] when they are read back.
//!
//! *Invariant*: `parse(print(m), store of m) == m` for every model, floats bit for bit, and the
//! text depends on the model alone. Reading never panics and takes memory in proportion to the text
//! (and at most 256 MiB for constants that the text describes instead of holding them).

mod constant;
mod generate;
mod hash;
mod lex;
mod minifloat;
mod parse;
mod print;
mod quote;

use std::fmt;

pub use hash::{ContentHash, TensorIndex, TensorStore};

use crate::def::ModelDef;

/// Where and why a text is not a model.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What was expected, and what was found.
    pub message: String,
}

/// How to write a model.
#[derive(Clone, Debug)]
pub struct PrintOptions {
    /// Write hashes of large constants. Without, only their sizes are written: faster, and enough
    /// for people, but it cannot be read back.
    pub hashes: bool,
    /// Constants of at most so many elements are written out.
    pub max_elements: usize,
}

impl Default for PrintOptions {
    fn default() -> PrintOptions {
        PrintOptions {
            hashes: true,
            max_elements: 8,
        }
    }
}

/// Reads a model. Constants written as hashes are looked up in `tensors`; `&()` has none.
///
/// Where the header does not say, the IR version is 10 and the standard opset 21 is imported.
pub fn parse(text: &str, tensors: &dyn TensorStore) -> Result<ModelDef, ParseError> {
    parse::Parser::new(text, tensors)?.model()
}

/// The text of a model.
pub fn print(model: &ModelDef) -> String {
    print_with(model, &PrintOptions::default())
}

/// The text of a model, written as `options` say.
pub fn print_with(model: &ModelDef, options: &PrintOptions) -> String {
    let mut text = String::new();
    write(&mut text, model, options).expect("a string takes all that is written to it");
    text
}

/// Writes the text of a model to `out`.
pub fn write(out: &mut impl fmt::Write, model: &ModelDef, options: &PrintOptions) -> fmt::Result {
    print::Printer::new(out, options).model(model)
}
