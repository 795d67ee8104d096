//! Concatenation, slices and splits: copies of stretches of bytes.

use onnxq_ir::{NodeId, Op, ValueId};
use onnxq_kernels::{Cpu, Joined, MAX_COPY_AXES, concat as join, copy_strided};
use onnxq_ops::EvalError;
use onnxq_tensor::{DType, Dims};
use smallvec::SmallVec;

use super::{
    Kernel,
    elementwise::{Quantization, byte_bounds, code, rounded},
};
use crate::program::{
    Place,
    call::Call,
    lower::{Home, Layout, Lowering},
    source::{Code, Expr, Written, record},
};

/// The axis as a number within the rank.
fn axis_of(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).ok().filter(|&a| a < rank)
}

/// Elements before and from an axis on, as they lie in memory.
fn around(home: &Home, axis: usize) -> [usize; 2] {
    let dims = &home.dims;
    match (home.layout, axis) {
        (Layout::Plain, _) | (Layout::ChannelsLast, 0) => {
            [dims[..axis].iter().product(), dims[axis..].iter().product()]
        }
        (Layout::ChannelsLast, 1) => [dims[0] * dims[2..].iter().product::<usize>(), dims[1]],
        (Layout::ChannelsLast, _) => {
            let before: usize = dims[2..axis].iter().product();
            [
                dims[0] * before,
                dims[1] * dims[axis..].iter().product::<usize>(),
            ]
        }
    }
}

struct Concat {
    outer: usize,
    /// Bytes of each operand at a time, and what its codes become, if not themselves.
    parts: Vec<(usize, Option<Box<[u8; 256]>>)>,
}

/// Concat of anything.
pub(super) fn concat(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let operands: Option<Vec<ValueId>> = lowering.graph.operands(n).into_iter().collect();
    let operands = operands?;
    let none = operands.iter().map(|_| None).collect();
    lower_concat(lowering, n, op, &operands, none)
}

/// QLinearConcat: scale and zero point of the result, then each operand with its own.
pub(super) fn qlinear_concat(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let graph = lowering.graph;
    let quantization = |lowering: &Lowering<'_>, at: usize| {
        Some(Quantization {
            scale: lowering.scalar(n, at)?,
            zero: lowering.zero_point(n, at + 1)?,
        })
    };
    let to = quantization(lowering, 0)?;
    let dtype = lowering.type_of(graph.result(n, 0))?.0;
    let bounds = byte_bounds(dtype)?;
    let count = graph.node(n).operand_count();
    let (mut operands, mut tables) = (Vec::new(), Vec::new());
    for at in (2..count).step_by(3) {
        let v = graph.operand(n, at)?;
        let from = quantization(lowering, at + 1)?;
        (lowering.home(v)?.dtype == dtype).then_some(())?;
        let signed = bounds[0] < 0;
        let table = (from != to).then(|| {
            Box::new(std::array::from_fn(|byte| {
                let real = (code(byte as u8, signed) - from.zero) as f32 * from.scale;
                rounded(real / to.scale, to.zero, bounds) as u8
            }))
        });
        operands.push(v);
        tables.push(table);
    }
    lower_concat(lowering, n, op, &operands, tables)
}

fn lower_concat(
    lowering: &mut Lowering<'_>,
    n: NodeId,
    op: &Op,
    operands: &[ValueId],
    tables: Vec<Option<Box<[u8; 256]>>>,
) -> Option<()> {
    let (dtype, dims) = lowering.type_of(lowering.graph.result(n, 0))?;
    let axis = axis_of(op.int("axis", 1), dims.len())?;
    (dtype.bits() >= 8).then_some(())?;
    // The layout of the longest operand.
    let homes: Option<Vec<&Home>> = operands.iter().map(|&v| lowering.home(v)).collect();
    let layout = homes?.iter().max_by_key(|home| home.len())?.layout;
    let mut places: Vec<Place> = Vec::new();
    let mut parts = Vec::new();
    let (mut outer, mut joined) = (1, 0);
    for (&v, table) in operands.iter().zip(tables) {
        let home = lowering.laid(v, layout)?;
        let fits = home.dtype == dtype
            && home.dims.len() == dims.len()
            && (0..dims.len()).all(|a| a == axis || home.dims[a] == dims[a]);
        fits.then_some(())?;
        joined += home.dims[axis];
        let [before, from] = around(&home, axis);
        outer = before;
        parts.push((from * dtype.bits() / 8, table));
        places.push(home.place);
    }
    (joined == dims[axis]).then_some(())?;
    let kernel = Concat { outer, parts };
    lowering.push_node(n, Box::new(kernel), &places, layout)
}

