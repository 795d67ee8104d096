//! Softmax and normalizations of rows, from floats or codes to floats or codes.
//!
//! Found from their last node on: a sum, a scale or a mask before them, and the conversions from
//! and to codes around them, become part of the step.

use onnxq_ir::{NodeId, Op, ValueId};
use onnxq_kernels::{Added, Cpu, Line, Norm, Quantize, Quantized, RowFunction, Rows, Softmax};
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
    call::Call,
    lower::{Home, Layout, Lowering},
    source::{Code, Expr, Written, record},
    threads::{cut, elementwise},
};

/// What is made of each row, with what it needs.
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

struct Step {
    function: Function,
    rows: usize,
    width: usize,
    /// What the codes stand for that rows are made of; floats if `None`.
    from: Option<Quantized>,
    /// What is added to rows.
    added: Option<Added>,
    /// How rows become codes; floats if `None`.
    to: Option<Quantize>,
}

/// Where rows come from.
struct Source {
    home: Home,
    from: Option<Quantized>,
    added: Option<(Place, Added)>,
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
    places.extend(source.added.map(|(place, _)| place));
    let kernel = Step {
        function,
        rows: len / width,
        width,
        from: source.from,
        added: source.added.map(|(_, added)| added),
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

/// How `other` is added to rows.
fn added(rows: &Home, other: &Home, width: usize) -> Option<Added> {
    let missing = rows.dims.len().checked_sub(other.dims.len())?;
    let mut dims = onnxq_tensor::Dims::from_elem(1, missing);
    dims.extend_from_slice(&other.dims);
    let (parts, len) = repeats(&rows.dims, &dims)?;
    let whole = len >= width && len.is_multiple_of(width);
    let rows = rows.len() / parts / width;
    whole.then_some(Added { len, rows })
}

impl Step {
    fn rows(&self) -> Rows<'_> {
        let function = match &self.function {
            Function::Softmax(f, scale) => RowFunction::Softmax(*f, *scale),
            Function::Norm {
                scale,
                bias,
                epsilon,
                centered,
            } => RowFunction::Norm(Norm {
                scale,
                bias,
                epsilon: *epsilon,
                centered: *centered,
            }),
        };
        Rows {
            function,
            width: self.width,
            from: self.from,
            added: self.added,
            to: self.to,
        }
    }
}

impl Kernel for Step {
    fn name(&self, _: Cpu) -> String {
        let what = match &self.function {
            Function::Softmax(Softmax::Softmax, _) => "softmax",
            Function::Softmax(Softmax::LogSoftmax, _) => "log softmax",
            Function::Norm { centered: true, .. } => "layer norm",
            Function::Norm { .. } => "rms norm",
        };
        let sum = if self.added.is_some() { "sum, " } else { "" };
        match self.to {
            Some(_) => format!("{sum}{what}, codes"),
            None => format!("{sum}{what}"),
        }
    }

    fn scratch(&self, threads: usize) -> usize {
        self.rows().scratch_lines(self.rows) * threads
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let other = match self.added {
            Some(_) => call.floats(1),
            None => &[],
        };
        let (x, y, cpu) = (call.bytes(0), call.result(0), call.cpu);
        let kernel = self.rows();
        let scratch: &mut [Line] = std::mem::take(&mut call.scratch);
        let mut scratch = scratch.chunks_mut(kernel.scratch_lines(self.rows).max(1));
        let [from, to] = kernel.sizes();
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
            kernel.run(cpu, x, other, rows.start, y, scratch);
        });
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let [from, to] = self.rows().sizes();
        code.operand(0, "x", "u8");
        if self.added.is_some() {
            code.operand(1, "other", "f32");
        }
        code.result(0, "y", "u8");
        let function = match &self.function {
            Function::Softmax(f, scale) => {
                let parts = vec![(*f).into(), (*scale).into()];
                Expr::Call("RowFunction::Softmax".to_owned(), parts)
            }
            Function::Norm {
                scale,
                bias,
                epsilon,
                centered,
            } => {
                let norm = record!(Norm {
                    scale: code.floats(scale),
                    bias: code.floats(bias),
                    epsilon: *epsilon,
                    centered: *centered,
                });
                Expr::Call("RowFunction::Norm".to_owned(), vec![norm])
            }
        };
        let added = self.added.map(|added| {
            record!(Added {
                len: added.len,
                rows: added.rows,
            })
        });
        let rows = record!(Rows {
            function: function,
            width: self.width,
            from: self.from,
            added: added,
            to: self.to,
        });
        code.bind("rows", rows);
        let len = self.rows * self.width;
        let other = match self.added {
            Some(_) => "other",
            None => "&[]",
        };
        let arguments = vec![
            code.cpu(),
            format!("&x[..{}]", len * from).into(),
            other.into(),
            0usize.into(),
            format!("&mut y[..{}]", len * to).into(),
            code.scratch(),
        ];
        code.call("rows.run", arguments);
        Ok(())
    }
}
