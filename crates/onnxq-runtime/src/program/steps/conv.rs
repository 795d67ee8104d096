//! Convolutions of codes: products over rows in place, or stencils where each channel is alone.

use onnxq_ir::{NodeId, Op};
use onnxq_kernels::{Cpu, Geometry, Line, Weights, bytes_mut};
use onnxq_ops::EvalError;
use onnxq_tensor::DType;

use super::{
    Kernel,
    elementwise::{Quantization, byte_bounds},
    product::{
        Added, Finish, PackedWeights, Rows, Task, offsets, packed_zeros, product_name, task_scratch,
    },
};
use crate::{
    plan::{Window, Window2},
    program::{
        Place,
        call::Call,
        lower::{Layout, Lowering},
    },
};

/// A convolution with all its sizes.
struct Conv {
    window: Window2,
    images: usize,
    /// Channels in all.
    channels: usize,
    outputs: usize,
    signed: bool,
    /// The zero point of the operand: what stands in the padding.
    padding: u8,
    groups: Vec<Group>,
    scale: Vec<f32>,
    zero: i32,
    bounds: [i32; 2],
    added: Option<Added>,
}

/// The weights of one group.
struct Group {
    weights: PackedWeights,
    offset: Vec<i32>,
    zero: Vec<i32>,
}

/// QLinearConv, perhaps with the QLinearAdd that follows.
pub(super) fn qlinear(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let graph = lowering.graph;
    let x = graph.operand(n, 0)?;
    let (x_scale, w_scales, y_scale) = (
        lowering.scalar(n, 1)?,
        lowering
            .constant_operand(n, 4)?
            .as_slice::<f32>()
            .ok()?
            .into_owned(),
        lowering.scalar(n, 6)?,
    );
    let (x_zero, zero) = (lowering.zero_point(n, 2)?, lowering.zero_point(n, 7)?);
    let (y_dtype, y_dims) = lowering.type_of(graph.result(n, 0))?;
    let bounds = byte_bounds(y_dtype)?;
    let x_dtype = lowering.home(x)?.dtype;
    byte_bounds(x_dtype)?;
    let w = lowering.constant_operand(n, 3)?.clone();
    byte_bounds(w.dtype())?;
    let x_dims = lowering.home(x)?.dims.clone();
    let group_count = usize::try_from(op.int("group", 1))
        .ok()
        .filter(|&g| g > 0)?;
    let rank = x_dims.len();
    let fits = (3..=4).contains(&rank)
        && w.rank() == rank
        && !w.dims().contains(&0)
        && w.dims()[0].is_multiple_of(group_count)
        && w.dims()[1] * group_count == x_dims[1];
    let window = Window::of(op).filter(|_| fits)?;
    let window = window.place(&x_dims[2..], Some(&w.dims()[2..]))?;
    let outputs = w.dims()[0];
    let scale: Vec<f32> = match w_scales.len() {
        1 => vec![x_scale * w_scales[0] / y_scale; outputs],
        len if len == outputs => w_scales.iter().map(|w| x_scale * w / y_scale).collect(),
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
    let w_signed = w.dtype() == DType::I8;
    let w_zeros = packed_zeros(lowering.constant_operand(n, 5), w_signed, outputs)?;
    let each = outputs / group_count;
    let groups = (0..group_count).map(|g| {
        let columns = g * each..(g + 1) * each;
        let weights =
            PackedWeights::new(&conv_weights(&w, w_signed, [g, group_count], each, &window));
        let zero = w_zeros.get(columns.clone()).unwrap_or_default().to_vec();
        let offset = offsets(bias[columns].iter().copied(), x_zero, &weights, &zero);
        Group {
            weights,
            offset,
            zero,
        }
    });
    let groups = groups.collect();
    w.release();
    let mut conv = Conv {
        window,
        images: x_dims[0],
        channels: x_dims[1],
        outputs,
        signed: x_dtype == DType::I8,
        padding: x_zero as u8,
        groups,
        scale,
        zero,
        bounds,
        added: None,
    };
    if y_dims.contains(&0) {
        return None;
    }
    let x = lowering.channels_last(x)?;
    let y = Quantization {
        scale: y_scale,
        zero,
    };
    let mut last = n;
    let mut operands = vec![x.place];
    if let Some((add, other, added)) = residual(lowering, n, y) {
        last = add;
        operands.push(other);
        conv.added = Some(added);
        lowering.absorb(add);
    }
    lowering.push_result(n, last, Box::new(conv), &operands, Layout::ChannelsLast)
}

/// Whether the bytes that a row of the window meets lie together: they do not where it is dilated, or
/// where there are channels of other groups between them.
fn whole_rows(window: &Window2, groups: usize) -> bool {
    window.dilations[1] == 1 && groups == 1
}

/// The weights of one of several groups: a segment for each row of the window, or for each position
/// of it.
fn conv_weights<'a>(
    w: &'a onnxq_tensor::Tensor,
    signed: bool,
    [group, groups]: [usize; 2],
    columns: usize,
    window: &Window2,
) -> Weights<'a> {
    let (inputs, [height, width]) = (w.dims()[1], window.kernel);
    let positions = height * width;
    let whole_rows = whole_rows(window, groups);
    Weights {
        data: &w.bytes()[group * columns * inputs * positions..],
        signed,
        columns,
        segments: if whole_rows { height } else { positions },
        depth: [if whole_rows { width } else { 1 }, inputs],
        strides: [
            inputs * positions,
            if whole_rows { width } else { 1 },
            1,
            positions,
        ],
    }
}

