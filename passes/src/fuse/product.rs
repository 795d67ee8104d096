//! What the lowerings of products have in common: the product of codes, in `int32`, and the way
//! back to floats.
//!
//! ```text
//! y = DequantizeLinear(sums, x_scale * W_scale)
//! y = Cast(sums) * (x_scale * W_scale)              with `compat`
//! ```
//!
//! The second form, its nodes and their names are those of the quantization tool of ONNX Runtime.

use onnxq_ir::{NodeId, Op, Type, Value, ValueId};
use onnxq_pass::{OptionInfo, OptionKind, Rewriter};
use onnxq_tensor::{DType, Dims, Tensor};

use super::pattern::{Activation, Weight};

pub(super) const COMPAT: OptionInfo = OptionInfo {
    name: "compat",
    kind: OptionKind::Bool,
    default: "false",
    help: "the nodes and names that the quantization tool of ONNX Runtime writes",
};

/// A product of codes that takes the place of one of floats.
pub(super) struct Product {
    /// MatMulInteger or ConvInteger.
    pub(super) op: Op,
    /// The codes of the activation, in the form that the operator takes.
    pub(super) codes: ValueId,
    /// The zero point of the weight, in the form that the operator takes.
    pub(super) zero_point: Option<ValueId>,
    /// What else the sums are multiplied with.
    pub(super) factor: f32,
    /// The axis of the result that scales of channels are for.
    pub(super) axis: i64,
    /// The name of the node of floats.
    pub(super) node: String,
    /// The name of its result.
    pub(super) result: String,
    pub(super) compat: bool,
}

/// The node that gives floats, not inserted yet.
pub(super) struct Last {
    op: Op,
    operands: [ValueId; 2],
    name: String,
    /// The float type that is wanted.
    dtype: DType,
}

/// A name for what is new at `n`: that of its result, and `suffix`.
pub(super) fn name(rw: &Rewriter<'_>, n: NodeId, suffix: &str) -> String {
    rw.derive(rw.result(n, 0), suffix)
}

/// What codes of an activation are multiplied with.
#[derive(Clone, Copy)]
pub(super) struct Factor {
    pub(super) codes: ValueId,
    pub(super) scale: ValueId,
    pub(super) zero_point: Option<ValueId>,
    /// Whether there is a scale for each channel.
    pub(super) per_channel: bool,
}

impl Product {
    /// Adds the sums at `n` of what is multiplied with a weight, and the scale of them.
    pub(super) fn insert(
        mut self,
        rw: &mut Rewriter<'_>,
        n: NodeId,
        x: &Activation,
        w: &Weight,
    ) -> Option<Last> {
        if self.compat {
            self.zero_point = self.zero_point.or(w.zero_operand);
        }
        let factor = Factor {
            codes: w.codes,
            scale: weight_scale(rw, n, w, self.factor)?,
            zero_point: self.zero_point,
            per_channel: w.axis.is_some(),
        };
        Some(self.insert_of(rw, n, x, factor))
    }

    /// Adds the sums at `n`, and the scale of them.
    pub(super) fn insert_of(
        self,
        rw: &mut Rewriter<'_>,
        n: NodeId,
        x: &Activation,
        w: Factor,
    ) -> Last {
        let with = |name: &str, suffix: &str| match name {
            "" => String::new(),
            name => format!("{name}_{suffix}"),
        };
        let shape = rw.ty(rw.result(n, 0)).and_then(Type::shape).cloned();
        let typed = |dtype| Some(Type::tensor(dtype, Some(shape.clone()?)));
        let operands = [self.codes, w.codes, x.zero_point].map(Some);
        let operands: Vec<_> = operands.into_iter().chain(w.zero_point.map(Some)).collect();
        let sums_name = format!("{}_output_quantized", self.result);
        let sums = Value::new(&sums_name, typed(DType::I32));
        let sums = rw.insert_node(with(&self.node, "quant"), self.op, &operands, [sums]);
        let sums = rw.result(sums, 0);
        let scales = [x.scale, w.scale];
        if !self.compat {
            let name = format!("{}_scale", self.result);
            let scale = rw.insert(Op::new("Mul"), &scales, name);
            let op = Op::new("DequantizeLinear");
            return Last {
                op: match w.per_channel {
                    false => op,
                    true => op.with("axis", self.axis),
                },
                operands: [sums, scale],
                name: self.node,
                dtype: x.dtype,
            };
        }
        let cast = Op::new("Cast").with("to", i64::from(DType::F32.onnx()));
        let float = Value::new(format!("{sums_name}_cast_output"), typed(DType::F32));
        let float = rw.insert_node(format!("{sums_name}_cast"), cast, &[Some(sums)], [float]);
        let float = rw.result(float, 0);
        let mul = match self.node.as_str() {
            "" => format!("{}_{}_mul", rw.name(scales[0]), rw.name(scales[1])),
            node => format!("{node}_quant_scales_mul"),
        };
        let scale = Value::new(format!("{mul}:0"), None);
        let scale = rw.insert_node(mul, Op::new("Mul"), &scales.map(Some), [scale]);
        Last {
            op: Op::new("Mul"),
            operands: [float, rw.result(scale, 0)],
            name: with(&self.node, "quant_output_scale_mul"),
            dtype: x.dtype,
        }
    }
}

/// The scale of the weight in `float`, times `factor`.
fn weight_scale(rw: &mut Rewriter<'_>, n: NodeId, w: &Weight, factor: f32) -> Option<ValueId> {
    if factor == 1.0 && w.scales.dtype() == DType::F32 {
        return Some(w.scale);
    }
    let scales = w.scales.to_f32s().ok()?;
    let scales: Vec<f32> = scales.iter().map(|s| s * factor).collect();
    let scales = Tensor::from_vec(Dims::from_slice(w.scales.dims()), scales).ok()?;
    Some(rw.insert_constant(name(rw, n, "weight_scale"), scales))
}

impl Last {
    /// Puts the node in the place of `n`.
    pub(super) fn replace(self, rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
        let old = rw.result(n, 0);
        let result = rw.graph().value(old).clone();
        let new = self.insert(rw, result);
        rw.replace(old, new)
    }

    /// Adds the node, with another name for its result.
    pub(super) fn insert(self, rw: &mut Rewriter<'_>, result: Value) -> ValueId {
        let operands = self.operands.map(Some);
        if self.dtype == DType::F32 {
            let n = rw.insert_node(self.name, self.op, &operands, [result]);
            return rw.result(n, 0);
        }
        let float = format!("{}_float", result.name);
        let float = rw.insert_node(self.name, self.op, &operands, [Value::new(float, None)]);
        let cast = Op::new("Cast").with("to", i64::from(self.dtype.onnx()));
        let cast = rw.insert_node("", cast, &[Some(rw.result(float, 0))], [result]);
        rw.result(cast, 0)
    }
}
