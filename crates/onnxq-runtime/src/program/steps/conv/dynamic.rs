//! Convolutions of codes whose scale and zero point are computed, to floats.

use std::ops::Range;

use onnxq_ir::{NodeId, Op};
use onnxq_kernels::{Activation, Cpu, Dequantize, Line, UNBOUNDED, bytes_mut, zero_offsets};
use onnxq_ops::EvalError;
use onnxq_tensor::{DType, Tensor};

use super::{Shape, depthwise::Columns, product::slice_from, write_images};
use crate::{
    plan::{Epilogue, NodeContext},
    program::{
        call::Call,
        lower::{Layout, Lowering},
        source::{Code, Expr, Written, record},
        steps::{
            Kernel,
            elementwise::{byte_bounds, code},
            padding::Operand,
            product::{
                Finish, PackedWeights, Rows, Task, column_lines, packed_zeros, product_name,
                task_scratch, write_columns, write_dynamic_operands, write_floats, write_product,
                write_run,
            },
        },
        store::Store,
    },
};

/// Leaves a ConvInteger to the DequantizeLinear that alone uses it.
pub(in crate::program::steps) fn defer(
    lowering: &mut Lowering<'_>,
    n: NodeId,
    op: &Op,
) -> Option<()> {
    let (user, operand, next) = lowering.sole_user(lowering.graph.result(n, 0))?;
    (next.is("DequantizeLinear") && operand == 0).then_some(())?;
    let zero = lowering.graph.operand(user, 2);
    let centered = zero.is_none_or(|_| lowering.zero_point(user, 2) == Some(0));
    centered.then_some(())?;
    product_of(lowering, n, op)?;
    lowering.absorb(n);
    Some(())
}

/// The sizes and the weights of a ConvInteger that there is a kernel for, with the zero points of
/// these.
fn product_of(lowering: &Lowering<'_>, n: NodeId, op: &Op) -> Option<(Shape, Tensor, Vec<i32>)> {
    let x = lowering.operand(n, 0)?;
    byte_bounds(x.dtype)?;
    let w = lowering.constant_operand(n, 1)?.clone();
    let signed = byte_bounds(w.dtype())?[0] < 0;
    let shape = Shape::of(op, x, &w)?;
    let zero = match lowering.graph.operand(n, 3) {
        None => None,
        Some(_) => Some(lowering.constant_operand(n, 3)?),
    };
    let zeros = packed_zeros(zero, signed, shape.outputs)?;
    Some((shape, w, zeros))
}

/// A convolution to floats.
struct Dynamic {
    shape: Shape,
    signed: bool,
    weights: Weights,
    /// Whether operand 2 is the zero point of the operand.
    has_zero: bool,
    /// Whether the scale has an element for each channel.
    by_channel: bool,
    bias: Vec<f32>,
    activation: Activation,
}

enum Weights {
    Groups(Vec<Group>),
    Depthwise(Columns),
}

struct Group {
    weights: PackedWeights,
    zeros: Vec<i32>,
}

impl Weights {
    fn new(shape: &Shape, w: &Tensor, zeros: &[i32], store: &mut Store) -> Weights {
        let signed = w.dtype() == DType::I8;
        if shape.is_depthwise() {
            return Weights::Depthwise(Columns::new(shape, w, zeros, signed));
        }
        let each = shape.outputs / shape.groups;
        let groups = (0..shape.groups).map(|g| Group {
            weights: PackedWeights::new(&shape.weights(w, signed, g), store),
            zeros: zeros
                .get(g * each..(g + 1) * each)
                .unwrap_or_default()
                .to_vec(),
        });
        Weights::Groups(groups.collect())
    }
}

