//! Softmax and normalizations of rows, from floats or codes to floats or codes.
//!
//! Found from their last node on: a sum, a scale or a mask before them, and the conversions from
//! and to codes around them, become part of the step.

use onnxq_ir::{NodeId, Op, ValueId};
use onnxq_kernels::{Cpu, Line, Norm, Quantize, Quantized, Skip, Softmax, bytes_mut};
use onnxq_ops::EvalError;
use onnxq_tensor::DType;
use smallvec::SmallVec;

use super::{
    Kernel,
    combine::repeats,
    elementwise::{dequantization_of, quantization_of},
};
use crate::program::{
    Place,
    call::{Call, elements},
    lower::{Home, Layout, Lowering},
    threads::{cut, elementwise},
};

/// Bytes of floats that are worked on at a time, between codes.
const BLOCK: usize = 16 << 10;

enum Function {
    /// After a factor.
    Softmax(Softmax, f32),
    Norm {
        scale: Vec<f32>,
        bias: Vec<f32>,
        epsilon: f32,
        centered: bool,
    },
}

struct Rows {
    function: Function,
    rows: usize,
    width: usize,
    /// What the codes stand for that rows are made of; floats if `None`.
    from: Option<Quantized>,
    /// Elements that are added to rows, and after how many rows of the first operand they begin
    /// anew with others; no elements for nothing.
    added: [usize; 2],
    /// How rows become codes; floats if `None`.
    to: Option<Quantize>,
}

/// Where rows come from.
struct Source {
    home: Home,
    from: Option<Quantized>,
    /// Place, elements and rows, see [`Rows::added`].
    added: Option<(Place, [usize; 2])>,
    scale: f32,
}

/// Softmax and LogSoftmax along the last axis.
pub(super) fn softmax(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    lower(lowering, n, n, op, None)
}

/// LayerNormalization and RMSNormalization.
pub(super) fn normalize(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    lower(lowering, n, n, op, None)
}

/// QuantizeLinear of one of them.
pub(super) fn quantized(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let to = quantization_of(lowering, n, op)?;
    let x = lowering.graph.operand(n, 0)?;
    lowering.graph.sole_use(x)?;
    let node = x.node;
    let op = lowering.graph.op(node)?;
    lower(lowering, node, n, op, Some(to))
}

/// The step for `node`, a function of rows, whose result is that of `last`.
fn lower(
    lowering: &mut Lowering<'_>,
    node: NodeId,
    last: NodeId,
    op: &Op,
    to: Option<Quantize>,
) -> Option<()> {
    let graph = lowering.graph;
    let results = graph.node(node).results.len();
    (1..results)
        .all(|i| !graph.is_used(graph.result(node, i)))
        .then_some(())?;
    let x = graph.operand(node, 0)?;
    let (dtype, dims) = lowering.type_of(x)?;
    (dtype == DType::F32).then_some(())?;
    let axis = op.int("axis", default_axis(lowering, op)?);
    let axis = if axis < 0 {
        axis.checked_add(dims.len() as i64)?
    } else {
        axis
    };
    let axis = usize::try_from(axis).ok().filter(|&a| a < dims.len())?;
    let width: usize = dims[axis..].iter().product();
    let len: usize = dims.iter().product();
    (len > 0).then_some(())?;
    let (source, function) = match (&op.domain[..], &op.op_type[..]) {
        ("", name @ ("Softmax" | "LogSoftmax")) => {
            // Before version 13 all axes from `axis` on were one.
            let flat = opset(lowering) < 13 || width == dims[axis];
            flat.then_some(())?;
            let f = match name {
                "Softmax" => Softmax::Softmax,
                _ => Softmax::LogSoftmax,
            };
            let source = source(lowering, x, width, true)?;
            let scale = source.scale;
            (source, Function::Softmax(f, scale))
        }
        (
            "",
            name @ ("LayerNormalization" | "RMSNormalization" | "SimplifiedLayerNormalization"),
        ) => {
            let centered = name == "LayerNormalization";
            let row = |lowering: &Lowering<'_>, i: usize| -> Option<Vec<f32>> {
                let tensor = lowering.constant_operand(node, i)?;
                (tensor.len() == width).then_some(())?;
                Some(tensor.as_slice::<f32>().ok()?.into_owned())
            };
            let scale = row(lowering, 1)?;
            let bias = match graph.operand(node, 2) {
                None => Vec::new(),
                Some(_) => row(lowering, 2)?,
            };
            let source = source(lowering, x, width, false)?;
            let function = Function::Norm {
                scale,
                bias,
                epsilon: op.float("epsilon", 1e-5),
                centered,
            };
            (source, function)
        }
        _ => return None,
    };
    let mut places: SmallVec<[Place; 2]> = SmallVec::from_elem(source.home.place, 1);
    let mut added = [0, 0];
    if let Some((place, what)) = source.added {
        places.push(place);
        added = what;
    }
    let kernel = Rows {
        function,
        rows: len / width,
        width,
        from: source.from,
        added,
        to,
    };
    lowering.push_result(node, last, Box::new(kernel), &places, Layout::Plain)
}

