//! Operators: everything about one operator in one place.
//!
//! An [`Operator`] knows the opsets at which its schema changed, its type and shape rule, its
//! evaluation, how to bring a node of it to a later opset, and what it means to a quantizer.
//! [`lookup`] finds it. Around them stand three engines, each linear in the model:
//! - [`infer`]: types, shapes and values of shape tensors, symbolic, never failing;
//! - [`interpret`]: evaluation of a graph, node by node, the oracle for everything faster;
//! - [`upgrade`]: a model brought to a later opset.
//!
//! To add an operator: write it in the file of its family under `ops/` (or a new file), and add
//! it to the list at the end of that file. `docs/ops.md` has the recipe.
//!
//! *Invariant*: nothing here knows of passes or of files.

mod eval;
pub mod infer;
pub mod interpret;
mod operator;
mod ops;
pub mod upgrade;

pub use eval::{EvalContext, EvalError, RunRegion, Value};
pub use infer::{Fact, InferContext, SymTensor, Unknown};
pub use operator::{Operator, QuantRole};
pub use ops::{Taps, all, lookup, op_version, resize_taps};
pub use upgrade::{UpgradeContext, UpgradeError};
