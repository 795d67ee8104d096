//! Transposed convolutions of codes.
//!
//! Element `o` of the result, of one axis, is a sum over the elements `i` of the operand and the taps `k` with
//! `i · stride + k · dilation = o + begin`. The taps are the same for every `stride`-th `o`. For these, a *phase*, it is
//! a convolution with stride 1 of some of the taps, the last one first; its results are `stride` apart:
//!
//! ```text
//! 3 taps, stride 2, begin 1     o = 0: x0·w1            o = 1: x0·w2 + x1·w0
//!                               o = 2: x1·w1            o = 3: x1·w2 + x2·w0
//! ```
//!
//! Operators on codes have none of these, so that it is recognized with the DequantizeLinear of its operands and the
//! QuantizeLinear of its result.

use onnxq_ir::{NodeId, Op, ValueId};
use onnxq_tensor::Tensor;

use super::{Codes, Dense, PackedWeights, Part, Shape, byte_bounds, offsets, packed_zeros};
use crate::{
    plan::{Window, Window2},
    program::{
        lower::{Home, Layout, Lowering},
        steps::{
            elementwise::{dequantization_of, quantization_of},
            padding::Padding,
        },
    },
};

/// How much of a step of the result a bias may move by when it is rounded to a multiple of the scale of the sums, as where
/// `lower-qlinear-conv` rounds it.
const MOST: f64 = 1.0 / 32.0;

/// More products than that are left to the reference.
const MOST_PARTS: usize = 1 << 12;

/// The phase of one axis that begins at an element of the result.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Phase {
    /// The element of the operand that the first tap meets; it may be in the padding.
    start: isize,
    /// From tap to tap, in elements of the operand.
    step: usize,
    /// The taps, in the order in which they meet the operand. There are none where those beside each other are further
    /// apart than the stride.
    taps: Vec<usize>,
    /// Elements of the result.
    count: usize,
}

impl Phase {
    /// `window` is the one that goes the other way, from the result to the operand.
    fn of(window: &Window2, axis: usize, first: usize) -> Phase {
        let (stride, dilation) = (window.strides[axis], window.dilations[axis]);
        let place = first + window.begin[axis];
        let fits = |k: &usize| (k * dilation) % stride == place % stride;
        let taps: Vec<usize> = (0..window.kernel[axis]).filter(fits).rev().collect();
        let met = |k: usize| (place as isize - (k * dilation) as isize) / stride as isize;
        Phase {
            start: taps.first().map_or(0, |&k| met(k)),
            step: match taps[..] {
                [first, second, ..] => (first - second) * dilation / stride,
                _ => 1,
            },
            taps,
            count: (window.input[axis] - first).div_ceil(stride),
        }
    }

    /// The taps that weights are packed of: one at least, `None` for no weight.
    fn packed(&self) -> Vec<Option<usize>> {
        match &self.taps[..] {
            [] => vec![None],
            taps => taps.iter().copied().map(Some).collect(),
        }
    }

    /// Whether it meets the same elements as another one.
    fn is_beside(&self, other: &Phase) -> bool {
        let met = |p: &Phase| (p.start, p.step, p.taps.len(), p.count);
        met(self) == met(other)
    }

    /// Elements from what the first tap meets first to what the last one meets last, and one.
    fn reach(&self) -> usize {
        self.count + self.taps.len().saturating_sub(1) * self.step
    }
}

/// The phases of an axis, which begin at so many first elements of the result.
fn phases(window: &Window2, axis: usize, count: usize) -> Vec<Phase> {
    (0..count)
        .map(|first| Phase::of(window, axis, first))
        .collect()
}

/// Weights as they are, with their parameters.
struct Weight {
    tensor: Tensor,
    signed: bool,
    /// One for all output channels of a group, or one for each.
    scales: Vec<f32>,
    zeros: Option<Tensor>,
}