fn opset(lowering: &Lowering<'_>) -> i64 {
    lowering.model.opsets.get("").copied().unwrap_or(1)
}

fn default_axis(lowering: &Lowering<'_>, op: &Op) -> Option<i64> {
    let old = op.op_type.ends_with("Softmax") && opset(lowering) < 13;
    Some(if old { 1 } else { -1 })
}

/// Where `x` comes from: through a sum, with `scaled` a factor before it, and a DequantizeLinear.
fn source(lowering: &mut Lowering<'_>, x: ValueId, width: usize, scaled: bool) -> Option<Source> {
    let graph = lowering.graph;
    let mut found = Source {
        home: lowering.plain(x)?,
        from: None,
        added: None,
        scale: 1.0,
    };
    let mut at = x;
    if let Some((rows, other)) = sum(lowering, at) {
        let (rows_home, other) = (lowering.plain(rows)?, lowering.plain(other)?);
        if let Some(what) = added(&rows_home, &other, width) {
            found.added = Some((other.place, what));
            found.home = rows_home;
            at = rows;
        }
    }
    let alone = |lowering: &Lowering<'_>, v: ValueId| lowering.graph.sole_use(v).is_some();
    if scaled
        && alone(lowering, at)
        && graph.is(at.node, "Mul")
        && let Some(i) = (0..2).find(|&i| lowering.scalar(at.node, i).is_some())
    {
        let factor = lowering.scalar(at.node, i)?;
        let rows = graph.operand(at.node, 1 - i)?;
        let same = lowering.home(rows)?.dims == found.home.dims;
        if same {
            found.scale = factor;
            found.home = lowering.plain(rows)?;
            at = rows;
        }
    }
    if alone(lowering, at)
        && let Some(op) = graph.op(at.node)
        && let Some(from) = dequantization_of(lowering, at.node, op)
    {
        found.from = Some(from);
        found.home = lowering.plain(graph.operand(at.node, 0)?)?;
    }
    Some(found)
}

/// The operands of the Add that makes `v` for its one user, that with as many elements first.
fn sum(lowering: &Lowering<'_>, v: ValueId) -> Option<(ValueId, ValueId)> {
    let graph = lowering.graph;
    let fits = graph.op(v.node)?.is("Add") && graph.sole_use(v).is_some();
    fits.then_some(())?;
    let dims = &lowering.home(v)?.dims;
    let (a, b) = (graph.operand(v.node, 0)?, graph.operand(v.node, 1)?);
    let whole = |v: ValueId| lowering.home(v).is_some_and(|home| home.dims == *dims);
    match (whole(a) && lowering.constant(a).is_none(), whole(b)) {
        (true, _) => Some((a, b)),
        (_, true) => Some((b, a)),
        _ => None,
    }
}

/// How `other` is added to rows, see [`Rows::added`].
fn added(rows: &Home, other: &Home, width: usize) -> Option<[usize; 2]> {
    let missing = rows.dims.len().checked_sub(other.dims.len())?;
    let mut dims = onnxq_tensor::Dims::from_elem(1, missing);
    dims.extend_from_slice(&other.dims);
    let (parts, repeated) = repeats(&rows.dims, &dims)?;
    let whole = repeated >= width && repeated.is_multiple_of(width);
    whole.then_some([repeated, rows.len() / parts / width])
}