/// DequantizeLinear of a ConvInteger, perhaps with the bias and the clamp that follow.
pub(in crate::program::steps) fn dequantize(
    lowering: &mut Lowering<'_>,
    n: NodeId,
    op: &Op,
) -> Option<()> {
    let graph = lowering.graph;
    let product = graph.operand(n, 0)?.node;
    let conv = graph.op(product)?;
    if !conv.is("ConvInteger") || !lowering.is_done(product) {
        return None;
    }
    let (shape, w, zeros) = product_of(lowering, product, conv)?;
    let scale = lowering.operand(n, 1)?.clone();
    let by_channel = match scale.len() {
        1 => false,
        len => (len == shape.outputs && op.int("axis", 1) == 1).then_some(true)?,
    };
    let x = lowering.channels_last(graph.operand(product, 0)?)?;
    let mut places = vec![x.place, scale.place];
    let has_zero = match graph.operand(product, 2) {
        None => false,
        Some(v) => {
            let zero = lowering.home(v)?;
            (zero.len() == 1 && zero.dtype == x.dtype).then_some(())?;
            places.push(zero.place);
            true
        }
    };
    let mut last = n;
    let bias = bias(lowering, last, shape.outputs);
    if let Some((add, _)) = &bias {
        lowering.absorb(*add);
        last = *add;
    }
    let mut activation = Activation::Identity;
    if let Some((user, bounds)) = clamp(lowering, last) {
        activation = bounds;
        lowering.absorb(user);
        last = user;
    }
    let kernel = Dynamic {
        weights: Weights::new(&shape, &w, &zeros, &mut lowering.weights),
        shape,
        signed: x.dtype == DType::I8,
        has_zero,
        by_channel,
        bias: bias.map(|(_, bias)| bias).unwrap_or_default(),
        activation,
    };
    w.release();
    lowering.push_result(
        product,
        last,
        Box::new(kernel),
        &places,
        Layout::ChannelsLast,
    )
}

/// The Add of a constant for each channel that alone uses the result of `n`.
fn bias(lowering: &Lowering<'_>, n: NodeId, channels: usize) -> Option<(NodeId, Vec<f32>)> {
    let result = lowering.graph.result(n, 0);
    let (add, operand, op) = lowering.sole_user(result)?;
    let other = lowering.constant_operand(add, 1 - operand.min(1))?;
    let (_, dims) = lowering.type_of(result)?;
    // The channels meet axis 1 of the result.
    let axis = (other.rank() + 1).checked_sub(dims.len())?;
    let fits = op.is("Add")
        && other.len() == channels
        && other.dims().get(axis) == Some(&channels)
        && lowering.type_of(lowering.graph.result(add, 0))?.1 == dims;
    fits.then_some(())?;
    Some((add, other.as_slice::<f32>().ok()?.into_owned()))
}

/// The Relu or Clip that alone uses the result of `n`.
fn clamp(lowering: &Lowering<'_>, n: NodeId) -> Option<(NodeId, Activation)> {
    let (user, operand, op) = lowering.sole_user(lowering.graph.result(n, 0))?;
    let cx = NodeContext {
        graph: lowering.graph,
        node: user,
        op,
        opset: lowering.model.opsets.get("").copied().unwrap_or(1),
        known: lowering,
        epilogue: Epilogue::default(),
    };
    let clamp = (operand == 0 && op.domain.is_empty()).then(|| cx.as_clamp())??;
    let low = clamp.min.unwrap_or(f32::NEG_INFINITY);
    let high = clamp.max.unwrap_or(f32::INFINITY);
    Some((user, Activation::Clamp(low, high)))
}

impl Kernel for Dynamic {
    fn name(&self, cpu: Cpu) -> String {
        product_name(
            &format!("dynamic conv {}", self.shape.name()),
            self.signed,
            cpu,
        )
    }

    fn operations(&self) -> u64 {
        self.shape.operations()
    }

    fn scratch(&self, threads: usize) -> usize {
        match &self.weights {
            Weights::Depthwise(columns) => {
                column_lines(self.shape.channels) + columns.scratch(threads)
            }
            Weights::Groups(groups) => {
                let products = groups.iter().map(|g| task_scratch(&g.weights, threads));
                let columns = column_lines(self.shape.outputs / self.shape.groups);
                self.shape.padding().lines() + columns + products.max().unwrap_or(0)
            }
        }
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let zero = match self.has_zero {
            true => code(call.bytes(2)[0], self.signed),
            false => 0,
        };
        let scale = match self.by_channel {
            true => call.floats(1)[..self.shape.outputs].to_vec(),
            false => vec![call.floats(1)[0]; self.shape.outputs],
        };
        match &self.weights {
            Weights::Groups(groups) => self.products(groups, call, zero, &scale),
            Weights::Depthwise(columns) => self.depthwise(columns, call, zero, &scale),
        }
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let zero = write_dynamic_operands(code, self.has_zero, self.signed);
        code.bind("zero", zero);
        match &self.weights {
            Weights::Groups(groups) => self.write_products(groups, code),
            Weights::Depthwise(columns) => self.write_depthwise(columns, code),
        }
        Ok(())
    }
}

