//! Matrix products of codes, static and dynamic.

use onnxq_ir::{NodeId, Op, ValueId};
use onnxq_kernels::{Activation, Cpu, Geometry, Weights, bytes_mut, column_scales, zero_offsets};
use onnxq_ops::EvalError;
use onnxq_tensor::{DType, Tensor};

use super::{
    Kernel,
    added::{Added, following},
    elementwise::{Quantization, byte_bounds},
    padding::Operand,
    product::{
        Finish, PackedWeights, Rows, Task, column_lines, offsets, packed_zeros, product_name,
        task_scratch, write_columns, write_dynamic_operands, write_floats, write_product,
        write_requantize, write_run,
    },
};
use crate::program::{
    call::Call,
    lower::{Home, Layout, Lowering},
    source::{Code, Written},
};

/// `rows` × depth codes by packed weights, to codes.
struct Static {
    weights: PackedWeights,
    rows: usize,
    signed: bool,
    offset: Vec<i32>,
    weight_zero: Vec<i32>,
    scale: Vec<f32>,
    /// Zero point and bounds of codes; floats where there are none.
    to: Option<(i32, [i32; 2])>,
    /// What is added to the codes.
    added: Option<Added>,
}

/// Rows and depth of a left operand whose last axis is the depth.
fn rows(home: &Home, depth: usize) -> Option<usize> {
    let (&last, before) = home.dims.split_last()?;
    (last == depth && depth > 0).then(|| before.iter().product())
}

fn matrix(w: &Tensor, transposed: bool) -> Option<(Weights<'_>, bool)> {
    let signed = byte_bounds(w.dtype())?[0] < 0;
    let &[k, n] = w.dims() else { return None };
    let weights = match transposed {
        true => Weights::transposed(w.bytes(), signed, n, k),
        false => Weights::matrix(w.bytes(), signed, k, n),
    };
    (k > 0 && n > 0).then_some((weights, signed))
}

/// QLinearMatMul with a constant matrix on the right.
pub(super) fn qlinear(lowering: &mut Lowering<'_>, n: NodeId, _: &Op) -> Option<()> {
    let w = lowering.constant_operand(n, 3)?.clone();
    let (weights, w_signed) = matrix(&w, false)?;
    let bias = vec![0; weights.columns];
    lower_static(lowering, n, &weights, w_signed, [1, 2, 4, 5, 6, 7], &bias)?;
    w.release();
    Some(())
}

/// QGemm with a constant matrix on the right.
pub(super) fn qgemm(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    if op.int("transA", 0) != 0 || op.float("alpha", 1.0) != 1.0 {
        return None;
    }
    let w = lowering.constant_operand(n, 3)?.clone();
    let (weights, w_signed) = matrix(&w, op.int("transB", 0) != 0)?;
    let bias = match lowering.graph.operand(n, 6) {
        None => vec![0; weights.columns],
        Some(_) => {
            let bias = lowering
                .constant_operand(n, 6)?
                .as_slice::<i32>()
                .ok()?
                .into_owned();
            match bias.len() {
                1 => vec![bias[0]; weights.columns],
                len if len == weights.columns => bias,
                _ => return None,
            }
        }
    };
    lower_static(lowering, n, &weights, w_signed, [1, 2, 4, 5, 7, 8], &bias)?;
    w.release();
    Some(())
}

