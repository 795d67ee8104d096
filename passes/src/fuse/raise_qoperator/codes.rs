//! Codes with their parameters, and the nodes that dequantize them.
//!
//! Names follow those of the quantization tool of ONNX Runtime: codes `T_quantized` of a tensor `T`
//! are dequantized by `T_DequantizeLinear`, whose result is `T_DequantizeLinear_Output`.

use onnxq_ir::{NodeId, Op, Type, Value, ValueId};
use onnxq_pass::Rewriter;
use onnxq_tensor::{DType, Dims, Shape, Tensor};

use super::{
    parameters::{Count, Parameters},
    shared::{Key, Shared},
};

/// Codes, and what they stand for.
pub(super) struct Codes {
    pub(super) codes: ValueId,
    pub(super) parameters: Parameters,
}

impl Codes {
    /// Those whose codes, scale and zero point are the operands of `n` at these places.
    pub(super) fn of(
        rw: &mut Rewriter<'_>,
        n: NodeId,
        [codes, scale, zero]: [usize; 3],
        axis: Option<i64>,
    ) -> Option<Codes> {
        let (codes, scale) = (rw.operand(n, codes)?, rw.operand(n, scale)?);
        let zero = rw.operand(n, zero);
        // A vector has neither rows nor columns.
        let axis = axis.and_then(|axis| index(axis, rw.shape(codes)?.len()));
        let parameters = Parameters::of(rw, n, scale, zero, axis)?;
        Some(Codes { codes, parameters })
    }

    /// The floats.
    pub(super) fn dequantize(self, rw: &mut Rewriter<'_>, shared: &Shared) -> ValueId {
        let (scale, zero) = (&self.parameters.scale, &self.parameters.zero);
        let key = Key {
            codes: self.codes,
            scale: scale.source(),
            zero: zero.as_ref().map(|zero| zero.source()),
            axis: self.parameters.axis,
        };
        if let Some(floats) = shared.get(rw.graph(), key) {
            return floats;
        }
        let stem = stem(rw.name(self.codes), "_quantized").to_owned();
        let ty = real_type(rw, scale.source(), rw.shape(self.codes));
        let operands = self.parameters.operands(rw, self.codes);
        let op = self.parameters.operation("DequantizeLinear");
        let value = Value::new(format!("{stem}_DequantizeLinear_Output"), ty);
        let name = shared.name(rw.graph(), format!("{stem}_DequantizeLinear"));
        let n = rw.insert_node(name, op, &operands, [value]);
        let floats = rw.result(n, 0);
        shared.insert(key, floats);
        floats
    }
}

/// The index of an axis of a matrix or a tensor of higher rank.
pub(super) fn index(axis: i64, rank: usize) -> Option<i64> {
    let rank = i64::try_from(rank).ok().filter(|&rank| rank >= 2)?;
    Some(if axis < 0 { axis + rank } else { axis })
}

/// A bias in `int32`, in units of the product of two scales.
pub(super) struct Bias {
    codes: ValueId,
    scales: [ValueId; 2],
    /// Their product, where they are constant.
    product: Option<Tensor>,
    /// What else they are multiplied with.
    factor: f32,
    axis: Option<i64>,
}

impl Bias {
    /// `codes`, an operand of `n`, in units of the product of the scales of these factors.
    pub(super) fn of(
        rw: &mut Rewriter<'_>,
        n: NodeId,
        codes: ValueId,
        [x, w]: [&Codes; 2],
    ) -> Option<Bias> {
        let scales = [x, w].map(|factor| factor.parameters.scale.source());
        let factor = rw.attr_float(n, "alpha", 1.0);
        let axis = match w.parameters.scale.count {
            Count::One => None,
            Count::Axis(len) => {
                let shape = rw.shape(codes)?.clone();
                if shape.last()?.as_const()? != i64::try_from(len?).ok()? {
                    rw.miss(
                        n,
                        "the bias has not an element for each scale of the weight",
                    )?;
                }
                Some(if shape.len() == 1 { 0 } else { -1 })
            }
        };
        let constant = |codes: &Codes| {
            let scale = codes.parameters.scale.constant(rw)?;
            scale.to_f32s().ok().map(|s| s.into_owned())
        };
        let product = match [x, w].map(constant) {
            [Some(x), Some(w)] => {
                let dims = match axis {
                    None => Dims::new(),
                    Some(_) => Dims::from_elem(w.len(), 1),
                };
                let products = w.iter().map(|w| factor * x[0] * w).collect();
                let products = Tensor::from_vec::<f32>(dims, products).ok()?;
                Some(products.cast(rw.dtype(scales[1])?, true).ok()?)
            }
            _ => None,
        };
        Some(Bias {
            codes,
            scales,
            product,
            factor,
            axis,
        })
    }

