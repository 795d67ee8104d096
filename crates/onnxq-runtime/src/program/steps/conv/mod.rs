//! Convolutions of codes: products over rows in place, or, where each channel is alone, dot products
//! down its columns.

mod depthwise;
pub(super) mod dynamic;
mod product;
mod shape;

use onnxq_ir::{NodeId, Op};
use onnxq_kernels::Cpu;

use self::{
    depthwise::Depthwise,
    product::{Dense, Group},
    shape::Shape,
};
use super::{
    Kernel,
    added::{Added, following},
    elementwise::{Quantization, byte_bounds},
    product::{PackedWeights, offsets, packed_zeros, product_name},
};
use crate::program::lower::{Layout, Lowering};

/// How the sums of a static convolution become codes.
struct Codes {
    /// By output channel.
    scale: Vec<f32>,
    zero: i32,
    bounds: [i32; 2],
    added: Option<Added>,
}

impl Codes {
    /// For a profile.
    fn name(&self, shape: &Shape, signed: bool, cpu: Cpu) -> String {
        let add = match self.added {
            Some(_) => "+add",
            None => "",
        };
        product_name(&format!("conv{add} {}", shape.name()), signed, cpu)
    }
}

/// QLinearConv, perhaps with the QLinearAdd that follows.
pub(super) fn qlinear(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let graph = lowering.graph;
    let x = graph.operand(n, 0)?;
    let (x_scale, y_scale) = (lowering.scalar(n, 1)?, lowering.scalar(n, 6)?);
    let (x_zero, zero) = (lowering.zero_point(n, 2)?, lowering.zero_point(n, 7)?);
    let bounds = byte_bounds(lowering.type_of(graph.result(n, 0))?.0)?;
    let home = lowering.home(x)?;
    let x_signed = byte_bounds(home.dtype)?[0] < 0;
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
        scale,
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
    let kernel: Box<dyn Kernel> = if shape.is_depthwise() {
        Box::new(Depthwise::new(
            shape, x_signed, x_zero, &w, &w_zeros, w_signed, &bias, codes,
        ))
    } else {
        let each = outputs / shape.groups;
        let groups = (0..shape.groups).map(|g| {
            let columns = g * each..(g + 1) * each;
            let weights =
                PackedWeights::new(&shape.weights(&w, w_signed, g), &mut lowering.weights);
            let zero = w_zeros.get(columns.clone()).unwrap_or_default().to_vec();
            let offset = offsets(bias[columns].iter().copied(), x_zero, &weights, &zero);
            Group {
                weights,
                offset,
                zero,
            }
        });
        Box::new(Dense {
            groups: groups.collect(),
            shape,
            signed: x_signed,
            padding: x_zero as u8,
            codes,
        })
    };
    w.release();
    lowering.push_result(n, last, kernel, &operands, Layout::ChannelsLast)
}
