//! Products of codes whose sums other operators scale.
//!
//! ```text
//! sums = MatMulInteger(x, W, x_zero, W_zero)
//! y = Cast(sums) * (x_scale * W_scale)
//! y = Cast(sums) * x_scale * W_scale
//! y = DequantizeLinear(sums, x_scale * W_scale)
//! =>
//! y = MatMul(DequantizeLinear(x, x_scale, x_zero), DequantizeLinear(W, W_scale, W_zero))
//! ```
//!
//! And so for ConvInteger. Which factor of the scale is that of `x` shows by where its zero point
//! comes from, or by the number of scales; where nothing shows it both are numbers, and either may
//! be either.
//!
//! Does not fire where the scale is no product, where sums are used otherwise, or where they are
//! scaled in another type than `float`.

use onnxq_ir::{NodeId, Op, ValueId};
use onnxq_pass::Rewriter;
use onnxq_tensor::DType;

use super::{
    codes::{self, Codes},
    parameters::{Parameter, Parameters},
    shared::Shared,
};

/// A product of codes, scaled.
pub(super) struct Sums {
    product: NodeId,
    x: Codes,
    w: Codes,
    least: i64,
}

impl Sums {
    /// The opset that is needed.
    pub(super) fn least(&self) -> i64 {
        self.least
    }
}

/// Whether sums are its result.
pub(super) fn is_product(op: &Op) -> bool {
    op.is("MatMulInteger") || op.is("ConvInteger")
}

/// What scales the sums: the product, and both factors of the scale.
struct Scaled {
    product: NodeId,
    factors: [ValueId; 2],
    /// The axis of the result along which scales differ; `None` where that shows by their shape.
    axis: Option<i64>,
}

pub(super) fn plan(rw: &mut Rewriter<'_>, n: NodeId) -> Option<Sums> {
    let scaled = scaled(rw, n)?;
    let (product, y) = (scaled.product, rw.result(n, 0));
    let rank = rw.shape(rw.result(product, 0))?.len();
    let floats = scaled
        .factors
        .iter()
        .all(|&v| rw.dtype(v) == Some(DType::F32));
    if !floats || rw.shape(y)?.len() != rank {
        rw.miss(
            n,
            "the scales are not float, or have more dimensions than the sums",
        )?;
    }
    let operand = |i| rw.operand(product, i);
    let (x, w) = (operand(0)?, operand(1)?);
    let (x_zero, w_zero) = (operand(2), operand(3));
    let is_conv = rw.is(product, "ConvInteger").is_some();
    let axis = match is_conv {
        true => 1,
        false => rank as i64 - 1,
    };
    let scale = |v| match (scaled.axis, is_conv) {
        (None, true) if rw.shape(v)?.len() > 1 => {
            Parameter::of_channels(rw, v, rank.checked_sub(2)?)
        }
        // Along the last axis, unless it is one for all.
        (None, _) => Parameter::of(rw, v).filter(|p| p.is_one() || !is_conv),
        (Some(given), _) => {
            let given = if given < 0 {
                given + rank as i64
            } else {
                given
            };
            Parameter::of(rw, v).filter(|p| p.is_one() || given == axis)
        }
    };
    let [p, q] = scaled.factors;
    let (Some(p), Some(q)) = (scale(p), scale(q)) else {
        rw.miss(n, "the scales are not those of channels")?;
        return None;
    };
    let of_x = |p: &Parameter| x_zero.is_some_and(|zero| zero.node == p.source().node);
    let is_swapped = !p.is_one() || (q.is_one() && of_x(&q) && !of_x(&p));
    let (x_scale, w_scale) = if is_swapped { (q, p) } else { (p, q) };
    let zero = |zero: Option<ValueId>| zero.map(|zero| Parameter::of(rw, zero));
    let (None | Some(Some(_)), None | Some(Some(_))) = (zero(x_zero), zero(w_zero)) else {
        rw.miss(n, "how many zero points there are is not known")?;
        return None;
    };
    let (x_zero, w_zero) = (zero(x_zero).flatten(), zero(w_zero).flatten());
    let (rows, columns) = match is_conv {
        true => (None, Some(0)),
        false => (
            codes::index(-2, rw.shape(x)?.len()),
            codes::index(-1, rw.shape(w)?.len()),
        ),
    };
    let x_parameters = Parameters::new(rw, n, x_scale, x_zero, rows)?;
    let w_parameters = Parameters::new(rw, n, w_scale, w_zero, columns)?;
    let least = x_parameters.least(rw).max(w_parameters.least(rw));
    let codes = |codes, parameters| Codes { codes, parameters };
    Some(Sums {
        product,
        x: codes(x, x_parameters),
        w: codes(w, w_parameters),
        least,
    })
}

