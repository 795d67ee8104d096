//! Attention of floats as one step: the product of queries and keys, its scale, the mask, Softmax,
//! the product with the values.
//!
//! Found from its last product on, so that what comes before is there already: it stays where it
//! is, before the transposes that separate the heads.

use onnxq_ir::{NodeId, Op, ValueId};
use onnxq_kernels::{Attention, Cpu, Heads, Line, Mask};
use onnxq_ops::EvalError;
use onnxq_tensor::DType;

use super::{
    Kernel,
    strided::{Stacks, Strided, merged},
};
use crate::program::{
    Place,
    call::Call,
    lower::{Layout, Lowering},
    source::{Code, Expr, Written, record},
};

/// From row to row, from head to head, from batch to batch.
type Strides = [usize; 3];

struct Step {
    to: Stacks,
    keys: usize,
    depth: usize,
    scale: f32,
    q: Strides,
    k: Strides,
    v: Strides,
    mask: Option<Strides>,
}

/// What is softened: the product of queries and keys, times `scale`, plus `mask`.
pub(super) struct Scores {
    /// The node that multiplies.
    pub(super) product: NodeId,
    pub(super) scale: f32,
    pub(super) mask: Option<ValueId>,
}

/// MatMul of a Softmax and values.
pub(super) fn attention(lowering: &mut Lowering<'_>, n: NodeId, _: &Op) -> Option<()> {
    let graph = lowering.graph;
    let scores = scores(lowering, graph.operand(n, 0)?)?;
    let q = Strided::of(lowering, graph.operand(scores.product, 0)?)?;
    let k = Strided::of(lowering, graph.operand(scores.product, 1)?)?;
    let v = Strided::of(lowering, graph.operand(n, 1)?)?;
    let floats = [&q, &k, &v].iter().all(|x| x.dtype == DType::F32);
    floats.then_some(())?;
    let ([rows, depth], [q_row, q_column]) = q.matrix()?;
    let ([k_depth, keys], [k_column, k_row]) = k.matrix()?;
    let ([v_keys, width], [v_row, v_column]) = v.matrix()?;
    let (stacks, q_stack) = q.stacks()?;
    let ((k_stacks, k_stack), (v_stacks, v_stack)) = (k.stacks()?, v.stacks()?);
    let fits = k_depth == depth && v_keys == keys && k_stacks == stacks && v_stacks == stacks;
    let columns = [(q_column, depth), (k_column, depth), (v_column, width)];
    let contiguous = columns.iter().all(|&(stride, len)| stride == 1 || len == 1);
    let some = [rows, depth, keys, width, stacks[0], stacks[1]]
        .iter()
        .all(|&n| n > 0);
    (fits && contiguous && some).then_some(())?;
    let [batches, heads] = stacks;
    let mut places = vec![q.place, k.place, v.place];
    let mask = match scores.mask {
        None => None,
        Some(mask) => {
            let (place, strides) =
                mask_strides(lowering, mask, [batches, heads, rows, keys], q.dims.len())?;
            places.push(place);
            Some(strides)
        }
    };
    let (last, to) = merged(lowering, n, [batches, heads, rows, width]);
    let kernel = Step {
        to,
        keys,
        depth,
        scale: scores.scale,
        q: [q_row, q_stack[1], q_stack[0]],
        k: [k_row, k_stack[1], k_stack[0]],
        v: [v_row, v_stack[1], v_stack[0]],
        mask,
    };
    if last != n {
        lowering.absorb(last);
    }
    lowering.push_result(n, last, Box::new(kernel), &places, Layout::Plain)
}

/// The product, the scale and the mask of which `v` is the Softmax along the last axis.
fn scores(lowering: &Lowering<'_>, v: ValueId) -> Option<Scores> {
    let mut at = only(lowering, v, "Softmax")?;
    let rank = lowering.type_of(v)?.1.len() as i64;
    let axis = lowering.graph.op(at)?.int("axis", -1);
    (axis == -1 || axis == rank - 1).then_some(())?;
    let mut x = lowering.graph.operand(at, 0)?;
    let mut found = Scores {
        product: at,
        scale: 1.0,
        mask: None,
    };
    if let Some(add) = only(lowering, x, "Add") {
        let (a, b) = (
            lowering.graph.operand(add, 0)?,
            lowering.graph.operand(add, 1)?,
        );
        let computed = |v: ValueId| {
            let op = lowering.graph.op(v.node);
            op.is_some_and(|op| ["MatMul", "Mul", "Div"].contains(&op.op_type.as_str()))
        };
        let (scores, mask) = if computed(a) { (a, b) } else { (b, a) };
        found.mask = Some(mask);
        x = scores;
    }
    if let Some(scaled) = only(lowering, x, "Mul").or_else(|| only(lowering, x, "Div")) {
        let divided = lowering.graph.is(scaled, "Div");
        let at = usize::from(divided || lowering.scalar(scaled, 1).is_some());
        let factor = lowering.scalar(scaled, at)?;
        // A quotient is a product only by a power of two.
        let exact = factor.is_normal() && factor.to_bits() & 0x007f_ffff == 0;
        (!divided || exact).then_some(())?;
        found.scale = if divided { 1.0 / factor } else { factor };
        x = lowering.graph.operand(scaled, 1 - at)?;
    }
    at = only(lowering, x, "MatMul")?;
    found.product = at;
    Some(found)
}