/// The weights that a DequantizeLinear takes to floats.
fn weight(lowering: &Lowering<'_>, v: ValueId) -> Option<Weight> {
    let graph = lowering.graph;
    let op = graph.op(v.node)?;
    let plain = op.is("DequantizeLinear") && op.int("block_size", 0) == 0;
    let tensor = plain
        .then(|| lowering.constant_operand(v.node, 0))??
        .clone();
    let scales = lowering.constant_operand(v.node, 1)?;
    let scales = scales.as_slice::<f32>().ok()?.into_owned();
    let zeros = match graph.operand(v.node, 2) {
        None => None,
        Some(zeros) => {
            let zeros = lowering.constant(zeros)?;
            Some((zeros.dtype() == tensor.dtype()).then(|| zeros.clone())?)
        }
    };
    let axis = op.int("axis", 1);
    let by_channel = axis == 1 || axis.checked_add(tensor.rank() as i64) == Some(1);
    let each = *tensor.dims().get(1)?;
    let fits = scales.len() == 1 || (by_channel && scales.len() == each);
    fits.then_some(Weight {
        signed: byte_bounds(tensor.dtype())?[0] < 0,
        tensor,
        scales,
        zeros,
    })
}

impl Weight {
    /// The weights of some taps, as a convolution has them: `[outputs, inputs of a group, taps...]`, the outputs of
    /// several `columns` of taps beside each other.
    fn of(&self, groups: usize, rows: &[Option<usize>], columns: &[Vec<Option<usize>>]) -> Tensor {
        let dims = self.tensor.dims();
        let (inputs, each) = (dims[0] / groups, dims[1]);
        let (height, width) = match dims[2..] {
            [width] => (1, width),
            _ => (dims[2], dims[3]),
        };
        let bytes = self.tensor.bytes();
        // A weight that counts for nothing.
        let none = |output: usize| match &self.zeros {
            None => 0,
            Some(zeros) => zeros.bytes()[output % zeros.len()],
        };
        let mut made = Vec::new();
        for group in 0..groups {
            for taps in columns {
                for output in 0..each {
                    for input in group * inputs..(group + 1) * inputs {
                        let at = (input * each + output) * height * width;
                        for row in rows {
                            made.extend(taps.iter().map(|column| match (row, column) {
                                (Some(row), Some(column)) => bytes[at + row * width + column],
                                _ => none(output),
                            }));
                        }
                    }
                }
            }
        }
        let dims = [
            groups * columns.len() * each,
            inputs,
            rows.len(),
            columns[0].len(),
        ];
        Tensor::from_vec(&dims[..], made).expect("a byte for each")
    }
}

/// The window that goes the other way, from the result to the operand, of an ordinary node.
fn window(op: &Op, x: &[usize], y: &[usize], w: &Tensor) -> Option<Window2> {
    let groups = usize::try_from(op.int("group", 1)).ok()?;
    let is_same = op.str("auto_pad").is_some_and(|s| s.starts_with("SAME"));
    let is_moved = op
        .ints("output_padding")
        .is_some_and(|pads| pads.iter().any(|&p| p != 0));
    let fits = (3..=4).contains(&x.len())
        && [y.len(), w.rank()] == [x.len(); 2]
        && ![x, y, w.dims()].concat().contains(&0)
        && groups > 0
        && w.dims()[0] == x[1]
        && x[1].is_multiple_of(groups)
        && w.dims()[1].checked_mul(groups) == Some(y[1])
        && op.attr("output_shape").is_none()
        && !(is_same && is_moved);
    let window = Window::of(op).filter(|_| fits)?;
    window.place(&y[2..], Some(&w.dims()[2..]))
}

/// The operand as the phases of both axes read it.
fn padding(home: &Home, phases: [&[Phase]; 2]) -> Padding {
    let input = match home.dims[2..] {
        [width] => [1, width],
        _ => [home.dims[2], home.dims[3]],
    };
    let corner = phases.map(|axis| {
        let before = axis.iter().map(|p| p.start.min(0).unsigned_abs());
        before.max().unwrap_or(0)
    });
    let size = [0, 1].map(|axis| {
        let ends = phases[axis].iter();
        let ends = ends.map(|p| corner[axis].saturating_add_signed(p.start) + p.reach());
        ends.max().unwrap_or(0)
    });
    Padding {
        input,
        channels: home.dims[1],
        corner,
        size,
    }
}

/// A bias as multiples of the scale of the sums, if the result, of steps of `step`, does not change much.
fn bias(bias: &Tensor, scales: &[f32], step: f32) -> Option<Vec<i32>> {
    let values = bias.as_slice::<f32>().ok()?;
    (values.len() == scales.len()).then_some(())?;
    let code = |(&value, &scale): (&f32, &f32)| {
        let (value, scale) = (f64::from(value), f64::from(scale));
        let code = (value / scale).round_ties_even();
        let fits = (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&code)
            && (code * scale - value).abs() <= MOST * f64::from(step);
        fits.then_some(code as i32)
    };
    values.iter().zip(scales).map(code).collect()
}

