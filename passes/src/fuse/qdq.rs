//! What the static lowerings look for: QuantizeLinear and DequantizeLinear whose parameters are
//! constants.

use onnxq_ir::{NodeId, Op, Value, ValueId};
use onnxq_pass::Rewriter;
use onnxq_tensor::{DType, Dims, Tensor};

use super::pattern::MICROSOFT;

/// A constant scale and zero point, of one node or another.
#[derive(Clone, Debug)]
pub(super) struct Params {
    pub(super) scale: ValueId,
    /// Left out where the node leaves it out: 0.
    pub(super) zero_point: Option<ValueId>,
    pub(super) scales: Tensor,
    pub(super) zero_points: Option<Tensor>,
    /// The type of the codes.
    pub(super) qtype: DType,
    /// The axis that scales differ along, as written; `None` where there is one for all.
    pub(super) axis: Option<i64>,
}

/// `DequantizeLinear(codes, ...)`.
#[derive(Clone, Debug)]
pub(super) struct Dequantized {
    pub(super) codes: ValueId,
    pub(super) params: Params,
}

/// `QuantizeLinear(v, ...)`.
#[derive(Clone, Debug)]
pub(super) struct Quantized {
    pub(super) node: NodeId,
    pub(super) params: Params,
}

/// Whether `n` is `op_type` of the standard domain or, as where a model has types that old operator
/// sets do not, of ONNX Runtime's.
pub(super) fn is_linear(rw: &Rewriter<'_>, n: NodeId, op_type: &str) -> Option<()> {
    rw.is(n, op_type)
        .or_else(|| rw.is_in(n, MICROSOFT, op_type))
}

/// What `v` is dequantized from, with constant parameters.
pub(super) fn dequantized(rw: &Rewriter<'_>, v: ValueId) -> Option<Dequantized> {
    is_linear(rw, v.node, "DequantizeLinear")?;
    let codes = rw.operand(v.node, 0)?;
    // Types may not be inferred, and the zero point that says them left out on both sides.
    let quantized = || quantize(rw, codes.node).map(|q| q.params.qtype);
    let params = params(rw, v.node, || rw.dtype(codes).or_else(quantized))?;
    Some(Dequantized { codes, params })
}

/// The QuantizeLinear `n`, with constant parameters.
pub(super) fn quantize(rw: &Rewriter<'_>, n: NodeId) -> Option<Quantized> {
    is_linear(rw, n, "QuantizeLinear")?;
    let stated = || match rw.attr_int(n, "output_dtype", 0) {
        0 => Some(DType::U8),
        dtype => DType::from_onnx(i32::try_from(dtype).ok()?),
    };
    let params = params(rw, n, stated)?;
    Some(Quantized { node: n, params })
}

/// The QuantizeLinear that is the only use of `v`.
pub(super) fn quantized(rw: &Rewriter<'_>, v: ValueId) -> Option<Quantized> {
    let only = rw.sole_use(v).filter(|u| u.operand == 0)?;
    quantize(rw, only.node)
}

fn params(rw: &Rewriter<'_>, n: NodeId, qtype: impl FnOnce() -> Option<DType>) -> Option<Params> {
    let (scale, zero_point) = (rw.operand(n, 1)?, rw.operand(n, 2));
    let scales = rw.constant(scale)?;
    let zero_points = match zero_point {
        Some(v) => Some(rw.constant(v)?),
        None => None,
    };
    let fits = zero_points.as_ref().is_none_or(|z| z.len() == scales.len());
    if !fits || scales.rank() > 1 || scales.is_empty() || rw.attr_int(n, "block_size", 0) != 0 {
        return None;
    }
    let qtype = match &zero_points {
        Some(tensor) => tensor.dtype(),
        None => qtype()?,
    };
    let axis = (scales.len() > 1).then(|| rw.attr_int(n, "axis", 1));
    Some(Params {
        scale,
        zero_point,
        scales,
        zero_points,
        qtype,
        axis,
    })
}

impl Params {
    /// Whether both turn every code into the same number.
    pub(super) fn same(&self, other: &Params) -> bool {
        let zero = |p: &Params| {
            let zeros = |t: &Tensor| t.bytes().iter().all(|&byte| byte == 0);
            p.zero_points.clone().filter(|t| !zeros(t))
        };
        let bytes = |t: &Option<Tensor>| t.as_ref().map(|t| t.bytes().to_vec());
        self.qtype == other.qtype
            && self.axis == other.axis
            && self.scales.dtype() == other.scales.dtype()
            && self.scales.bytes() == other.scales.bytes()
            && bytes(&zero(self)) == bytes(&zero(other))
    }

