//! Convolutions of codes: products over rows in place, or, where each channel is alone, dot products
//! down its columns.

mod depthwise;
pub(super) mod dynamic;
mod product;
mod shape;
pub(super) mod transposed;

use onnxq_ir::{NodeId, Op};

use self::{
    depthwise::Depthwise,
    product::{Dense, Part},
    shape::Shape,
};
use super::{
    Kernel,
    added::{Added, following},
    elementwise::{Quantization, byte_bounds},
    product::{PackedWeights, offsets, packed_zeros},
};
use crate::program::{
    lower::{Layout, Lowering},
    source::Code,
};

/// What codes the sums of a static convolution become.
struct Codes {
    zero: i32,
    bounds: [i32; 2],
    added: Option<Added>,
}

/// QLinearConv, perhaps with the QLinearAdd that follows.
pub(super) fn qlinear(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let graph = lowering.graph;
    let x = graph.operand(n, 0)?;
    let (x_scale, y_scale) = (lowering.scalar(n, 1)?, lowering.scalar(n, 6)?);
    let (x_zero, zero) = (lowering.zero_point(n, 2)?, lowering.zero_point(n, 7)?);
    let bounds = byte_bounds(lowering.type_of(graph.result(n, 0))?.0)?;
    let home = lowering.home(x)?;
    let signed = byte_bounds(home.dtype)?[0] < 0;
    let w = lowering.constant_operand(n, 3)?.clone();
    let w_signed = byte_bounds(w.dtype())?[0] < 0;
    let shape = Shape::of(op, home, &w)?;
    let outputs = shape.outputs;
    let scales = lowering.constant_operand(n, 4)?.as_slice::<f32>().ok()?;
    let scale: Vec<f32> = match scales.len() {
        1 => vec![x_scale * scales[0] / y_scale; outputs],
        len if len == outputs => scales.iter().map(|w| x_scale * w / y_scale).collect(),
        _ => return None,
    };
    let bias = match graph.operand(n, 8) {
        None => vec![0; outputs],
        Some(_) => lowering
            .constant_operand(n, 8)?
            .as_slice::<i32>()
            .ok()?
            .into_owned(),
    };
    (bias.len() == outputs).then_some(())?;
    let w_zeros = packed_zeros(lowering.constant_operand(n, 5), w_signed, outputs)?;
    let x = lowering.channels_last(x)?;
    let mut codes = Codes {
        zero,
        bounds,
        added: None,
    };
    let product = Quantization {
        scale: y_scale,
        zero,
    };
    let mut last = n;
    let mut operands = vec![x.place];
    if let Some((add, other, added)) = following(lowering, n, product, Layout::ChannelsLast) {
        last = add;
        operands.push(other);
        codes.added = Some(added);
        lowering.absorb(add);
    }
    let what = match codes.added {
        Some(_) => format!("conv+add {}", shape.name()),
        None => format!("conv {}", shape.name()),
    };
    let kernel: Box<dyn Kernel> = if shape.is_depthwise() {
        Box::new(Depthwise::new(
            what, shape, signed, x_zero, &w, &w_zeros, w_signed, &bias, scale, codes,
        ))
    } else {
        let [inputs, each] = [shape.channels, outputs].map(|n| n / shape.groups);
        let parts = (0..shape.groups).map(|g| {
            let columns = g * each..(g + 1) * each;
            let weights =
                PackedWeights::new(&shape.weights(&w, w_signed, g), &mut lowering.weights);
            let zero = w_zeros.get(columns.clone()).unwrap_or_default().to_vec();
            let bias = bias[columns.clone()].iter().copied();
            Part {
                left: g * inputs,
                geometry: shape.geometry(),
                offset: offsets(bias, x_zero, &weights, &zero),
                weights,
                zero,
                start: columns.start,
                scale: scale[columns].to_vec(),
                strides: shape.result_strides(),
            }
        });
        Box::new(Dense {
            what,
            operations: shape.operations(),
            images: shape.images,
            y_len: shape.image_lens()[1],
            padding: shape.padding(),
            signed,
            zero: x_zero as u8,
            parts: parts.collect(),
            codes,
        })
    };
    w.release();
    lowering.push_result(n, last, kernel, &operands, Layout::ChannelsLast)
}

/// The statements that `f` writes, once for each image. `x` and `y` are operand and result there, of `lens` elements, and
/// `other`, if there is one, another operand like the result.
fn write_images(
    code: &mut Code<'_>,
    images: usize,
    [x_len, y_len]: [usize; 2],
    other: bool,
    mut f: impl FnMut(&mut Code<'_>),
) {
    if images > 1 {
        code.open(&format!("for image in 0..{images}"));
        code.bind("x", format!("&x[image * {x_len}..][..{x_len}]"));
        code.bind("y", format!("&mut y[image * {y_len}..][..{y_len}]"));
        if other {
            code.bind("other", format!("&other[image * {y_len}..][..{y_len}]"));
        }
    }
    f(code);
    if images > 1 {
        code.close();
    }
}
