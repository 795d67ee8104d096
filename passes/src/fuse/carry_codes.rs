//! Moves and selects codes instead of the numbers that they stand for.
//!
//! ```text
//! QuantizeLinear(Reshape(DequantizeLinear(c, s, z), shape), s, z)   =>   Reshape(c, shape)
//! ```
//!
//! and so for every operator of [`CARRIED`], which computes no new numbers: its data have the
//! parameters of its results. What else it takes as data, and is constant, is quantized at once: the
//! value of a Pad, say, which otherwise is the zero point.
//!
//! Does not fire where parameters differ, a result has another use than one QuantizeLinear, for
//! codes of other than 8 bits, for more than one scale, and before the operator set, or in the
//! cases, in which operator or ONNX Runtime's kernel take codes.

use onnxq_ir::{Model, NodeId, Op, Value, ValueId};
use onnxq_pass::{Pass, PassContext, PassError, PassInfo, Rewriter, Rule, apply_rewrites};
use onnxq_tensor::{Dims, Tensor};

use super::{
    product,
    qdq::{self, Params},
};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "carry-codes",
    summary: "move and select codes instead of floats",
    options: &[product::COMPAT],
    build: |opts| {
        let compat = opts.take("compat", false)?;
        Ok(Box::new(CarryCodes { compat }))
    },
};

struct CarryCodes {
    compat: bool,
}

impl Pass for CarryCodes {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        let carry = |rw: &mut Rewriter<'_>, n| carry(rw, n, self.compat);
        let name = |rw: &mut Rewriter<'_>, n| self.compat.then(|| name_codes(rw, n))?;
        let rules = [
            Rule {
                name: INFO.name,
                apply: &carry,
            },
            Rule {
                name: "name-codes",
                apply: &name,
            },
        ];
        apply_rewrites(model, cx, &rules)
    }
}

/// Gives the codes of `n` the name that they have beside operators on codes.
fn name_codes(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    qdq::is_linear(rw, n, "QuantizeLinear")?;
    let codes = rw.result(n, 0);
    let name = qdq::codes_name(rw, rw.operand(n, 0)?);
    if rw.graph().is_output(codes) || rw.name(codes) == name {
        return None;
    }
    rw.rename(codes, name);
    Some(())
}

/// An operator that works on codes as on the numbers.
struct Carried {
    op: &'static str,
    /// The operator set from which it takes codes of 8 bits, and ONNX Runtime has kernels for it.
    since: i64,
    /// The operands that are data.
    data: Data,
    /// Where it does.
    when: fn(&Op) -> bool,
}