fn scaled(rw: &Rewriter<'_>, n: NodeId) -> Option<Scaled> {
    if rw.is(n, "DequantizeLinear").is_some() {
        let product = product(rw, rw.operand(n, 0)?)?;
        let zero = rw.operand(n, 2).map(|zero| rw.constant(zero));
        let is_zero = zero.is_none_or(|z| z.is_some_and(|z| z.bytes().iter().all(|&b| b == 0)));
        is_zero.then_some(())?;
        return Some(Scaled {
            product,
            factors: factors(rw, rw.operand(n, 1)?)?,
            axis: Some(rw.attr_int(n, "axis", 1)),
        });
    }
    rw.is(n, "Mul")?;
    let (a, b) = (rw.operand(n, 0)?, rw.operand(n, 1)?);
    [(a, b), (b, a)].into_iter().find_map(|(sums, scale)| {
        let (product, factors) = match float_product(rw, sums) {
            Some(product) => (product, factors(rw, scale)?),
            None => {
                let [a, b] = factors(rw, sums)?;
                rw.sole_use(sums)?;
                match float_product(rw, a) {
                    Some(product) => (product, [b, scale]),
                    None => (float_product(rw, b)?, [a, scale]),
                }
            }
        };
        Some(Scaled {
            product,
            factors,
            axis: None,
        })
    })
}

/// The operands of the multiplication that gives `v`.
fn factors(rw: &Rewriter<'_>, v: ValueId) -> Option<[ValueId; 2]> {
    let n = rw.producer(v, "Mul")?;
    Some([rw.operand(n, 0)?, rw.operand(n, 1)?])
}

/// The product whose sums, converted to `float`, `v` is.
fn float_product(rw: &Rewriter<'_>, v: ValueId) -> Option<NodeId> {
    let cast = rw.producer(v, "Cast")?;
    rw.sole_use(v)?;
    let to = rw.attr_int(cast, "to", 0);
    (to == i64::from(DType::F32.onnx())).then_some(())?;
    product(rw, rw.operand(cast, 0)?)
}

/// The product whose sums, used here only, `v` is.
fn product(rw: &Rewriter<'_>, v: ValueId) -> Option<NodeId> {
    rw.sole_use(v)?;
    rw.op(v.node).filter(|op| is_product(op))?;
    Some(v.node)
}

pub(super) fn raise(rw: &mut Rewriter<'_>, n: NodeId, shared: &Shared) -> Option<()> {
    let Sums {
        product,
        x,
        w,
        least,
    } = plan(rw, n)?;
    if rw.opset() < least {
        rw.miss(n, format_args!("opset {least} is needed"))?;
    }
    let op = rw.op(product)?;
    let op = Op {
        op_type: op.op_type.trim_end_matches("Integer").to_owned(),
        ..op.clone()
    };
    let name = codes::node_name(rw, product, shared);
    let y = rw.result(n, 0);
    let operands = [x, w].map(|codes| Some(codes.dequantize(rw, shared)));
    let value = rw.graph().value(y).clone();
    let new = rw.insert_node(name, op, &operands, [value]);
    rw.replace(y, rw.result(new, 0))
}
