//! [`Pass`]: what changes a model.

use onnxq_ir::Model;

use crate::{PassContext, PassError};

/// A transformation of a model.
///
/// A pass does not print, time or verify, and does not say what it changed or preserved: the
/// manager does the former, the revision of each graph tells the latter. It removes no nodes
/// either: what it leaves without use is swept when it is done. After an error the model is in
/// no particular state.
pub trait Pass {
    /// The name in the [`PassInfo`](crate::PassInfo) that builds it.
    fn name(&self) -> &str;

    /// Transforms the model.
    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError>;
}
