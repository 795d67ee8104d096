//! Convolves codes instead of floats.
//!
//! ```text
//! y = Conv(DequantizeLinear(x, x_scale, x_zero), DequantizeLinear(W, W_scale, W_zero), b)
//! =>
//! y = DequantizeLinear(ConvInteger(x, W, x_zero, W_zero), x_scale * W_scale) + Reshape(b)
//! ```
//!
//! `x` is quantized while the model runs, `W` is constant, with one scale or one for each output
//! channel. Padding is with `x_zero`, which stands for 0.
//!
//! Does not fire where zero points of `W` differ, since ConvInteger takes one; for `int8`
//! activations, which ONNX Runtime's does not take; and for scales along another axis.

use onnxq_ir::{NodeId, Op, ValueId};
use onnxq_pass::{PassInfo, Rewrite, Rewriter, rewrites};
use onnxq_tensor::{DType, Dims, Tensor};

use super::{
    pattern::{self, Weight},
    product,
};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "lower-conv",
    summary: "convolve codes (ConvInteger) instead of floats",
    options: &[],
    build: |_| rewrites("lower-conv", REWRITES),
};

const REWRITES: &[Rewrite] = &[Rewrite {
    name: "lower-conv",
    apply: lower,
}];

fn lower(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Conv")?;
    let x = pattern::activation(rw, rw.operand(n, 0)?)?;
    let w = pattern::weight(rw, rw.operand(n, 1)?)?;
    if w.tensor.rank() < 3 {
        return None;
    }
    if w.axis.is_some_and(|axis| axis != 0) {
        rw.miss(
            n,
            "the scales of the weight are not those of output channels",
        )?;
    }
    if x.qtype != DType::U8 {
        rw.miss(n, "ConvInteger takes uint8 activations in ONNX Runtime")?;
    }
    if !has_one_zero_point(&w) {
        rw.miss(
            n,
            "the zero points of the weight differ, and ConvInteger takes one",
        )?;
    }
    let bias = match rw.operand(n, 2) {
        Some(b) => Some(per_channel(rw, n, b, w.tensor.rank())?),
        None => None,
    };
    let zero_point = one_zero_point(rw, &w);
    let op = Op {
        op_type: "ConvInteger".to_owned(),
        ..rw.op(n)?.clone()
    };
    let operands = [Some(x.codes), Some(w.codes), Some(x.zero_point), zero_point];
    let given = if zero_point.is_some() { 4 } else { 3 };
    let sums = product::insert_sums(rw, n, op, &operands[..given]);
    let scale = product::insert_scale(rw, n, &x, &w, 1.0)?;
    let op = product::dequantize(&w, 1);
    let Some(bias) = bias else {
        return product::replace(rw, n, x.dtype, op, &[sums, scale]);
    };
    let y = product::insert_float(rw, n, x.dtype, op, &[sums, scale], "without_bias");
    rw.replace_node(n, Op::new("Add"), &[Some(y), Some(bias)])
        .map(drop)
}

fn has_one_zero_point(w: &Weight) -> bool {
    let same = |t: &Tensor| t.bytes().windows(2).all(|pair| pair[0] == pair[1]);
    w.zero_points.as_ref().is_none_or(same)
}

/// The zero point as ConvInteger takes it, of rank 0.
fn one_zero_point(rw: &mut Rewriter<'_>, w: &Weight) -> Option<ValueId> {
    let (v, tensor) = (w.zero_point?, w.zero_points.as_ref()?);
    if tensor.rank() == 0 {
        return Some(v);
    }
    let one = Tensor::new(tensor.dtype(), Dims::new(), tensor.bytes()[..1].to_vec()).ok()?;
    Some(pattern::insert_like(rw, v, one))
}

/// The bias with a dimension for each of the result, whose rank is that of the weight.
fn per_channel(rw: &mut Rewriter<'_>, n: NodeId, bias: ValueId, rank: usize) -> Option<ValueId> {
    if let Some(tensor) = rw.constant(bias) {
        let mut dims = Dims::from_elem(1, rank);
        dims[1] = tensor.len();
        let tensor = tensor.reshape(dims).ok()?;
        return Some(pattern::insert_like(rw, bias, tensor));
    }
    let mut shape = vec![1i64; rank];
    shape[1] = -1;
    let shape = Tensor::vector(shape);
    let shape = rw.insert_constant(product::name(rw, n, "bias_reshape_shape"), shape);
    let name = product::name(rw, n, "bias_reshape_output");
    Some(rw.insert(Op::new("Reshape"), &[bias, shape], name))
}
