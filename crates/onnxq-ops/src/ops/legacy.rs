//! Steps that several upgrades take.

use onnxq_ir::{Attr, Op};
use onnxq_tensor::Tensor;

use crate::UpgradeContext;

/// Puts an `Unsqueeze` between operand `i` and the node.
pub(super) fn unsqueeze(cx: &mut UpgradeContext<'_>, i: usize, axes: Vec<i64>) {
    if cx.to() < 13 {
        let op = Op::new("Unsqueeze").with("axes", axes);
        cx.wrap_operand(i, op, &[], "unsqueezed");
    } else {
        let name = cx.derived("axes");
        let axes = cx.graph.add_constant(name, Tensor::vector(axes));
        cx.wrap_operand(i, Op::new("Unsqueeze"), &[axes], "unsqueezed");
    }
}

/// Turns the integer of attribute `key`, where given, into operand `i`, a vector of one element.
pub(super) fn int_to_operand(cx: &mut UpgradeContext<'_>, key: &str, i: usize) {
    if let Some(Attr::Int(v)) = cx.op_mut().attrs.shift_remove(key) {
        cx.set_constant(i, key, Tensor::vector(vec![v]));
    }
}