    pub(super) fn least(&self) -> i64 {
        self.axis.map_or(10, |_| 13)
    }

    /// The floats.
    pub(super) fn dequantize(self, rw: &mut Rewriter<'_>, shared: &Shared) -> ValueId {
        let stem = stem(rw.name(self.codes), "_quantized").to_owned();
        let scale_name = rw.derive(self.codes, "scale");
        let scale = match self.product {
            Some(product) => rw.insert_constant(scale_name, product),
            None => {
                let scale = rw.insert(Op::new("Mul"), &self.scales, scale_name.as_str());
                match self.factor {
                    1.0 => scale,
                    factor => {
                        let name = format!("{scale_name}_factor");
                        let factor = rw.insert_constant(name, Tensor::scalar(factor));
                        rw.insert(Op::new("Mul"), &[scale, factor], format!("{scale_name}d"))
                    }
                }
            }
        };
        let op = Op::new("DequantizeLinear");
        let op = match self.axis {
            Some(axis) => op.with("axis", axis),
            None => op,
        };
        let ty = real_type(rw, self.scales[1], rw.shape(self.codes));
        let name = format!("{stem}_DequantizeLinear");
        // The float bias had the name of its codes without the suffix.
        let value = match stem == rw.name(self.codes) {
            false => Value::new(stem, ty),
            true => Value::new(format!("{name}_Output"), ty),
        };
        let name = shared.name(rw.graph(), name);
        let n = rw.insert_node(name, op, &[Some(self.codes), Some(scale)], [value]);
        rw.result(n, 0)
    }
}

/// The type of floats of this shape that `scale` gives.
pub(super) fn real_type(rw: &Rewriter<'_>, scale: ValueId, shape: Option<&Shape>) -> Option<Type> {
    Some(Type::tensor(rw.dtype(scale)?, Some(shape?.clone())))
}

/// `x`, quantized while the model runs and dequantized again.
pub(super) fn dynamic(rw: &mut Rewriter<'_>, x: ValueId, shared: &Shared) -> ValueId {
    // What is computed from `x` alone has no other parameters.
    let key = Key {
        codes: x,
        scale: x,
        zero: None,
        axis: None,
    };
    if let Some(floats) = shared.get(rw.graph(), key) {
        return floats;
    }
    let shape = rw.shape(x).cloned();
    let typed = |dtype| Some(Type::tensor(dtype, Some(shape.clone()?)));
    let name = rw.name(x).to_owned();
    let scalar = |dtype| Some(Type::dense(dtype, &[]));
    let results = [
        Value::new(format!("{name}_quantized"), typed(DType::U8)),
        Value::new(format!("{name}_scale"), scalar(DType::F32)),
        Value::new(format!("{name}_zero_point"), scalar(DType::U8)),
    ];
    let op = Op::new("DynamicQuantizeLinear");
    let node = shared.name(rw.graph(), format!("{name}_QuantizeLinear"));
    let n = rw.insert_node(node, op, &[Some(x)], results);
    let operands = [0, 1, 2].map(|i| Some(rw.result(n, i)));
    let floats = Value::new(format!("{name}_DequantizeLinear_Output"), typed(DType::F32));
    let op = Op::new("DequantizeLinear");
    let node = shared.name(rw.graph(), format!("{name}_DequantizeLinear"));
    let n = rw.insert_node(node, op, &operands, [floats]);
    let floats = rw.result(n, 0);
    shared.insert(key, floats);
    floats
}

/// `name` without `suffix`, which whoever quantized the model has added.
pub(super) fn stem<'a>(name: &'a str, suffix: &str) -> &'a str {
    match name.strip_suffix(suffix) {
        None | Some("") => name,
        Some(stem) => stem,
    }
}

/// The name of the float operation that takes the place of `n`.
pub(super) fn node_name(rw: &Rewriter<'_>, n: NodeId, shared: &Shared) -> String {
    let name = rw.graph().node(n).name.as_str();
    match stem(name, "_quant") {
        stem if stem == name => name.to_owned(),
        stem => shared.name(rw.graph(), stem.to_owned()),
    }
}

/// The name of the floats that become the codes `codes`: that of the tensor, unless it is that of
/// the floats they are dequantized to.
pub(super) fn real_name(rw: &Rewriter<'_>, codes: ValueId) -> String {
    let graph = rw.graph();
    let stem = stem(rw.name(codes), "_quantized");
    let is_taken = stem == rw.name(codes)
        || graph.uses(codes).iter().any(|u| {
            let results = &graph.node(u.node).results;
            results.iter().any(|v| v.name == stem)
        });
    match is_taken {
        true => format!("{stem}_QuantizeLinear_Input"),
        false => stem.to_owned(),
    }
}