/// The node that makes `v`, if it is of this type and nobody else uses the value.
fn only(lowering: &Lowering<'_>, v: ValueId, name: &str) -> Option<NodeId> {
    let graph = lowering.graph;
    let fits = graph.op(v.node)?.is(name) && graph.sole_use(v).is_some() && !graph.is_output(v);
    fits.then_some(v.node)
}

/// Where a mask is that is added to scores of `[batches, heads, rows, keys]`.
pub(super) fn mask_strides(
    lowering: &mut Lowering<'_>,
    mask: ValueId,
    scores: [usize; 4],
    rank: usize,
) -> Option<(Place, Strides)> {
    let home = lowering.plain(mask)?;
    (home.dtype == DType::F32 && home.dims.len() <= rank && rank <= 4).then_some(())?;
    let mut dims = [1; 4];
    dims[4 - home.dims.len()..].copy_from_slice(&home.dims);
    if rank == 3 {
        // Of three axes the first is that of the heads.
        (dims[0] == 1).then_some(())?;
    }
    (dims[3] == scores[3]).then_some(())?;
    let mut strides = [0; 4];
    let mut stride = 1;
    for axis in (0..4).rev() {
        if dims[axis] != 1 {
            (dims[axis] == scores[axis]).then_some(())?;
            strides[axis] = stride;
        }
        stride *= dims[axis];
    }
    Some((home.place, [strides[2], strides[1], strides[0]]))
}

impl Step {
    /// One batch, from head `head` on.
    fn part<'a>(
        &self,
        [q, k, v, mask]: [&'a [f32]; 4],
        batch: usize,
        head: usize,
        heads: usize,
    ) -> Attention<'a> {
        let of = |data: &'a [f32], [row, each, whole]: Strides| Heads {
            data: &data[batch * whole + head * each..],
            strides: [row, each],
        };
        Attention {
            heads,
            key_heads: heads,
            rows: self.to.rows,
            keys: self.keys,
            depth: self.depth,
            width: self.to.width,
            scale: self.scale,
            q: of(q, self.q),
            k: of(k, self.k),
            v: of(v, self.v),
            mask: self.mask.map(|strides| {
                let Heads { data, strides } = of(mask, strides);
                Mask { data, strides }
            }),
            strides: [self.to.strides[0], self.to.strides[1]],
        }
    }

    fn scratch_each(&self) -> usize {
        self.part([&[0.0]; 4], 0, 0, 1).scratch_lines()
    }
}

impl Kernel for Step {
    fn name(&self, _: Cpu) -> String {
        "attention".to_owned()
    }

    fn scratch(&self, threads: usize) -> usize {
        self.scratch_each() * threads
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let y = call.result_floats(0);
        let mask = self.mask.map_or(&[][..], |_| call.floats(3));
        let operands = [call.floats(0), call.floats(1), call.floats(2), mask];
        let each = self.scratch_each();
        let scratch: &mut [Line] = std::mem::take(&mut call.scratch);
        let scores = self.to.heads * self.to.rows * self.keys;
        let nanoseconds = (scores * (self.depth + self.to.width)) as u64 / 50;
        let batches = y.chunks_exact_mut(self.to.batch()).take(self.to.batches);
        for (batch, y) in batches.enumerate() {
            let parts = self.to.parts(y, call.threads.parts(nanoseconds));
            let parts = parts.into_iter().zip(scratch.chunks_mut(each)).collect();
            let cpu = call.cpu;
            call.threads.run(parts, |((heads, rows, y), scratch)| {
                let part = self.part(operands, batch, heads.start, heads.len());
                part.run(cpu, rows, y, scratch);
            });
        }
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let names = ["q", "k", "v", "mask"];
        let strides = [Some(self.q), Some(self.k), Some(self.v), self.mask];
        for (i, name) in names
            .into_iter()
            .enumerate()
            .filter(|&(i, _)| strides[i].is_some())
        {
            code.operand(i, name, "f32");
        }
        code.result(0, "y", "f32");
        let (to, len) = (&self.to, self.to.batch());
        if to.batches > 1 {
            code.open(&format!("for batch in 0..{}", to.batches));
            code.bind("y", format!("&mut y[batch * {len}..][..{len}]"));
        }
        let heads = |i: usize, what: &'static str| -> Option<Expr> {
            let [row, head, batch] = strides[i]?;
            let data = match (to.batches, batch) {
                (1, _) | (_, 0) => names[i].to_owned(),
                _ => format!("&{}[batch * {batch}..]", names[i]),
            };
            let fields = vec![("data", data.into()), ("strides", [row, head].into())];
            Some(Expr::Struct(what, fields))
        };
        let [q, k, v] = [0, 1, 2].map(|i| heads(i, "Heads").unwrap_or_else(|| "None".into()));
        let attention = record!(Attention {
            heads: to.heads,
            key_heads: to.heads,
            rows: to.rows,
            keys: self.keys,
            depth: self.depth,
            width: to.width,
            scale: self.scale,
            q: q,
            k: k,
            v: v,
            mask: heads(3, "Mask"),
            strides: [to.strides[0], to.strides[1]],
        });
        code.bind("attention", attention);
        let rows = format!("0..{}", to.rows);
        let arguments = vec![code.cpu(), rows.into(), "y".into(), code.scratch()];
        code.call("attention.run", arguments);
        if to.batches > 1 {
            code.close();
        }
        Ok(())
    }
}
