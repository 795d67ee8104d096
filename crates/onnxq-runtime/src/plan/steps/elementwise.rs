//! Functions of one and of two floats, broadcast, in place where the operand ends here.

use std::sync::Arc;

use onnxq_tensor::Dims;
use smallvec::SmallVec;

use super::{Kernel, NodeContext};
use crate::plan::{
    buffers::Pool,
    data::{Data, Floats},
    kernels::{
        binary::{self, Row},
        unary,
    },
};

/// A function of one float, by a closure.
#[derive(Clone, Copy)]
struct One<F>(F);

impl<F: Fn(f32) -> f32 + Copy + Send + Sync + 'static> unary::Function for One<F> {
    #[inline(always)]
    fn at(self, x: f32) -> f32 {
        (self.0)(x)
    }
}

/// A function of two floats, by a closure.
#[derive(Clone, Copy)]
struct Two<F>(F);

impl<F: Fn(f32, f32) -> f32 + Copy + Send + Sync + 'static> binary::Function for Two<F> {
    #[inline(always)]
    fn at(self, a: f32, b: f32) -> f32 {
        (self.0)(a, b)
    }
}

struct Unary<F>(F);

fn one<F>(f: F) -> Option<Box<dyn Kernel>>
where
    F: Fn(f32) -> f32 + Copy + Send + Sync + 'static,
{
    Some(Box::new(Unary(One(f))))
}

impl<F: unary::Function> Kernel for Unary<F> {
    fn run(&self, operands: &mut [Option<Data>], pool: &mut Pool) -> Option<Floats> {
        if let Some(mut owned) = take_owned(operands, 0) {
            let len = owned.elements().len();
            if let Some(data) = Arc::get_mut(&mut owned.data) {
                unary::update(self.0, &mut data[..len]);
                return Some(owned);
            }
        }
        let (x, dims) = operands.first()?.as_ref()?.floats()?;
        let mut y = pool.take(x.len())?;
        unary::map(self.0, x, &mut y[..x.len()]);
        Some(Floats::new(y, dims.into()))
    }
}

/// Whether nobody else uses the memory of the operand.
fn is_owned(operand: &mut Option<Data>) -> bool {
    match operand {
        Some(Data::Floats(f)) => Arc::get_mut(&mut f.data).is_some(),
        _ => false,
    }
}

/// Operand `i`, taken, if nobody else uses its memory.
fn take_owned(operands: &mut [Option<Data>], i: usize) -> Option<Floats> {
    let operand = operands.get_mut(i)?;
    match is_owned(operand).then(|| operand.take()).flatten() {
        Some(Data::Floats(f)) => Some(f),
        _ => None,
    }
}

/// A kernel for a function of one tensor.
pub(crate) fn unary(cx: &NodeContext<'_>) -> Option<Box<dyn Kernel>> {
    let op = cx.op;
    match op.op_type.as_str() {
        "Relu" => one(|x| if x < 0.0 { 0.0 } else { x }),
        "Sigmoid" => one(unary::sigmoid),
        "Tanh" => one(unary::tanh),
        "Erf" => one(unary::erf),
        "Exp" => one(unary::exp),
        "Sqrt" => one(f32::sqrt),
        "Neg" => one(|x: f32| -x),
        "Abs" => one(f32::abs),
        "Reciprocal" => one(|x: f32| 1.0 / x),
        "LeakyRelu" => {
            let alpha = op.float("alpha", 0.01);
            one(move |x| if x < 0.0 { alpha * x } else { x })
        }
        "HardSigmoid" => {
            let (alpha, beta) = (op.float("alpha", 0.2), op.float("beta", 0.5));
            one(move |x| clamp(alpha * x + beta, 0.0, 1.0))
        }
        "HardSwish" => one(|x| x * clamp(x / 6.0 + 0.5, 0.0, 1.0)),
        "Gelu" if op.str("approximate").is_none_or(|s| s == "none") => {
            one(|x| 0.5 * x * (1.0 + unary::erf(x * std::f32::consts::FRAC_1_SQRT_2)))
        }
        "Clip" => {
            let (min, max) = clip_bounds(cx)?;
            let (min, max) = (min.unwrap_or(f32::MIN), max.unwrap_or(f32::MAX));
            (min <= max).then_some(())?;
            one(move |x| clamp(x, min, max))
        }
        _ => None,
    }
}

/// `x` within bounds; NaN stays.
#[inline(always)]
fn clamp(x: f32, min: f32, max: f32) -> f32 {
    let x = if x < min { min } else { x };
    if x > max { max } else { x }
}

/// The bounds of a Clip, if they are constants.
pub(crate) fn clip_bounds(cx: &NodeContext<'_>) -> Option<(Option<f32>, Option<f32>)> {
    if cx.opset < 11 {
        let bound = |key: &str| cx.op.attr(key).and_then(onnxq_ir::Attr::as_float);
        return Some((bound("min"), bound("max")));
    }
    let bound = |i: usize| match cx.graph.operand(cx.node, i) {
        None => Some(None),
        Some(_) => match *cx.constant(i)?.as_slice::<f32>().ok()? {
            [bound] => Some(Some(bound)),
            _ => None,
        },
    };
    Some((bound(1)?, bound(2)?))
}

struct Binary<F> {
    f: F,
    /// Whether operands may change places.
    commutes: bool,
}

fn two<F>(f: F, commutes: bool) -> Option<Box<dyn Kernel>>
where
    F: Fn(f32, f32) -> f32 + Copy + Send + Sync + 'static,
{
    Some(Box::new(Binary {
        f: Two(f),
        commutes,
    }))
}