/// `at`: operands that are scale and zero point of the left side, the right side and the result.
fn lower_static(
    lowering: &mut Lowering<'_>,
    n: NodeId,
    weights: &Weights<'_>,
    w_signed: bool,
    at: [usize; 6],
    bias: &[i32],
) -> Option<()> {
    let graph = lowering.graph;
    let (x_scale, x_zero) = (lowering.scalar(n, at[0])?, lowering.zero_point(n, at[1])?);
    let columns = weights.columns;
    let w_scales = lowering
        .constant_operand(n, at[2])?
        .as_slice::<f32>()
        .ok()?
        .into_owned();
    let weight_zero = packed_zeros(lowering.constant_operand(n, at[3]), w_signed, columns)?;
    let (dtype, _) = lowering.type_of(graph.result(n, 0))?;
    let to = match dtype {
        DType::F32 => None,
        dtype => Some((lowering.zero_point(n, at[5])?, byte_bounds(dtype)?)),
    };
    let y_scale = match to {
        Some(_) => Some(lowering.scalar(n, at[4])?),
        None => None,
    };
    let combined = |w: f32| match y_scale {
        Some(y) => x_scale * w / y,
        None => x_scale * w,
    };
    let scale: Vec<f32> = match w_scales.len() {
        1 => vec![combined(w_scales[0]); columns],
        len if len == columns => w_scales.iter().map(|&w| combined(w)).collect(),
        _ => return None,
    };
    let x = lowering.plain(graph.operand(n, 0)?)?;
    byte_bounds(x.dtype)?;
    let rows = rows(&x, weights.segment_depth())?;
    let weights = PackedWeights::new(weights, &mut lowering.weights);
    let product = to
        .zip(y_scale)
        .map(|((zero, _), scale)| Quantization { scale, zero });
    let (mut last, mut operands) = (n, vec![x.place]);
    let add = product.and_then(|product| following(lowering, n, product, Layout::Plain));
    let added = add.map(|(add, other, added)| {
        lowering.absorb(add);
        last = add;
        operands.push(other);
        added
    });
    let kernel = Static {
        added,
        offset: offsets(bias.iter().copied(), x_zero, &weights, &weight_zero),
        weights,
        rows,
        signed: x.dtype == DType::I8,
        weight_zero,
        scale,
        to,
    };
    lowering.push_result(n, last, Box::new(kernel), &operands, Layout::Plain)
}

impl Kernel for Static {
    fn name(&self, cpu: Cpu) -> String {
        let what = match self.added {
            Some(_) => "matmul+add",
            None => "matmul",
        };
        product_name(what, self.signed, cpu)
    }

    fn overwritable(&mut self) -> Option<&mut Option<usize>> {
        self.added.as_mut()?.overwritable()
    }

    fn operations(&self) -> u64 {
        2 * (self.rows * self.weights.columns * self.weights.column_len()) as u64
    }

    fn scratch(&self, threads: usize) -> usize {
        task_scratch(&self.weights, threads)
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y) = (call.bytes(0), call.result(0));
        let depth = self.weights.column_len();
        let len = self.rows * self.weights.columns;
        let (finish, y) = match self.to {
            Some((zero, bounds)) => {
                let finish = Finish::Bytes {
                    scale: &self.scale,
                    zero,
                    bounds,
                    added: self.added,
                };
                (finish, Rows::Bytes(&mut y[..len]))
            }
            None => {
                let finish = Finish::Floats {
                    scale: &self.scale,
                    bias: &[],
                    activation: Activation::Identity,
                };
                (
                    finish,
                    Rows::Floats(&mut bytemuck::cast_slice_mut(y)[..len]),
                )
            }
        };
        let task = Task {
            weights: &self.weights,
            left: Operand::Bytes(x),
            signed: self.signed,
            geometry: Geometry::matrix(self.rows, depth, depth),
            strides: [0, self.weights.columns],
            offset: &self.offset,
            zero: &self.weight_zero,
            finish,
        };
        let other = self.added.and_then(|added| added.operand);
        let other = other.map(|operand| call.bytes(operand));
        let scratch = std::mem::take(&mut call.scratch);
        task.run(call, scratch, y, other);
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let (depth, columns) = (self.weights.column_len(), self.weights.columns);
        code.operand(0, "x", "u8");
        if let Some(operand) = self.added.and_then(|added| added.operand) {
            code.operand(operand, "other", "u8");
        }
        code.result(0, "y", if self.to.is_some() { "u8" } else { "f32" });
        let right = self.weights.write(code);
        let (offset, zero) = (
            code.integers(&self.offset),
            code.integers(&self.weight_zero),
        );
        let geometry = Geometry::matrix(self.rows, depth, depth);
        let strides = [0, columns];
        write_product(
            code,
            "x",
            self.signed,
            &geometry,
            right,
            strides,
            offset,
            zero,
        );
        match self.to {
            Some((zero, bounds)) => {
                let added = self.added.map(|added| (added, "other".into()));
                write_requantize(code, &self.scale, zero, bounds, added);
                write_run(code, "Output::Bytes(y, requantize)");
            }
            None => {
                let scale = code.floats(&self.scale);
                write_floats(code, scale, "&[]", Activation::Identity);
                write_run(code, "output");
            }
        }
        Ok(())
    }
}

