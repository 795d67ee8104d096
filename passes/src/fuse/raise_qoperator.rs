//! Turns operators on codes back into float operators between DequantizeLinear and QuantizeLinear.
//!
//! ```text
//! y = QLinearConv(x, x_scale, x_zero, W, W_scale, W_zero, y_scale, y_zero, b)
//! =>
//! y = QuantizeLinear(Conv(DequantizeLinear(x, x_scale, x_zero),
//!                         DequantizeLinear(W, W_scale, W_zero),
//!                         DequantizeLinear(b, x_scale * W_scale)), y_scale, y_zero)
//! ```
//!
//! So can old models be lowered for another runtime, or quantized anew. [`table`] has the operators
//! and where their operands are, [`sums`] the products of codes whose `int32` sums are scaled by
//! operators of their own. Parameters are kept as they are, constant or computed; codes are
//! dequantized once for all who read them. MaxPool, Transpose, Reshape and others that move codes
//! stay on codes.
//!
//! The result is that of the operator on codes within one step of `y_scale`: sums of products of
//! floats are rounded where those of codes are exact, and the operators on codes round the
//! product of scales. Nearly always it is the same. QLinearSoftmax, which takes `1 / y_scale` for
//! a whole number, is off by more where that is not one.
//!
//! Does not fire
//! - where scales and zero points are not one for all, or one for each index on an axis (rows or
//!   columns of a factor, channels of a weight), or their shapes are not known;
//! - on a QLinearSoftmax that takes several axes as one, from opset 13 on, where Softmax takes one.
//!
//! Raises the opset where DequantizeLinear needs it: to 13 for scales along an axis, to 19 for
//! scales of float16.

mod codes;
mod parameters;
mod shared;
mod sums;
mod table;

use std::cell::Cell;

use onnxq_ir::{Model, NodeId, Op, Type, Value, ValueId};
use onnxq_ops::infer;
use onnxq_pass::{Pass, PassContext, PassError, PassInfo, Rewriter, Rule, apply_rewrites};
use onnxq_tensor::Tensor;

use self::{
    codes::{Bias, Codes},
    parameters::Parameters,
    shared::Shared,
    table::{Built, Operand, Record},
};
use crate::quantize::require;

pub(crate) const INFO: PassInfo = PassInfo {
    name: "raise-qoperator",
    summary: "turn operators on codes (QLinearConv, MatMulInteger, ...) into QDQ",
    options: &[],
    build: |_| Ok(Box::new(RaiseQOperator)),
};

struct RaiseQOperator;

impl Pass for RaiseQOperator {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        if !has_candidates(model) {
            return Ok(());
        }
        // Shapes of parameters, ranks and element types decide.
        infer::annotate(model);
        let least = Cell::new(0);
        let survey = |rw: &mut Rewriter<'_>, n| {
            let needed = plan(rw, n).map(|plan| plan.least).or_else(|| {
                let chain = sums::plan(rw, n)?;
                Some(chain.least())
            });
            least.set(least.get().max(needed.unwrap_or(0)));
            None
        };
        let rule = Rule {
            name: INFO.name,
            apply: &survey,
        };
        apply_rewrites(model, cx, &[rule])?;
        require::opset(model, cx, least.get())?;
        let shared = Shared::default();
        let operators = |rw: &mut Rewriter<'_>, n| raise(rw, n, &shared);
        let chains = |rw: &mut Rewriter<'_>, n| sums::raise(rw, n, &shared);
        let rules = [
            Rule {
                name: INFO.name,
                apply: &operators,
            },
            Rule {
                name: "raise-sums",
                apply: &chains,
            },
        ];
        apply_rewrites(model, cx, &rules)
    }
}

fn has_candidates(model: &Model) -> bool {
    let mut found = false;
    model.for_each_graph(|graph| {
        let mut ops = graph.node_ids().filter_map(|n| graph.op(n));
        found |= ops.any(|op| table::find(op).is_some() || sums::is_product(op));
    });
    found
}