/// A ConvTranspose with the DequantizeLinear before it and the QuantizeLinear after it.
pub(in crate::program::steps) fn transposed(
    lowering: &mut Lowering<'_>,
    n: NodeId,
    op: &Op,
) -> Option<()> {
    let graph = lowering.graph;
    let x = graph.operand(n, 0)?.node;
    let from = dequantization_of(lowering, x, graph.op(x)?)?;
    let x = graph.operand(x, 0)?;
    let w = weight(lowering, graph.operand(n, 1)?)?;
    let (quantize, operand, next) = lowering.sole_user(graph.result(n, 0))?;
    let to = (operand == 0).then(|| quantization_of(lowering, quantize, next))??;
    let home = lowering.home(x)?;
    let (_, y_dims) = lowering.type_of(graph.result(n, 0))?;
    let window = window(op, &home.dims, &y_dims, &w.tensor)?;
    let (images, channels) = (home.dims[0], home.dims[1]);
    let (outputs, each) = (y_dims[1], w.tensor.dims()[1]);
    let groups = outputs / each;
    let scales: Vec<f32> = (0..outputs)
        .map(|c| from.scale * w.scales[c % each % w.scales.len()])
        .collect();
    let bias = match graph.operand(n, 2) {
        None => vec![0; outputs],
        Some(v) => bias(lowering.constant(v)?, &scales, to.scale)?,
    };
    let zeros = packed_zeros(w.zeros.as_ref(), w.signed, each)?;
    let [rows, columns] = [0, 1].map(|axis| window.strides[axis].min(window.input[axis]));
    (rows.saturating_mul(columns) <= MOST_PARTS / groups).then_some(())?;
    let [rows, columns] =
        [(0, rows), (1, columns)].map(|(axis, count)| phases(&window, axis, count));
    let x = lowering.channels_last(x)?;
    let padding = padding(&x, [&rows, &columns]);
    let [_, width] = window.input;
    let mut parts = Vec::new();
    for (top, row) in rows.iter().enumerate() {
        let mut left = 0;
        // Phases that meet the same elements are columns of one product.
        for beside in columns.chunk_by(|a, b| groups == 1 && a.is_beside(b)) {
            let column = &beside[0];
            let taps: Vec<_> = beside.iter().map(Phase::packed).collect();
            let tensor = w.of(groups, &row.packed(), &taps);
            let shape = Shape {
                window: Window2 {
                    input: padding.read_size(),
                    output: [row.count, column.count],
                    kernel: [tensor.dims()[2], tensor.dims()[3]],
                    strides: [1, 1],
                    dilations: [row.step, column.step],
                    begin: [0, 0],
                },
                images,
                channels,
                outputs: tensor.dims()[0],
                groups,
            };
            let met = padding.offset([row.start, column.start]);
            for g in 0..groups {
                let weights =
                    PackedWeights::new(&shape.weights(&tensor, w.signed, g), &mut lowering.weights);
                let of_group = |values: &[f32]| values[g * each..][..each].repeat(beside.len());
                let zero = zeros.repeat(beside.len());
                let bias = bias[g * each..][..each].repeat(beside.len());
                parts.push(Part {
                    left: met + g * (channels / groups),
                    geometry: shape.geometry_by_rows(),
                    offset: offsets(bias.into_iter(), from.zero, &weights, &zero),
                    weights,
                    zero,
                    scale: of_group(&scales).iter().map(|s| s / to.scale).collect(),
                    start: (top * width + left) * outputs + g * each,
                    strides: [
                        window.strides[0] * width * outputs,
                        window.strides[1] * outputs,
                    ],
                });
            }
            left += beside.len();
        }
    }
    let taps = window.kernel[0] * window.kernel[1] * each;
    let [height, width] = window.kernel;
    let kernel = Dense {
        what: format!("transposed conv {height}x{width}"),
        operations: 2 * (x.len() * taps) as u64,
        images,
        y_len: outputs * window.input[0] * window.input[1],
        padding,
        signed: from.signed,
        zero: from.zero as u8,
        parts,
        codes: Codes {
            zero: to.zero,
            bounds: to.bounds,
            added: None,
        },
    };
    w.tensor.release();
    lowering.absorb(quantize);
    lowering.push_result(
        n,
        quantize,
        Box::new(kernel),
        &[x.place],
        Layout::ChannelsLast,
    )
}