impl Kernel for Concat {
    fn name(&self, _: Cpu) -> String {
        "concat".to_owned()
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let size: usize = self.parts.iter().map(|(bytes, _)| bytes).sum();
        let y = &mut call.result(0)[..self.outer * size];
        let operands: Vec<&[u8]> = (0..self.parts.len()).map(|i| call.bytes(i)).collect();
        let cpu = call.cpu;
        call.threads.spread(y, size, |at, y| {
            let row = at / size.max(1);
            let joined = self.parts.iter().zip(&operands);
            let joined = joined.map(|((bytes, table), x)| Joined {
                x: &x[row * bytes..],
                bytes: *bytes,
                table: table.as_deref(),
            });
            join(cpu, &joined.collect::<SmallVec<[_; 4]>>(), y);
        });
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let mut operands = Vec::new();
        for (i, (bytes, table)) in self.parts.iter().enumerate() {
            let name = format!("x{i}");
            code.operand(i, &name, "u8");
            let table = match table {
                None => "None".into(),
                Some(table) => Expr::Call("Some".to_owned(), vec![code.table(table)]),
            };
            operands.push((name, *bytes, table));
        }
        code.result(0, "y", "u8");
        let size: usize = self.parts.iter().map(|(bytes, _)| bytes).sum();
        for (name, bytes, table) in operands.iter().cloned() {
            let joined = record!(Joined {
                x: name.as_str(),
                bytes: bytes,
                table: table,
            });
            code.bind(&name, joined);
        }
        let names: Vec<String> = operands.into_iter().map(|(name, ..)| name).collect();
        let y = format!("&mut y[..{}]", self.outer * size);
        let arguments = vec![
            code.cpu(),
            format!("&[{}]", names.join(", ")).into(),
            y.into(),
        ];
        code.call("concat", arguments);
        Ok(())
    }
}

/// A part of a tensor: along each axis from an offset, at a step.
struct Slice {
    /// Where the first element is, in bytes.
    offset: usize,
    /// Bytes that lie together.
    chunk: usize,
    /// How often, and how far apart, along the axes before.
    axes: SmallVec<[(usize, isize); 6]>,
}

impl Slice {
    /// `ranges`: first index, step and count along each axis of `dims`.
    fn new(dims: &[usize], ranges: &[(usize, isize, usize)], size: usize) -> Slice {
        let mut strides: SmallVec<[usize; 6]> = SmallVec::from_elem(size, dims.len());
        for i in (0..dims.len().saturating_sub(1)).rev() {
            strides[i] = strides[i + 1] * dims[i + 1];
        }
        let offset = ranges.iter().zip(&strides).map(|(r, s)| r.0 * s).sum();
        let axes = ranges.iter().zip(&strides);
        let mut axes: SmallVec<[(usize, isize); 6]> =
            axes.map(|(r, &s)| (r.2, r.1 * s as isize)).collect();
        let mut chunk = size;
        // What lies together is one copy.
        while let Some(&(count, step)) = axes.last()
            && (step == chunk as isize || count == 1)
        {
            chunk *= count;
            axes.pop();
        }
        Slice {
            offset,
            chunk,
            axes,
        }
    }

    /// Bytes of the result.
    fn len(&self) -> usize {
        self.chunk * self.axes.iter().map(|(count, _)| count).product::<usize>()
    }
}

impl Kernel for Slice {
    fn name(&self, _: Cpu) -> String {
        "slice".to_owned()
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y) = (call.bytes(0), &mut call.result(0)[..self.len()]);
        copy_strided(x, self.offset, self.chunk, &self.axes, y);
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        code.operand(0, "x", "u8");
        code.result(0, "y", "u8");
        let axes: Vec<String> = self.axes.iter().map(|axis| format!("{axis:?}")).collect();
        let arguments = vec![
            "x".into(),
            self.offset.into(),
            self.chunk.into(),
            format!("&[{}]", axes.join(", ")).into(),
            format!("&mut y[..{}]", self.len()).into(),
        ];
        code.call("copy_strided", arguments);
        Ok(())
    }
}