/// A kernel for a function of two tensors.
pub(crate) fn binary(cx: &NodeContext<'_>) -> Option<Box<dyn Kernel>> {
    if cx.opset < 7 {
        return None;
    }
    match cx.op.op_type.as_str() {
        "Add" => two(|a, b| a + b, true),
        "Sub" => two(|a, b| a - b, false),
        "Mul" => two(|a, b| a * b, true),
        "Div" => two(|a, b| a / b, false),
        "Pow" => match *cx.constant(1)?.as_slice::<f32>().ok()? {
            [2.0] => two(|a, _| a * a, false),
            [0.5] => two(|a, _| a.sqrt(), false),
            _ => None,
        },
        _ => None,
    }
}

impl<F: binary::Function> Kernel for Binary<F> {
    fn run(&self, operands: &mut [Option<Data>], pool: &mut Pool) -> Option<Floats> {
        let [first, second] = operands else {
            return None;
        };
        let (a, b) = (first.as_ref()?.floats()?, second.as_ref()?.floats()?);
        let dims = broadcast(a.1, b.1)?;
        let len = onnxq_tensor::element_count(&dims).ok()?;
        let fits = [a.1 == dims.as_slice(), b.1 == dims.as_slice()];
        if self.commutes && fits[1] && is_owned(second) && !(fits[0] && is_owned(first)) {
            std::mem::swap(first, second);
        }
        let (a, b) = (first.as_ref()?.floats()?, second.as_ref()?.floats()?);
        let rows = Rows::new(&dims, a.1, b.1);
        if a.1 == dims.as_slice()
            && is_owned(first)
            && let Some(Data::Floats(mut owned)) = first.take()
        {
            let (b, _) = second.as_ref()?.floats()?;
            if let Some(y) = Arc::get_mut(&mut owned.data) {
                rows.each(|at, _, b_at| {
                    let y = &mut y[at..at + rows.width];
                    binary::update_row(self.f, y, rows.b.row(b, b_at, rows.width));
                });
            }
            return Some(owned);
        }
        let (a, b) = (first.as_ref()?.floats()?.0, second.as_ref()?.floats()?.0);
        let mut y = pool.take(len)?;
        rows.each(|at, a_at, b_at| {
            let a = rows.a.row(a, a_at, rows.width);
            let b = rows.b.row(b, b_at, rows.width);
            binary::row(self.f, a, b, &mut y[at..at + rows.width]);
        });
        Some(Floats::new(y, dims))
    }
}

/// The dimensions of two tensors broadcast against each other.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Dims> {
    let rank = a.len().max(b.len());
    let dim = |d: &[usize], i: usize| (i + d.len()).checked_sub(rank).map_or(1, |i| d[i]);
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (a, b) if a == b => Some(a),
            (1, b) => Some(b),
            (a, 1) => Some(a),
            _ => None,
        })
        .collect()
}

/// How an operand runs along with the result.
struct Walk {
    /// Elements to the next entry of each outer axis.
    steps: SmallVec<[usize; 4]>,
    /// Whether it moves along a row.
    moves: bool,
}

impl Walk {
    fn row<'a>(&self, x: &'a [f32], at: usize, width: usize) -> Row<'a> {
        match self.moves {
            true => Row::Elements(&x[at..at + width]),
            false => Row::Same(x[at]),
        }
    }
}

/// The result as rows along which each operand is contiguous or constant.
struct Rows {
    outer: SmallVec<[usize; 4]>,
    width: usize,
    a: Walk,
    b: Walk,
}

impl Rows {
    fn new(dims: &[usize], a: &[usize], b: &[usize]) -> Rows {
        // Neighbouring axes along which both operands go on alike are one.
        let moves = |d: &[usize], i: usize| {
            (i + d.len())
                .checked_sub(dims.len())
                .is_some_and(|i| d[i] != 1)
        };
        let mut axes: SmallVec<[(usize, bool, bool); 4]> = SmallVec::new();
        for (i, &n) in dims.iter().enumerate().filter(|(_, n)| **n != 1) {
            let (a, b) = (moves(a, i), moves(b, i));
            match axes.last_mut() {
                Some(last) if (last.1, last.2) == (a, b) => last.0 *= n,
                _ => axes.push((n, a, b)),
            }
        }
        let (width, a_moves, b_moves) = axes.pop().unwrap_or((1, false, false));
        let walk = |moves_last: bool, which: fn(&(usize, bool, bool)) -> bool| {
            let mut stride = if moves_last { width } else { 1 };
            let mut steps: SmallVec<[usize; 4]> = SmallVec::from_elem(0, axes.len());
            for (step, axis) in steps.iter_mut().zip(&axes).rev() {
                if which(axis) {
                    *step = stride;
                    stride *= axis.0;
                }
            }
            Walk {
                steps,
                moves: moves_last,
            }
        };
        Rows {
            a: walk(a_moves, |axis| axis.1),
            b: walk(b_moves, |axis| axis.2),
            outer: axes.iter().map(|axis| axis.0).collect(),
            width,
        }
    }

    /// Calls `f` with where each row begins in the result and in both operands.
    fn each(&self, mut f: impl FnMut(usize, usize, usize)) {
        let rows: usize = self.outer.iter().product();
        if self.width == 0 {
            return;
        }
        let mut index: SmallVec<[usize; 4]> = SmallVec::from_elem(0, self.outer.len());
        let (mut a, mut b) = (0, 0);
        for row in 0..rows {
            f(row * self.width, a, b);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                a += self.a.steps[axis];
                b += self.b.steps[axis];
                if index[axis] < self.outer[axis] {
                    break;
                }
                a -= self.a.steps[axis] * self.outer[axis];
                b -= self.b.steps[axis] * self.outer[axis];
                index[axis] = 0;
            }
        }
    }
}