/// How a node is raised: everything is known, nothing changed yet.
struct Plan {
    built: Built,
    operands: Vec<Source>,
    /// Those of the result; `None` where that is float already.
    result: Option<Parameters>,
    /// A float to add at the end.
    addend: Option<ValueId>,
    /// The rank of operand and result, where their channels are at the end.
    channels_last: Option<usize>,
    /// The opset that is needed.
    least: i64,
}

/// An operand of the float operator.
enum Source {
    Codes(Codes),
    Bias(Bias),
    /// A float, quantized while the model runs.
    Dynamic(ValueId),
    Plain(ValueId),
}

fn plan(rw: &mut Rewriter<'_>, n: NodeId) -> Option<Plan> {
    let record = table::find(rw.op(n)?)?;
    let built = (record.build)(rw, n, record.float)?;
    let operands = operands(rw, n, record)?;
    let addend = record.addend.and_then(|place| rw.operand(n, place));
    let quantized = record
        .result
        .filter(|&[scale, _]| rw.operand(n, scale).is_some());
    let result = match quantized {
        Some(places) => Some(Parameters::of_result(rw, n, places)?),
        None => None,
    };
    let channels_last = match rw.attr_int(n, "channels_last", 0) {
        0 => None,
        _ => Some(rw.shape(rw.operand(n, 0)?)?.len()),
    };
    let of_operand = |source: &Source| match source {
        Source::Codes(codes) => codes.parameters.least(rw),
        Source::Bias(bias) => bias.least(),
        Source::Dynamic(_) => 11,
        Source::Plain(_) => 1,
    };
    let least = operands.iter().map(of_operand).max().unwrap_or(1);
    let of_result = result.as_ref().map_or(1, |p| p.least(rw));
    let least = least.max(of_result).max(built.least).max(10);
    Some(Plan {
        built,
        operands,
        result,
        addend,
        channels_last,
        least,
    })
}

fn operands(rw: &mut Rewriter<'_>, n: NodeId, record: &Record) -> Option<Vec<Source>> {
    let mut sources = Vec::new();
    for &operand in record.operands {
        match operand {
            Operand::Codes(places, axis) => {
                let codes = Codes::of(rw, n, places, axis.of(rw, n))?;
                sources.push(Source::Codes(codes));
            }
            Operand::Rest(first) => {
                let count = rw.graph().operands(n).len();
                for codes in (first..count).step_by(3) {
                    let codes = Codes::of(rw, n, [codes, codes + 1, codes + 2], None)?;
                    sources.push(Source::Codes(codes));
                }
            }
            Operand::Bias(place) => {
                let [Source::Codes(x), Source::Codes(w)] = &sources[..] else {
                    return None;
                };
                if let Some(codes) = rw.operand(n, place) {
                    sources.push(Source::Bias(Bias::of(rw, n, codes, [x, w])?));
                }
            }
            Operand::Dynamic(place) => sources.push(Source::Dynamic(rw.operand(n, place)?)),
            Operand::Plain(place) => sources.push(Source::Plain(rw.operand(n, place)?)),
        }
    }
    Some(sources)
}