/// Which operands are data.
#[derive(Clone, Copy, PartialEq)]
enum Data {
    First,
    All,
    /// These.
    At(&'static [usize]),
    /// The first; the value of padding is the third, and 0 where it is left out.
    Padded,
}

const ALWAYS: fn(&Op) -> bool = |_| true;

/// Interpolation gives new numbers, of which the kernels for codes cut off the fraction.
const NEAREST: fn(&Op) -> bool = |op| {
    let mode = op.str("mode").unwrap_or("nearest");
    let crops = op.str("coordinate_transformation_mode") == Some("tf_crop_and_resize");
    mode == "nearest" && !crops
};

const REPLACES: fn(&Op) -> bool = |op| op.str("reduction").is_none_or(|r| r == "none");

const fn carried(op: &'static str, since: i64, data: Data, when: fn(&Op) -> bool) -> Carried {
    Carried {
        op,
        since,
        data,
        when,
    }
}

const CARRIED: &[Carried] = &[
    carried("Compress", 10, Data::First, ALWAYS),
    carried("Concat", 10, Data::All, ALWAYS),
    carried("DepthToSpace", 11, Data::First, ALWAYS),
    carried("Expand", 10, Data::First, ALWAYS),
    carried("Flatten", 10, Data::First, ALWAYS),
    carried("Gather", 10, Data::First, ALWAYS),
    carried("GatherElements", 11, Data::First, ALWAYS),
    carried("GatherND", 11, Data::First, ALWAYS),
    carried("Identity", 10, Data::First, ALWAYS),
    carried("Max", 12, Data::All, ALWAYS),
    carried("MaxPool", 12, Data::First, ALWAYS),
    carried("Min", 12, Data::All, ALWAYS),
    carried("Pad", 11, Data::Padded, ALWAYS),
    carried("ReduceMax", 12, Data::First, ALWAYS),
    carried("ReduceMin", 12, Data::First, ALWAYS),
    carried("Reshape", 10, Data::First, ALWAYS),
    carried("Resize", 10, Data::First, NEAREST),
    carried("ReverseSequence", 10, Data::First, ALWAYS),
    carried("ScatterElements", 11, Data::At(&[0, 2]), REPLACES),
    carried("ScatterND", 11, Data::At(&[0, 2]), REPLACES),
    carried("Slice", 10, Data::First, ALWAYS),
    carried("SpaceToDepth", 10, Data::First, ALWAYS),
    carried("Split", 10, Data::First, ALWAYS),
    carried("Squeeze", 10, Data::First, ALWAYS),
    carried("Tile", 10, Data::First, ALWAYS),
    carried("TopK", 11, Data::First, ALWAYS),
    carried("Transpose", 10, Data::First, ALWAYS),
    carried("Unsqueeze", 10, Data::First, ALWAYS),
    carried("Where", 10, Data::At(&[1, 2]), ALWAYS),
];

/// An operand in codes.
enum Codes {
    Is(ValueId),
    New(String, Tensor),
}

fn carry(rw: &mut Rewriter<'_>, n: NodeId, compat: bool) -> Option<()> {
    let op = rw.op(n).filter(|op| op.domain.is_empty())?;
    let record = CARRIED.iter().find(|c| c.op == op.op_type)?;
    let (params, quantizes) = results(rw, n, record)?;
    let op = rw.op(n)?.clone();
    if rw.opset() < record.since || !(record.when)(&op) {
        return rw.miss(n, "it does not take codes");
    }
    let mut operands = rw.graph().operands(n);
    let mut codes = Vec::new();
    for i in places(record.data, operands.len()) {
        let Some(v) = operands[i] else { continue };
        let Some(of) = codes_of(rw, v, &params) else {
            return rw.miss(
                n,
                format!("operand {i} has no codes with the parameters of the result"),
            );
        };
        codes.push((i, of));
    }
    // What is constant altogether is not computed while the model runs.
    if !codes.iter().any(|(_, of)| matches!(of, Codes::Is(_))) {
        return None;
    }
    for (i, of) in codes {
        operands[i] = Some(match of {
            Codes::Is(v) => v,
            Codes::New(name, tensor) => rw.insert_constant(name, tensor),
        });
    }
    if record.data == Data::Padded {
        let constant = op.str("mode").is_none_or(|mode| mode == "constant");
        let zero = params.quantize(0.0)?;
        if constant && zero != 0 && operands.get(2).copied().flatten().is_none() {
            let name = rw.derive(rw.result(n, 0), "pad_value");
            let zero = rw.insert_constant(name, qdq::code(&params, zero)?);
            operands.resize(operands.len().max(3), None);
            operands[2] = Some(zero);
        }
    }
    let name = rw.graph().node(n).name.clone();
    let value = |&(old, new): &(ValueId, Option<ValueId>)| {
        let mut value = rw.graph().value(new.unwrap_or(old)).clone();
        if compat && new.is_some_and(|v| !rw.graph().is_output(v)) {
            value.name = qdq::codes_name(rw, old);
        }
        value
    };
    let values: Vec<Value> = quantizes.iter().map(value).collect();
    let carried = rw.insert_node(name, op, &operands, values);
    for (i, (old, new)) in quantizes.into_iter().enumerate() {
        // A result without uses has nothing to move.
        let _ = rw.replace(new.unwrap_or(old), rw.result(carried, i));
    }
    Some(())
}

/// The parameters of the results that are data, and for each result the codes that are made of it.
#[expect(clippy::type_complexity, reason = "read in one place")]
fn results(
    rw: &Rewriter<'_>,
    n: NodeId,
    record: &Carried,
) -> Option<(Params, Vec<(ValueId, Option<ValueId>)>)> {
    let count = rw.graph().node(n).results.len();
    let mut params: Option<Params> = None;
    let mut made = Vec::with_capacity(count);
    for i in 0..count {
        let v = rw.result(n, i);
        let is_data = i == 0 || record.op == "Split";
        if !is_data || !rw.graph().is_used(v) {
            made.push((v, None));
            continue;
        }
        let q = qdq::quantized(rw, v)?;
        if params.as_ref().is_some_and(|p| !p.same(&q.params)) {
            return None;
        }
        made.push((v, Some(rw.result(q.node, 0))));
        params = Some(q.params);
    }
    let params = params.filter(|p| p.axis.is_none() && p.range().is_some() && p.comes_back())?;
    Some((params, made))
}

fn places(data: Data, count: usize) -> Vec<usize> {
    match data {
        Data::First => vec![0],
        Data::All => (0..count).collect(),
        Data::At(at) => at.iter().copied().filter(|&i| i < count).collect(),
        Data::Padded => [0, 2].into_iter().filter(|&i| i < count).collect(),
    }
}

/// The codes with these parameters that stand for `v`.
fn codes_of(rw: &Rewriter<'_>, v: ValueId, params: &Params) -> Option<Codes> {
    let (values, dims) = match qdq::dequantized(rw, v) {
        Some(d) if d.params.same(params) => return Some(Codes::Is(d.codes)),
        Some(d) => {
            let tensor = rw
                .constant(d.codes)
                .filter(|_| d.params.is_plain_scalar())?;
            let (scale, zero) = (*d.params.scales()?.first()?, *d.params.zeros()?.first()?);
            let real = |code: i64| (code - zero) as f32 * scale;
            let values: Vec<f32> = tensor.to_i64s().ok()?.into_iter().map(real).collect();
            (values, Dims::from_slice(tensor.dims()))
        }
        None => {
            let tensor = rw.constant(v).filter(|t| t.dtype().is_float())?;
            let values = tensor.to_f32s().ok()?.into_owned();
            (values, Dims::from_slice(tensor.dims()))
        }
    };
    let codes = values.into_iter().map(|x| params.quantize(x));
    let codes = codes.collect::<Option<Vec<i64>>>()?;
    let bytes: Vec<u8> = codes.into_iter().map(|code| code as u8).collect();
    let tensor = Tensor::new(params.qtype, dims, bytes).ok()?;
    Some(Codes::New(rw.derive(v, "quantized"), tensor))
}

#[cfg(test)]
mod tests {
    use onnxq_ops::{QuantRole, all, lookup};

    use super::*;

    /// Operators whose result has the scale of operand 0 but that do not work on codes, and why.
    const NOT_CARRIED: &[(&str, &str)] = &[
        ("AveragePool", "a mean is a new number"),
        ("Dropout", "it is gone before"),
        ("GlobalMaxPool", "ONNX Runtime has a kernel for floats only"),
        ("Trilu", "it writes 0, which is the code of another number"),
        ("Upsample", "it is Resize before"),
    ];

    #[test]
    fn what_keeps_the_scale_is_carried_or_there_is_a_reason() {
        for op in all().filter(|op| op.domain().is_empty()) {
            let keeps_scale = op.quant(&Op::new(op.name())) == QuantRole::SameScale;
            let carried = CARRIED.iter().any(|c| c.op == op.name());
            let excepted = NOT_CARRIED.iter().any(|(name, _)| *name == op.name());
            assert!(!keeps_scale || carried != excepted, "{}", op.name());
        }
        for c in CARRIED {
            assert!(lookup("", c.op).is_some(), "{} is no operator", c.op);
        }
    }
}