/// Slice between bounds that are known.
pub(super) fn slice(lowering: &mut Lowering<'_>, n: NodeId, _: &Op) -> Option<()> {
    let graph = lowering.graph;
    let integers = |i: usize| match graph.operand(n, i) {
        None => Some(None),
        Some(_) => Some(Some(lowering.constant_operand(n, i)?.to_i64s().ok()?)),
    };
    let (starts, ends) = (integers(1)??, integers(2)??);
    let (axes, steps) = (integers(3)?, integers(4)?);
    let (dtype, result) = lowering.type_of(graph.result(n, 0))?;
    let dims = lowering.operand(n, 0)?.dims.clone();
    let mut ranges: Vec<(usize, isize, usize)> = dims.iter().map(|&d| (0, 1, d)).collect();
    for (i, &start) in starts.iter().enumerate() {
        let axis = axes
            .as_ref()
            .map_or(Some(i as i64), |a| a.get(i).copied())?;
        let axis = axis_of(axis, dims.len())?;
        let step = steps.as_ref().map_or(Some(1), |s| s.get(i).copied())?;
        let size = dims[axis] as i64;
        let bound = |v: i64, low: i64, high: i64| {
            let v = if v < 0 { v.saturating_add(size) } else { v };
            v.clamp(low, high)
        };
        let (start, count) = match step {
            1.. => {
                let (start, end) = (bound(start, 0, size), bound(*ends.get(i)?, 0, size));
                (start, (end - start).max(0) as u64)
            }
            i64::MIN..=-1 => {
                let start = bound(start, -1, size - 1);
                (
                    start,
                    (start - bound(*ends.get(i)?, -1, size - 1)).max(0) as u64,
                )
            }
            0 => return None,
        };
        let count = count.div_ceil(step.unsigned_abs()) as usize;
        let step = isize::try_from(step).ok()?;
        ranges[axis] = (usize::try_from(start).unwrap_or(0), step, count);
    }
    push_slice(lowering, n, graph.result(n, 0), &ranges, dtype, &result)
}

fn push_slice(
    lowering: &mut Lowering<'_>,
    n: NodeId,
    to: ValueId,
    ranges: &[(usize, isize, usize)],
    dtype: DType,
    dims: &Dims,
) -> Option<()> {
    let fits = ranges.iter().map(|r| r.2).eq(dims.iter().copied());
    (fits && dtype.bits() >= 8 && ranges.len() <= MAX_COPY_AXES).then_some(())?;
    let v = lowering.graph.operand(n, 0)?;
    let home = lowering.home(v)?.clone();
    (home.dtype == dtype && home.dims.len() == ranges.len()).then_some(())?;
    // As the axes lie in memory.
    let order: SmallVec<[usize; 6]> = match home.layout {
        Layout::Plain => (0..ranges.len()).collect(),
        Layout::ChannelsLast => {
            let last: SmallVec<[usize; 6]> = std::iter::once(0)
                .chain(2..ranges.len())
                .chain([1])
                .collect();
            last
        }
    };
    let lying: SmallVec<[usize; 6]> = order.iter().map(|&a| home.dims[a]).collect();
    let ranges: SmallVec<[_; 6]> = order.iter().map(|&a| ranges[a]).collect();
    let kernel = Slice::new(&lying, &ranges, dtype.bits() / 8);
    let made = lowering.make(to, home.layout)?;
    lowering.push(
        lowering.name(n),
        Box::new(kernel),
        &[home.place],
        &[made.place],
    );
    lowering.settle(to, made);
    Some(())
}

/// Split: a slice for each result that anyone wants.
pub(super) fn split(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let graph = lowering.graph;
    let dims = lowering.operand(n, 0)?.dims.clone();
    let axis = axis_of(op.int("axis", 0), dims.len())?;
    let results: Vec<ValueId> = (0..graph.node(n).results.len())
        .map(|i| graph.result(n, i))
        .collect();
    let types: Option<Vec<_>> = results.iter().map(|&v| lowering.type_of(v)).collect();
    let types = types?;
    let whole: usize = types
        .iter()
        .map(|(_, d)| d.get(axis).copied().unwrap_or(0))
        .sum();
    let home = lowering.operand(n, 0)?;
    let same = |(dtype, d): &(DType, Dims)| *dtype == home.dtype && d.len() == dims.len();
    (whole == dims[axis] && types.iter().all(same)).then_some(())?;
    let mut first = 0;
    for (v, (dtype, result)) in results.into_iter().zip(types) {
        let mut ranges: Vec<(usize, isize, usize)> = dims.iter().map(|&d| (0, 1, d)).collect();
        ranges[axis] = (first, 1, result[axis]);
        first += result[axis];
        push_slice(lowering, n, v, &ranges, dtype, &result)?;
    }
    Some(())
}