fn raise(rw: &mut Rewriter<'_>, n: NodeId, shared: &Shared) -> Option<()> {
    let plan = plan(rw, n)?;
    if rw.opset() < plan.least {
        rw.miss(n, format_args!("opset {} is needed", plan.least))?;
    }
    let y = rw.result(n, 0);
    let mut operands = Vec::new();
    for (i, mut source) in plan.operands.into_iter().enumerate() {
        if let (0, Some(rank), Source::Codes(codes)) = (i, plan.channels_last, &mut source) {
            codes.codes = channels_first(rw, codes.codes, rank);
        }
        operands.push(Some(match source {
            Source::Codes(codes) => codes.dequantize(rw, shared),
            Source::Bias(bias) => bias.dequantize(rw, shared),
            Source::Dynamic(x) => codes::dynamic(rw, x, shared),
            Source::Plain(v) => v,
        }));
    }
    if let Some(tensor) = plan.built.last {
        let name = rw.derive(y, "axes");
        operands.push(Some(rw.insert_constant(name, tensor)));
    }
    let node = codes::node_name(rw, n, shared);
    let Some(parameters) = plan.result else {
        return finish(rw, n, node, plan.built.op, &operands, plan.addend);
    };
    let shape = rw.shape(y).cloned();
    let shape = shape.map(|shape| match plan.channels_last {
        None => shape,
        Some(_) => Channels::First.of(shape.as_slice()),
    });
    let ty = codes::real_type(rw, parameters.scale.source(), shape.as_ref());
    let real = Value::new(codes::real_name(rw, y), ty);
    let real = rw.insert_node(node, plan.built.op, &operands, [real]);
    let real = rw.result(real, 0);
    let value = rw.graph().value(y).clone();
    let new = match plan.channels_last {
        None => parameters.quantize(rw, real, value, shared),
        Some(rank) => {
            let dtype = rw.dtype(y);
            let ty = shape.and_then(|shape| Some(Type::tensor(dtype?, Some(shape))));
            let codes = Value::new(
                format!(
                    "{}_channels_first_quantized",
                    codes::stem(rw.name(y), "_quantized")
                ),
                ty,
            );
            let codes = parameters.quantize(rw, real, codes, shared);
            Channels::Last.transpose(rw, codes, rank, value)
        }
    };
    rw.replace(y, new)?;
    shared.produced(rw.graph(), new);
    Some(())
}

/// Puts the float operator in the place of `n`, whose result is float.
fn finish(
    rw: &mut Rewriter<'_>,
    n: NodeId,
    node: String,
    op: Op,
    operands: &[Option<ValueId>],
    addend: Option<ValueId>,
) -> Option<()> {
    let y = rw.result(n, 0);
    let value = rw.graph().value(y).clone();
    let Some(addend) = addend else {
        let new = rw.insert_node(node, op, operands, [value]);
        return rw.replace(y, rw.result(new, 0));
    };
    let product = Value::new(rw.derive(y, "product"), value.ty.clone());
    let product = rw.insert_node(node, op, operands, [product]);
    let operands = [rw.result(product, 0), addend].map(Some);
    let sum = rw.insert_node(rw.derive(y, "bias_add"), Op::new("Add"), &operands, [value]);
    rw.replace(y, rw.result(sum, 0))
}

/// Where channels are to be.
#[derive(Clone, Copy)]
enum Channels {
    First,
    Last,
}

impl Channels {
    /// What is in the order of dimensions, in the new order.
    fn of<T: FromIterator<U>, U: Clone>(self, old: &[U]) -> T {
        let mut new = old.to_vec();
        if let Some(rest) = new.get_mut(1..).filter(|rest| !rest.is_empty()) {
            match self {
                Channels::First => rest.rotate_right(1),
                Channels::Last => rest.rotate_left(1),
            }
        }
        new.into_iter().collect()
    }

    /// Moves the channels of codes of this rank.
    fn transpose(
        self,
        rw: &mut Rewriter<'_>,
        codes: ValueId,
        rank: usize,
        result: Value,
    ) -> ValueId {
        let order: Vec<i64> = (0..rank as i64).collect();
        let perm: Vec<i64> = self.of(order.as_slice());
        let op = Op::new("Transpose").with("perm", perm);
        let n = rw.insert_node("", op, &[Some(codes)], [result]);
        rw.result(n, 0)
    }
}

/// Codes of this rank with their channels after the batch.
fn channels_first(rw: &mut Rewriter<'_>, codes: ValueId, rank: usize) -> ValueId {
    let (dtype, shape) = (rw.dtype(codes), rw.shape(codes));
    let shape = shape.map(|shape| Channels::First.of(shape.as_slice()));
    let ty = shape.and_then(|shape| Some(Type::tensor(dtype?, Some(shape))));
    let stem = codes::stem(rw.name(codes), "_quantized");
    let value = Value::new(format!("{stem}_channels_first_quantized"), ty);
    Channels::First.transpose(rw, codes, rank, value)
}

/// A constant of integers, as an operand.
fn ints(values: &[i64]) -> Tensor {
    Tensor::vector(values.to_vec())
}