/// The QLinearAdd that alone uses the result of `n`, if its other operand is there already.
fn residual(
    lowering: &mut Lowering<'_>,
    n: NodeId,
    product: Quantization,
) -> Option<(NodeId, Place, Added)> {
    let result = lowering.graph.result(n, 0);
    let (add, operand, op) = lowering.sole_user(result)?;
    let is_add = op.domain == "com.microsoft" && op.op_type == "QLinearAdd";
    if !is_add || !matches!(operand, 0 | 3) {
        return None;
    }
    let (of_product, of_other) = match operand {
        0 => (0, 3),
        _ => (3, 0),
    };
    let quantization = |at: usize| {
        Some(Quantization {
            scale: lowering.scalar(add, at + 1)?,
            zero: lowering.zero_point(add, at + 2)?,
        })
    };
    // The sum must take the product for what it is.
    let [first, other, sum] = [of_product, of_other, 5].map(|at| match at {
        5 => Some(Quantization {
            scale: lowering.scalar(add, 6)?,
            zero: lowering.zero_point(add, 7)?,
        }),
        at => quantization(at),
    });
    let (first, other_of, sum) = (first?, other?, sum?);
    if first != product {
        return None;
    }
    let v = lowering.graph.operand(add, of_other)?;
    let (y_dtype, y_dims) = lowering.type_of(lowering.graph.result(add, 0))?;
    let bounds = byte_bounds(y_dtype)?;
    let home = lowering.home(v)?;
    let same = home.dims == y_dims && lowering.type_of(result)?.1 == y_dims;
    byte_bounds(home.dtype).filter(|_| same)?;
    let other = lowering.channels_last(v)?;
    let added = Added {
        operand: 1,
        signed: other.dtype == DType::I8,
        scales: [first.scale, other_of.scale, sum.scale],
        zeros: [other_of.zero, sum.zero],
        bounds,
    };
    Some((add, other.place, added))
}

impl Conv {
    /// The image with its padding: height and width.
    fn padded(&self) -> [usize; 2] {
        let w = &self.window;
        [0, 1].map(|axis| {
            let reach = (w.kernel[axis] - 1) * w.dilations[axis] + 1;
            (w.output[axis] - 1) * w.strides[axis] + reach
        })
    }

    /// Whether the operand can be read where it is.
    fn in_place(&self) -> bool {
        let padded = self.padded();
        self.window.begin == [0, 0] && (0..2).all(|axis| padded[axis] <= self.window.input[axis])
    }

    /// Bytes of a row of the image that products read, and of the whole image.
    fn image(&self) -> [usize; 2] {
        let [height, width] = match self.in_place() {
            true => self.window.input,
            false => self.padded(),
        };
        [width * self.channels, height * width * self.channels]
    }