impl Rows {
    /// What is added to some rows from `row` on, and to how many of them.
    fn added<'a>(&self, other: &'a [f32], row: usize) -> (&'a [f32], usize) {
        let [len, rows] = self.added;
        if len == 0 {
            return (&[], usize::MAX);
        }
        let (part, row) = (row / rows, row % rows);
        let other = &other[part * len..][..len];
        if len == self.width {
            return (other, rows - row);
        }
        let repeat = len / self.width;
        let first = row % repeat;
        (&other[first * self.width..], repeat - first)
    }

    /// Some whole rows, in place; `row` is the first.
    fn apply(&self, cpu: Cpu, mut x: &mut [f32], other: &[f32], mut row: usize) {
        while !x.is_empty() {
            let (added, most) = self.added(other, row);
            let count = (x.len() / self.width).min(most);
            let (part, rest) = x.split_at_mut(count * self.width);
            x = rest;
            row += count;
            let added = match added.len() {
                len if len > self.width => &added[..part.len()],
                _ => added,
            };
            match &self.function {
                Function::Softmax(f, scale) => {
                    onnxq_kernels::softmax(cpu, *f, part, self.width, *scale, added);
                }
                Function::Norm { .. } => unreachable!("normalizations are not in place"),
            }
        }
    }

    /// Some rows from floats to floats.
    fn floats(&self, cpu: Cpu, x: &[f32], y: &mut [f32], other: &[f32], row: usize) {
        let Function::Norm {
            scale,
            bias,
            epsilon,
            centered,
        } = &self.function
        else {
            y.copy_from_slice(x);
            return self.apply(cpu, y, other, row);
        };
        let norm = Norm {
            scale,
            bias,
            epsilon: *epsilon,
            centered: *centered,
        };
        let (mut x, mut y, mut row) = (x, y, row);
        while !x.is_empty() {
            let (added, most) = self.added(other, row);
            let count = (x.len() / self.width).min(most);
            let (head, tail) = x.split_at(count * self.width);
            let (part, rest) = y.split_at_mut(count * self.width);
            (x, y) = (tail, rest);
            row += count;
            let mut skip = Skip {
                skip: added,
                ..Skip::default()
            };
            onnxq_kernels::skip_normalize(cpu, &norm, head, &mut skip, part);
        }
    }

    /// Rows that are worked on at a time, and their elements.
    fn block(&self) -> (usize, usize) {
        let rows = (BLOCK / 4 / self.width).clamp(1, self.rows);
        (rows, rows * self.width)
    }

    fn scratch_each(&self) -> usize {
        match (self.from, self.to) {
            (None, None) => 0,
            _ => Line::count(8 * self.block().1),
        }
    }
}

impl Kernel for Rows {
    fn name(&self, _: Cpu) -> String {
        let what = match &self.function {
            Function::Softmax(Softmax::Softmax, _) => "softmax",
            Function::Softmax(Softmax::LogSoftmax, _) => "log softmax",
            Function::Norm { centered: true, .. } => "layer norm",
            Function::Norm { .. } => "rms norm",
        };
        let sum = if self.added[0] > 0 { "sum, " } else { "" };
        match self.to {
            Some(_) => format!("{sum}{what}, codes"),
            None => format!("{sum}{what}"),
        }
    }

    fn scratch(&self, threads: usize) -> usize {
        self.scratch_each() * threads
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let other = if self.added[0] > 0 {
            call.floats(1)
        } else {
            &[]
        };
        let (x, y, cpu) = (call.bytes(0), call.result(0), call.cpu);
        let scratch: &mut [Line] = std::mem::take(&mut call.scratch);
        let mut scratch = scratch.chunks_mut(self.scratch_each().max(1));
        let (from, to) = (
            if self.from.is_some() { 1 } else { 4 },
            if self.to.is_some() { 1 } else { 4 },
        );
        let mut parts = Vec::new();
        let mut rest = &mut y[..self.rows * self.width * to];
        let threads = call.threads.parts(elementwise(2 * self.rows * self.width));
        for rows in cut(self.rows, threads, 1) {
            let (part, tail) = rest.split_at_mut(rows.len() * self.width * to);
            rest = tail;
            parts.push((rows, part, scratch.next().unwrap_or_default()));
        }
        call.threads.run(parts, |(rows, y, scratch)| {
            let x = &x[rows.start * self.width * from..][..rows.len() * self.width * from];
            match (self.from, self.to) {
                (None, None) => {
                    let y = bytemuck::cast_slice_mut(y);
                    self.floats(cpu, elements(x), y, other, rows.start);
                }
                _ => self.blocks(
                    cpu,
                    x,
                    y,
                    other,
                    rows.start,
                    bytemuck::cast_slice_mut(bytes_mut(scratch)),
                ),
            }
        });
        Ok(())
    }
}

impl Rows {
    /// Some rows from or to codes, through floats in `scratch`.
    fn blocks(
        &self,
        cpu: Cpu,
        x: &[u8],
        y: &mut [u8],
        other: &[f32],
        row: usize,
        scratch: &mut [f32],
    ) {
        let (rows, len) = self.block();
        let (before, after) = scratch.split_at_mut(len);
        let [from, to] =
            [self.from.is_some(), self.to.is_some()].map(|codes| if codes { 1 } else { 4 });
        let blocks = x.chunks(len * from).zip(y.chunks_mut(len * to));
        for (i, (x, y)) in blocks.enumerate() {
            let count = x.len() / from;
            let floats: &[f32] = match self.from {
                None => elements(x),
                Some(from) => {
                    from.dequantize(cpu, x, &mut before[..count]);
                    &before[..count]
                }
            };
            match self.to {
                None => self.floats(
                    cpu,
                    floats,
                    bytemuck::cast_slice_mut(y),
                    other,
                    row + i * rows,
                ),
                Some(to) => {
                    self.floats(cpu, floats, &mut after[..count], other, row + i * rows);
                    to.run(cpu, &after[..count], y);
                }
            }
        }
    }
}
