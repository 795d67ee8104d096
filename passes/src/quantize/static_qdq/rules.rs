//! What static quantization does with each operator.
//!
//! The role of an operator ([`QuantRole`]) says most of it; what is particular to inserting pairs
//! of QuantizeLinear and DequantizeLinear is here. An operator that no list names is left alone
//! unless `op-types` asks for it; then each of its float operands and results is quantized.
//!
//! By default the operators are those of the quantization tool of ONNX Runtime, and more:
//! - those that only move elements carry the scale of what they move, for nothing;
//! - element-wise functions and differences ([`Rule::Between`]) take part where everything that
//!   comes in is quantized already. An operator alone among float ones would cost a pair before
//!   and behind it, and accuracy, without computing faster; and what normalizations and the like
//!   decompose to (Pow, Exp, Sqrt, means over features) loses its small values in 8 bits.

use onnxq_ir::Op;
use onnxq_ops::{QuantRole, lookup};

/// What is done with a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::quantize) enum Rule {
    /// A product of an activation and a weight, with a bias perhaps.
    Product {
        activation: usize,
        weight: usize,
        bias: Option<usize>,
        /// The axis of the output channels.
        channels: i64,
    },
    /// A product of two operands of which each may be constant.
    MatMul,
    /// Scales (operand 1) and shifts (operand 2) what is normalized.
    Normalization,
    /// The first result has the scale of operand 0, if that is quantized.
    Follow,
    /// Every result has the scale of operand 0, which is quantized.
    Split,
    /// Follows, and quantizes a constant table.
    Lookup,
    /// Operands are quantized; follows where nothing new comes in.
    Pad,
    /// Takes part where both of its operands do.
    Where,
    /// Relu and Clip: goes away where the range of codes does the same.
    Clamp,
    /// A recurrent cell, of which the weights are quantized: operands 1 and 2.
    Recurrent,
    /// Takes part where every float operand is quantized or constant.
    Between,
    /// Every float operand and result is quantized.
    Each,
}

/// Operators of the quantization tool of ONNX Runtime.
const REFERENCE: &[&str] = &[
    "Add",
    "ArgMax",
    "AveragePool",
    "BatchNormalization",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "CumSum",
    "EmbedLayerNormalization",
    "Flatten",
    "Gather",
    "GatherElements",
    "Gemm",
    "GlobalAveragePool",
    "InstanceNormalization",
    "LayerNormalization",
    "LeakyRelu",
    "MatMul",
    "MaxPool",
    "Mul",
    "Pad",
    "Relu",
    "Reshape",
    "Resize",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Split",
    "Squeeze",
    "TopK",
    "Transpose",
    "Unsqueeze",
    "Where",
];

/// Operators that carry a scale along, besides those.
const CARRYING: &[&str] = &[
    "DepthToSpace",
    "Dropout",
    "Expand",
    "GatherND",
    "GlobalMaxPool",
    "Identity",
    "ReduceMax",
    "ReduceMin",
    "ReverseSequence",
    "SpaceToDepth",
    "Tile",
];

/// Operators that take part where what comes in is quantized already.
const BETWEEN: &[&str] = &[
    "Div",
    "Elu",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "PRelu",
    "ReduceMean",
    "Sub",
    "Tanh",
];

/// Whether the operator is quantized unless `op-types` says otherwise.
pub(in crate::quantize) fn is_default(op: &Op, compat: bool) -> bool {
    let name = &&*op.op_type;
    REFERENCE.contains(name)
        || !compat && op.domain.is_empty() && (CARRYING.contains(name) || BETWEEN.contains(name))
}

/// Operators that exist to quantize.
pub(in crate::quantize) fn quantizes(op: &Op) -> bool {
    let standard = op.domain.is_empty() || op.domain == "com.microsoft";
    standard && matches!(&*op.op_type, "QuantizeLinear" | "DequantizeLinear")
}

/// What is done with a node of this operator; `listed` where `op-types` names it.
pub(in crate::quantize) fn rule(op: &Op, listed: bool, compat: bool) -> Rule {
    let name = &*op.op_type;
    match name {
        "MatMul" => return Rule::MatMul,
        "Relu" | "Clip" => return Rule::Clamp,
        "Split" => return Rule::Split,
        "Pad" => return Rule::Pad,
        "Where" => return Rule::Where,
        "Gather" | "GatherElements" => return Rule::Lookup,
        "BatchNormalization" | "InstanceNormalization" | "LayerNormalization" => {
            return Rule::Normalization;
        }
        // It averages, and so stays in range.
        "AveragePool" => return Rule::Follow,
        // Values, and indices that are no floats.
        "TopK" => return Rule::Follow,
        "Concat" | "GlobalAveragePool" | "CumSum" => return Rule::Each,
        _ if compat && !REFERENCE.contains(&name) => return Rule::Each,
        _ if !listed && BETWEEN.contains(&name) => return Rule::Between,
        _ => {}
    }
    let role = lookup(&op.domain, name).map(|operator| operator.quant(op));
    match role {
        Some(QuantRole::Affine {
            activation,
            weight,
            bias,
            channel_axis,
        }) if op.domain.is_empty() => Rule::Product {
            activation,
            weight,
            bias,
            channels: channel_axis,
        },
        Some(QuantRole::SameScale) => Rule::Follow,
        Some(QuantRole::Recurrent) => Rule::Recurrent,
        _ => Rule::Each,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_become_rules() {
        let rule = |name: &str| super::rule(&Op::new(name), false, false);
        assert!(matches!(
            rule("Conv"),
            Rule::Product {
                bias: Some(2),
                channels: 0,
                ..
            }
        ));
        assert_eq!(rule("MaxPool"), Rule::Follow);
        assert_eq!(rule("Tile"), Rule::Follow);
        assert_eq!(rule("Add"), Rule::Each);
        assert_eq!(rule("Sub"), Rule::Between);
        assert_eq!(super::rule(&Op::new("Sub"), true, false), Rule::Each);
        assert_eq!(rule("NoSuchOperator"), Rule::Each);
    }

    #[test]
    fn what_is_quantized_by_default() {
        let default = |name: &str, compat| is_default(&Op::new(name), compat);
        assert!(default("Conv", true) && default("Conv", false));
        assert!(!default("Sub", true) && default("Sub", false));
        assert!(!default("Pow", false) && !default("LSTM", false));
        assert!(quantizes(&Op::new("QuantizeLinear")));
    }
}
