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

use onnxq_ir::{NodeId, Op, Value, ValueId};
use onnxq_pass::{PassInfo, Rewriter, rewriting};
use onnxq_tensor::{DType, Dims, Tensor};

use super::{
    pattern::{self, Weight},
    product::{self, Product},
};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "lower-conv",
    summary: "convolve codes (ConvInteger) instead of floats",
    options: &[product::COMPAT],
    build: |opts| {
        let compat = opts.take("compat", false)?;
        rewriting(INFO.name, move |rw, n| lower(rw, n, compat))
    },
};

fn lower(rw: &mut Rewriter<'_>, n: NodeId, compat: bool) -> Option<()> {
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
    // One number for all channels multiplies a result of any rank; as one for each they do not
    // stand along the last axis.
    let compat = compat && w.axis.is_none();
    let bias = match rw.operand(n, 2) {
        Some(b) => Some(per_channel(rw, n, b, w.tensor.rank(), compat)?),
        None => None,
    };
    let y = rw.result(n, 0);
    let product = Product {
        op: Op {
            op_type: "ConvInteger".to_owned(),
            ..rw.op(n)?.clone()
        },
        codes: x.codes,
        zero_point: one_zero_point(rw, &w),
        factor: 1.0,
        axis: 1,
        node: rw.graph().node(n).name.clone(),
        result: rw.name(y).to_owned(),
        compat,
    };
    let last = product.insert(rw, n, &x, &w)?;
    let Some(bias) = bias else {
        return last.replace(rw, n);
    };
    let result = rw.graph().value(y).clone();
    let scaled = Value::new(
        format!("{}quant_scaled_output", result.name),
        result.ty.clone(),
    );
    let scaled = last.insert(rw, scaled);
    let name = format!("{}_bias_add", result.name);
    let sum = rw.insert_node(name, Op::new("Add"), &[Some(scaled), Some(bias)], [result]);
    rw.replace(y, rw.result(sum, 0))
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
fn per_channel(
    rw: &mut Rewriter<'_>,
    n: NodeId,
    bias: ValueId,
    rank: usize,
    compat: bool,
) -> Option<ValueId> {
    if let Some(tensor) = rw.constant(bias).filter(|_| !compat) {
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
    let operands = [Some(bias), Some(shape)];
    let reshaped = rw.insert_node("", Op::new("Reshape"), &operands, [Value::new(name, None)]);
    Some(rw.result(reshaped, 0))
}