    /// Whether they are what operators on codes take: 8 bits, scales of `float`.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.qtype, DType::I8 | DType::U8) && self.scales.dtype() == DType::F32
    }

    /// The same, and there is one scale.
    pub(super) fn is_plain_scalar(&self) -> bool {
        self.is_plain() && self.axis.is_none()
    }

    /// The scales as floats.
    pub(super) fn scales(&self) -> Option<Vec<f32>> {
        Some(self.scales.to_f32s().ok()?.into_owned())
    }

    /// The zero points, of 8 bits.
    pub(super) fn zeros(&self) -> Option<Vec<i64>> {
        match &self.zero_points {
            Some(tensor) => tensor.to_i64s().ok(),
            None => Some(vec![0; self.scales.len()]),
        }
    }

    /// The least and greatest code of 8 bits.
    pub(super) fn range(&self) -> Option<(i64, i64)> {
        match self.qtype {
            DType::I8 => Some((-128, 127)),
            DType::U8 => Some((0, 255)),
            _ => None,
        }
    }

    /// The code of `x`, as QuantizeLinear computes it with one scale.
    pub(super) fn quantize(&self, x: f32) -> Option<i64> {
        let (lo, hi) = self.range()?;
        let &[scale] = self.scales()?.as_slice() else {
            return None;
        };
        let zero = *self.zeros()?.first()?;
        if x.is_nan() || !(scale > 0.0 && scale.is_finite()) {
            return None;
        }
        // The conversion saturates, the sum of an `i64` of that size does not.
        let steps = (x / scale).round_ties_even().clamp(-1e9, 1e9) as i64;
        Some((steps + zero).clamp(lo, hi))
    }

    /// Whether every code that is dequantized with these is quantized to itself.
    pub(super) fn comes_back(&self) -> bool {
        let few_bits = match self.qtype {
            DType::I8 | DType::U8 | DType::I4 | DType::U4 => true,
            DType::I16 | DType::U16 => self.scales.dtype() == DType::F32,
            _ => false,
        };
        // The largest number is finite, and a step no subnormal.
        let ends = match self.scales.dtype() {
            DType::F32 => (f32::MIN_POSITIVE, f32::MAX / 65536.0),
            DType::F16 => (6.2e-5, 200.0),
            _ => return false,
        };
        let fits = |s: &f32| (ends.0..=ends.1).contains(s);
        few_bits && self.scales().is_some_and(|scales| scales.iter().all(fits))
    }

    /// Scale and zero point as operands, the zero point spelled out.
    pub(super) fn operands(&self, rw: &mut Rewriter<'_>) -> [Option<ValueId>; 2] {
        let zero_point = self.zero_point.or_else(|| {
            let zeros = Tensor::zeros(self.qtype, Dims::from_slice(self.scales.dims())).ok()?;
            let name = rw.derive(self.scale, "zero_point");
            Some(rw.insert_constant(name, zeros))
        });
        [Some(self.scale), zero_point]
    }
}

/// A constant code.
pub(super) fn code(params: &Params, value: i64) -> Option<Tensor> {
    match params.qtype {
        DType::I8 => Some(Tensor::scalar(i8::try_from(value).ok()?)),
        DType::U8 => Some(Tensor::scalar(u8::try_from(value).ok()?)),
        _ => None,
    }
}

/// The name that the quantization tool of ONNX Runtime gives the codes of `v`. Where its result is one
/// of the graph, it has put a suffix behind what is quantized.
pub(super) fn codes_name(rw: &Rewriter<'_>, v: ValueId) -> String {
    let name = rw.name(v);
    let tensor = name.strip_suffix("_QuantizeLinear_Input").unwrap_or(name);
    format!("{tensor}_quantized")
}

/// Puts an operator on codes in the place of the float operator `n` and the QuantizeLinear `q` of
/// its result: named like the first, with the result of the second.
pub(super) fn replace(
    rw: &mut Rewriter<'_>,
    (n, q): (NodeId, NodeId),
    op: Op,
    operands: &[Option<ValueId>],
    compat: bool,
) -> Option<()> {
    let old = rw.result(q, 0);
    let mut result: Value = rw.graph().value(old).clone();
    let mut name = rw.graph().node(n).name.clone();
    if compat {
        if !name.is_empty() {
            name.push_str("_quant");
        }
        if !rw.graph().is_output(old) {
            result.name = codes_name(rw, rw.result(n, 0));
        }
    }
    let new = rw.insert_node(name, op, operands, [result]);
    rw.replace(old, rw.result(new, 0))
}