/// Leaves a MatMulInteger to the DequantizeLinear that alone uses it.
pub(super) fn defer(lowering: &mut Lowering<'_>, n: NodeId, _: &Op) -> Option<()> {
    let (user, operand, op) = lowering.sole_user(lowering.graph.result(n, 0))?;
    let fits = op.is("DequantizeLinear") && operand == 0;
    fits.then_some(())?;
    product_of(lowering, n)?;
    // The sums must have no zero point of their own.
    let zero = lowering.graph.operand(user, 2);
    zero.is_none_or(|_| lowering.zero_point(user, 2) == Some(0))
        .then_some(())?;
    lowering.absorb(n);
    Some(())
}

/// Whether there is a kernel for a MatMulInteger with floats for a result.
fn product_of(lowering: &Lowering<'_>, n: NodeId) -> Option<()> {
    let w = lowering.constant_operand(n, 1)?;
    let (weights, signed) = matrix(w, false)?;
    if lowering.graph.operand(n, 3).is_some() {
        packed_zeros(
            Some(lowering.constant_operand(n, 3)?),
            signed,
            weights.columns,
        )?;
    }
    let x = lowering.operand(n, 0)?;
    byte_bounds(x.dtype)?;
    rows(x, weights.segment_depth())?;
    Some(())
}

/// Codes whose scale and zero point are computed, by packed weights, to floats.
struct Dynamic {
    weights: PackedWeights,
    rows: usize,
    signed: bool,
    weight_zero: Vec<i32>,
    /// Whether operand 2 is the zero point of the left operand.
    has_zero: bool,
    /// Elements of the scale: one, or one for each column.
    scales: usize,
    /// What it is multiplied by: nothing, one number, or one for each column.
    weight_scale: Vec<f32>,
    bias: Vec<f32>,
    activation: Activation,
}

/// DequantizeLinear of a MatMulInteger, perhaps with the bias and the activation that follow.
pub(super) fn dynamic(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let graph = lowering.graph;
    let product = graph.operand(n, 0)?.node;
    if !graph.op(product)?.is("MatMulInteger") || !lowering.is_done(product) {
        return None;
    }
    product_of(lowering, product)?;
    let w = lowering.constant_operand(product, 1)?.clone();
    let (weights, w_signed) = matrix(&w, false)?;
    let columns = weights.columns;
    let weight_zero = packed_zeros(lowering.constant_operand(product, 3), w_signed, columns)?;
    let x = lowering.plain(graph.operand(product, 0)?)?;
    let rank = x.dims.len() as i64;
    let scale = graph.operand(n, 1)?;
    let axis = op.int("axis", 1);
    let whole = |len: usize| len == 1 || (len == columns && (axis == -1 || axis == rank - 1));
    whole(lowering.home(scale)?.len()).then_some(())?;
    // The product of the scale of the left side and that of the weights is part of this step.
    let (scale, weight_scale) = factors(lowering, scale).unwrap_or((scale, vec![]));
    let scale = lowering.home(scale)?;
    let scales = scale.len();
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
    let bias = bias(lowering, last, columns);
    if let Some((add, _)) = &bias {
        lowering.absorb(*add);
        last = *add;
    }
    let mut activation = Activation::Identity;
    if let Some((user, _, op)) = lowering.sole_user(graph.result(last, 0)) {
        let found = match op.op_type.as_str() {
            _ if !op.domain.is_empty() => None,
            "Relu" => Some(Activation::Clamp(0.0, f32::INFINITY)),
            "Gelu" => match op.str("approximate") {
                Some("tanh") => Some(Activation::GeluTanh),
                _ => Some(Activation::Gelu),
            },
            "Sigmoid" => Some(Activation::Sigmoid),
            "Tanh" => Some(Activation::Tanh),
            _ => None,
        };
        if let Some(found) = found {
            activation = found;
            lowering.absorb(user);
            last = user;
        }
    }
    let kernel = Dynamic {
        rows: rows(&x, weights.segment_depth())?,
        weights: PackedWeights::new(&weights, &mut lowering.weights),
        signed: x.dtype == DType::I8,
        weight_zero,
        has_zero,
        scales,
        weight_scale,
        bias: bias.map(|(_, bias)| bias).unwrap_or_default(),
        activation,
    };
    w.release();
    lowering.push_result(product, last, Box::new(kernel), &places, Layout::Plain)
}