    fn geometry(&self) -> Geometry {
        let (w, pitch) = (&self.window, self.image()[0]);
        let inputs = self.channels / self.groups.len();
        let whole_rows = whole_rows(w, self.groups.len());
        let pointwise = w.kernel == [1, 1] && w.strides == [1, 1] && self.in_place();
        if pointwise && w.input == w.output {
            return Geometry::matrix(w.output[0] * w.output[1], inputs, self.channels);
        }
        let (inner, depth) = match whole_rows {
            true => (1, w.kernel[1] * self.channels),
            false => (w.kernel[1], inputs),
        };
        Geometry {
            runs: w.output[0],
            run_len: w.output[1],
            run_stride: w.strides[0] * pitch,
            row_stride: w.strides[1] * self.channels,
            segments: [w.kernel[0], inner],
            segment_strides: [w.dilations[0] * pitch, w.dilations[1] * self.channels],
            depth,
        }
    }

    /// Writes the image with its padding.
    fn pad(&self, x: &[u8], to: &mut [u8]) {
        let w = &self.window;
        let [height, width] = self.padded();
        let c = self.channels;
        let [top, left] = w.begin;
        let columns = w.input[1].min(width - left.min(width));
        for y in 0..height {
            let row = &mut to[y * width * c..][..width * c];
            match y.checked_sub(top).filter(|&y| y < w.input[0]) {
                None => row.fill(self.padding),
                Some(from) => {
                    let (before, rest) = row.split_at_mut(left * c);
                    let (middle, after) = rest.split_at_mut(columns * c);
                    before.fill(self.padding);
                    middle.copy_from_slice(&x[from * w.input[1] * c..][..columns * c]);
                    after.fill(self.padding);
                }
            }
        }
    }
}

impl Kernel for Conv {
    fn name(&self, cpu: Cpu) -> String {
        let [height, width] = self.window.kernel;
        let add = if self.added.is_some() { "+add" } else { "" };
        let group = match self.groups.len() {
            1 => String::new(),
            n => format!(" in {n} groups"),
        };
        product_name(
            &format!("conv{add} {height}x{width}{group}"),
            self.signed,
            cpu,
        )
    }

    fn operations(&self) -> u64 {
        let positions = self.window.output[0] * self.window.output[1] * self.images;
        let depth = self.groups.first().map_or(0, |g| g.weights.column_len());
        2 * (positions * self.outputs * depth) as u64
    }

    fn scratch(&self, threads: usize) -> usize {
        let image = match self.in_place() {
            true => 0,
            false => Line::count(self.image()[1]),
        };
        let products = self
            .groups
            .iter()
            .map(|g| task_scratch(&g.weights, threads));
        image + products.max().unwrap_or(0)
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y) = (call.bytes(0), call.result(0));
        let other = match self.added {
            Some(added) => call.bytes(added.operand),
            None => &[],
        };
        let scratch = std::mem::take(&mut call.scratch);
        let image = match self.in_place() {
            true => 0,
            false => Line::count(self.image()[1]),
        };
        let (padded, scratch) = scratch.split_at_mut(image);
        let w = &self.window;
        let x_len = w.input[0] * w.input[1] * self.channels;
        let y_len = w.output[0] * w.output[1] * self.outputs;
        let geometry = self.geometry();
        let each = self.outputs / self.groups.len();
        for i in 0..self.images {
            let left = match self.in_place() {
                true => &x[i * x_len..],
                false => {
                    let padded = bytes_mut(padded);
                    self.pad(&x[i * x_len..][..x_len], padded);
                    &*padded
                }
            };
            for (g, group) in self.groups.iter().enumerate() {
                let columns = g * each..(g + 1) * each;
                let task = Task {
                    weights: &group.weights,
                    left: &left[g * self.channels / self.groups.len()..],
                    signed: self.signed,
                    geometry,
                    strides: [w.output[1] * self.outputs, self.outputs],
                    offset: &group.offset,
                    zero: &group.zero,
                    finish: Finish::Bytes {
                        scale: &self.scale[columns.clone()],
                        zero: self.zero,
                        bounds: self.bounds,
                        added: self.added,
                    },
                };
                let at = i * y_len + columns.start;
                let part = &mut y[i * y_len..(i + 1) * y_len][columns.start..];
                task.run(
                    call,
                    scratch,
                    Rows::Bytes(part),
                    other.get(at..).unwrap_or_default(),
                );
            }
        }
        Ok(())
    }
}