impl Dynamic {
    fn write_depthwise(&self, columns: &Columns, code: &mut Code<'_>) {
        let shape = &self.shape;
        let channels = shape.channels;
        columns.write_columns(code, self.by_channel);
        let bounds = match self.activation {
            Activation::Clamp(low, high) => [low, high],
            _ => UNBOUNDED,
        };
        let bias = code.floats(&self.bias);
        let to = record!(Dequantize {
            scale: "scales",
            bias: bias,
            bounds: bounds,
        });
        code.bind("to", to);
        let lens = shape.image_lens();
        let y_len = lens[1];
        write_images(code, shape.images, lens, false, |code| {
            columns.write(code, shape, self.signed, "zero as u8", "offset");
            let arguments = vec![
                code.cpu(),
                format!("0..{}", y_len / (shape.window.output[1] * channels)).into(),
                format!("&mut y[..{y_len}]").into(),
                "&to".into(),
                code.scratch(),
            ];
            code.call("conv.run_floats", arguments);
        });
    }

    fn write_products(&self, groups: &[Group], code: &mut Code<'_>) {
        let shape = &self.shape;
        let each = shape.outputs / shape.groups;
        write_images(code, shape.images, shape.image_lens(), false, |code| {
            let left = shape.padding().write(code, "zero as u8");
            for (g, group) in groups.iter().enumerate() {
                let columns = g * each..(g + 1) * each;
                // A group's names are its own.
                if groups.len() > 1 {
                    code.open("");
                }
                let scale = match self.by_channel {
                    true => format!("&scale[{}..{}]", columns.start, columns.end),
                    false => "&scale[..1]".to_owned(),
                };
                let zeros = code.integers(&group.zeros);
                write_columns(code, &group.weights, zeros.clone(), &[], "zero", &scale);
                let left = slice_from(left, "&", g * shape.channels / shape.groups);
                let right = group.weights.write(code);
                let geometry = shape.geometry();
                write_product(
                    code,
                    left,
                    self.signed,
                    &geometry,
                    right,
                    shape.result_strides(),
                    "offset",
                    zeros,
                );
                if columns.start > 0 {
                    code.bind("y", slice_from("y", "&mut ", columns.start));
                }
                let bias: Expr = code.floats(self.bias.get(columns).unwrap_or_default());
                write_floats(code, "scales", bias, self.activation);
                write_run(code, "output");
                if groups.len() > 1 {
                    code.close();
                }
            }
        });
    }

    fn depthwise(&self, columns: &Columns, call: &mut Call<'_>, zero: i32, scale: &[f32]) {
        let (x, y, cpu) = (call.bytes(0), call.result_floats(0), call.cpu);
        let (shape, signed) = (&self.shape, self.signed);
        let to = Dequantize {
            scale,
            bias: &self.bias,
            bounds: match self.activation {
                Activation::Clamp(low, high) => [low, high],
                _ => UNBOUNDED,
            },
        };
        let offset = columns.offsets(std::iter::repeat_n(0, shape.channels), zero);
        let part = |kernel: &onnxq_kernels::Depthwise<'_>,
                    rows: Range<usize>,
                    _: usize,
                    y: &mut [f32],
                    scratch: &mut [Line]| {
            kernel.run_floats(cpu, rows, y, &to, scratch);
        };
        columns.run(shape, call, x, signed, zero, &offset, y, part);
    }

    fn products(&self, groups: &[Group], call: &mut Call<'_>, zero: i32, scale: &[f32]) {
        let (x, y, shape) = (call.bytes(0), call.result_floats(0), &self.shape);
        let scratch = std::mem::take(&mut call.scratch);
        let padding = shape.padding();
        let (padded, scratch) = scratch.split_at_mut(padding.lines());
        let padded = bytes_mut(padded);
        let each = shape.outputs / shape.groups;
        let (offset, scratch) = scratch.split_at_mut(column_lines(each));
        let offset = &mut bytemuck::cast_slice_mut(bytes_mut(offset))[..each];
        let [x_len, y_len] = shape.image_lens();
        let geometry = shape.geometry();
        for i in 0..shape.images {
            let left = padding.of(&x[i * x_len..], zero as u8, padded);
            for (g, group) in groups.iter().enumerate() {
                let columns = g * each..(g + 1) * each;
                let (sums, depth) = (&group.weights.sums, group.weights.column_len());
                zero_offsets(zero, sums, &group.zeros, depth, offset);
                let task = Task {
                    weights: &group.weights,
                    left: Operand::Bytes(&left[g * shape.channels / shape.groups..]),
                    signed: self.signed,
                    geometry,
                    strides: shape.result_strides(),
                    offset,
                    zero: &group.zeros,
                    finish: Finish::Floats {
                        scale: &scale[columns.clone()],
                        bias: self.bias.get(columns.clone()).unwrap_or_default(),
                        activation: self.activation,
                    },
                };
                let part = &mut y[i * y_len..(i + 1) * y_len][columns.start..];
                task.run(call, scratch, Rows::Floats(part), None);
            }
        }
    }
}