/// A scale as the product of a computed one of one element and a constant.
fn factors(lowering: &Lowering<'_>, scale: ValueId) -> Option<(ValueId, Vec<f32>)> {
    let graph = lowering.graph;
    graph.is(scale.node, "Mul").then_some(())?;
    let (a, b) = (graph.operand(scale.node, 0)?, graph.operand(scale.node, 1)?);
    let (computed, constant) = if lowering.constant(a).is_some() {
        (b, a)
    } else {
        (a, b)
    };
    let weight = lowering
        .constant(constant)?
        .as_slice::<f32>()
        .ok()?
        .into_owned();
    let fits = lowering.home(computed)?.len() == 1 && weight.len() == lowering.home(scale)?.len();
    fits.then_some((computed, weight))
}

/// The Add of a constant for each column that alone uses the result of `n`.
fn bias(lowering: &Lowering<'_>, n: NodeId, columns: usize) -> Option<(NodeId, Vec<f32>)> {
    let result: ValueId = lowering.graph.result(n, 0);
    let (add, operand, op) = lowering.sole_user(result)?;
    let other = lowering.constant_operand(add, 1 - operand.min(1))?;
    let rank = other.rank();
    let fits =
        op.is("Add") && other.len() == columns && rank >= 1 && other.dims()[rank - 1] == columns;
    let same = lowering.type_of(result)?.1 == lowering.type_of(lowering.graph.result(add, 0))?.1;
    (fits && same).then_some(())?;
    Some((add, other.as_slice::<f32>().ok()?.into_owned()))
}

impl Kernel for Dynamic {
    fn name(&self, cpu: Cpu) -> String {
        product_name("dynamic matmul", self.signed, cpu)
    }

    fn operations(&self) -> u64 {
        2 * (self.rows * self.weights.columns * self.weights.column_len()) as u64
    }

    fn scratch(&self, threads: usize) -> usize {
        column_lines(self.weights.columns) + task_scratch(&self.weights, threads)
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y) = (call.bytes(0), call.result_floats(0));
        let columns = self.weights.columns;
        let zero = match self.has_zero {
            true => super::elementwise::code(call.bytes(2)[0], self.signed),
            false => 0,
        };
        let depth = self.weights.column_len();
        let scratch = std::mem::take(&mut call.scratch);
        let (scales, scratch) = scratch.split_at_mut(column_lines(columns));
        let (offset, scale) = scales.split_at_mut(scales.len() / 2);
        let offset = &mut bytemuck::cast_slice_mut(bytes_mut(offset))[..columns];
        let scale = &mut bytemuck::cast_slice_mut(bytes_mut(scale))[..columns];
        zero_offsets(zero, &self.weights.sums, &self.weight_zero, depth, offset);
        column_scales(&call.floats(1)[..self.scales], &self.weight_scale, scale);
        let task = Task {
            weights: &self.weights,
            left: Operand::Bytes(x),
            signed: self.signed,
            geometry: Geometry::matrix(self.rows, depth, depth),
            strides: [0, columns],
            offset,
            zero: &self.weight_zero,
            finish: Finish::Floats {
                scale,
                bias: &self.bias,
                activation: self.activation,
            },
        };
        task.run(
            call,
            scratch,
            Rows::Floats(&mut y[..self.rows * columns]),
            None,
        );
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let zero = write_dynamic_operands(code, self.has_zero, self.signed);
        let weight_zero = code.integers(&self.weight_zero);
        let scale = format!("&scale[..{}]", self.scales);
        let (weights, weight_scale) = (&self.weights, &self.weight_scale);
        write_columns(
            code,
            weights,
            weight_zero.clone(),
            weight_scale,
            zero,
            &scale,
        );
        let right = weights.write(code);
        let depth = weights.column_len();
        let geometry = Geometry::matrix(self.rows, depth, depth);
        let strides = [0, weights.columns];
        write_product(
            code,
            "x",
            self.signed,
            &geometry,
            right,
            strides,
            "offset",
            weight_zero,
        );
        let bias = code.floats(&self.bias);
        write_floats(code, "scales", bias, self.activation);
        write_run(code, "output");
        Ok(())
    }
}
