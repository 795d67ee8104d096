//! The trait every operator implements.

use onnxq_ir as ir;

use crate::{EvalContext, EvalError, InferContext, Unknown, UpgradeContext, UpgradeError, Value};

/// An operator of some domain, at all its versions.
pub trait Operator: Sync {
    /// The domain; `""` is the standard one.
    fn domain(&self) -> &'static str {
        ""
    }

    /// The name, as in `NodeProto.op_type`.
    fn name(&self) -> &'static str;

    /// The opsets at which the schema changed, ascending; the first is where it appeared.
    fn since(&self) -> &'static [i64];

    /// Types, shapes and values of the results, as far as the operands tell.
    ///
    /// # Errors
    /// [`Unknown`] says why nothing (more) is known; what was set before stays.
    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown>;

    /// The results for given operands: the definition that faster code is held against.
    ///
    /// # Errors
    /// Operands that do not fit the operator, or a case that is not implemented.
    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        Err(cx.unsupported("evaluation"))
    }

    /// Rewrites a node of this operator from opset `cx.from()` to `cx.to()`. Called only where
    /// the schema changed in between.
    ///
    /// # Errors
    /// Says why the node cannot be converted; the graph must then be unchanged.
    fn upgrade(&self, _cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        Ok(())
    }

    /// What the operator means to a quantizer.
    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::NotQuantizable
    }
}

/// What an operator means to a quantizer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum QuantRole {
    /// It stays float.
    NotQuantizable,
    /// A linear map: `activation` times `weight`, plus `bias`.
    Affine {
        /// The operand that is the activation.
        activation: usize,
        /// The operand that is the weight.
        weight: usize,
        /// The operand that is the bias.
        bias: Option<usize>,
        /// The axis of the weight that runs over output channels; negative counts from the end.
        channel_axis: i64,
    },
    /// A table looked up by index: operand 0 is the table.
    Embedding,
    /// A recurrent cell: weights and recurrence weights are operands 1 and 2.
    Recurrent,
    /// Moves or selects elements: the result has the scale of operand 0.
    SameScale,
    /// The result lies in a range that does not depend on data.
    FixedRange(f32, f32),
    /// Every float operand and result has a scale of its own.
    Elementwise,
}
