//! Conv over one or two spatial axes: a matrix product over columns of a block of positions, or,
//! where each channel is alone, a stencil.

use onnxq_ir::Op;
use onnxq_tensor::Dims;

use super::{Kernel, NodeContext};
use crate::plan::{
    buffers::Pool,
    data::{Data, Floats},
    kernels::{
        gemm::{Matrix, MatrixMut, gemm},
        im2col::im2col,
        rows::{Clamp, finish},
        stencil::{Window2, weighted},
    },
};

/// Elements of the columns, or of the result, of one block: what stays in the second-level cache.
const BLOCK: usize = 192 << 10;

/// Windows with sizes beyond this are left to the reference.
const LIMIT: i64 = 1 << 24;

/// What attributes say of a window, by axis; `None` where the reference decides.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    kernel: Option<[i64; 2]>,
    strides: [i64; 2],
    dilations: [i64; 2],
    /// Before and after, each by axis.
    pads: [[i64; 2]; 2],
    auto_pad: AutoPad,
    /// How many axes there really are; with one, the other is of one element.
    axes: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum AutoPad {
    Given,
    Upper,
    Lower,
    Valid,
}

/// The integers of an attribute for two axes.
fn axes(op: &Op, key: &str, default: i64) -> Option<([i64; 2], Option<usize>)> {
    let fits = |&v: &i64| (0..=LIMIT).contains(&v);
    match op.ints(key) {
        None if op.attr(key).is_some() => None,
        None => Some(([default; 2], None)),
        Some(&[x]) if fits(&x) => Some(([default, x], Some(1))),
        Some(&[y, x]) if fits(&y) && fits(&x) => Some(([y, x], Some(2))),
        Some(_) => None,
    }
}

impl Window {
    /// The window of a node, if it is an ordinary one.
    pub(crate) fn of(op: &Op) -> Option<Window> {
        let (kernel, of_kernel) = axes(op, "kernel_shape", 1)?;
        let (strides, of_strides) = axes(op, "strides", 1)?;
        let (dilations, of_dilations) = axes(op, "dilations", 1)?;
        let (pads, of_pads) = match op.ints("pads") {
            None if op.attr("pads").is_some() => return None,
            None => ([[0; 2]; 2], None),
            Some(&[a, b]) => ([[0, a], [0, b]], Some(1)),
            Some(&[a, b, c, d]) => ([[a, b], [c, d]], Some(2)),
            Some(_) => return None,
        };
        let all = [of_kernel, of_strides, of_dilations, of_pads];
        let count = all.into_iter().flatten().max();
        let agree = all.iter().flatten().all(|&n| Some(n) == count);
        let pads_fit = pads.as_flattened().iter().all(|p| (0..=LIMIT).contains(p));
        let auto_pad = match op.str("auto_pad") {
            None if op.attr("auto_pad").is_some() => return None,
            None | Some("" | "NOTSET") => AutoPad::Given,
            Some("SAME_UPPER") => AutoPad::Upper,
            Some("SAME_LOWER") => AutoPad::Lower,
            Some("VALID") => AutoPad::Valid,
            Some(_) => return None,
        };
        let positive = strides.iter().chain(&dilations).all(|&v| v > 0);
        (agree && pads_fit && positive && op.int("ceil_mode", 0) == 0).then_some(Window {
            kernel: of_kernel.map(|_| kernel),
            strides,
            dilations,
            pads,
            auto_pad,
            axes: count,
        })
    }

    /// The window on spatial axes of these sizes; the kernel is that of the weights, or else the
    /// attribute's. `None` where nothing ordinary comes out.
    pub(crate) fn place(&self, input: &[usize], weights: Option<&[usize]>) -> Option<Window2> {
        if self.axes.is_some_and(|n| n != input.len()) {
            return None;
        }
        let both = |v: &[usize]| match *v {
            [x] => Some([1, x]),
            [y, x] => Some([y, x]),
            _ => None,
        };
        let input = both(input)?;
        let kernel = match (weights, self.kernel) {
            (Some(w), None) => both(w)?,
            (None, Some(k)) => k.map(|k| k as usize),
            (Some(w), Some(k)) => both(w).filter(|&w| w == k.map(|k| k as usize))?,
            (None, None) => return None,
        };
        let (mut output, mut begin) = ([0; 2], [0; 2]);
        for axis in 0..2 {
            let size = i64::try_from(input[axis]).ok().filter(|n| *n <= LIMIT)?;
            let taps = i64::try_from(kernel[axis]).ok().filter(|n| *n <= LIMIT)?;
            let extent = (taps - 1) * self.dilations[axis] + 1;
            let stride = self.strides[axis];
            let (before, after) = match self.auto_pad {
                AutoPad::Given => (self.pads[0][axis], self.pads[1][axis]),
                AutoPad::Valid => (0, 0),
                AutoPad::Upper | AutoPad::Lower => {
                    let placed = (size + stride - 1) / stride;
                    let total = ((placed - 1).max(0) * stride + extent - size).max(0);
                    match self.auto_pad {
                        AutoPad::Upper => (total / 2, total - total / 2),
                        _ => (total - total / 2, total / 2),
                    }
                }
            };
            let room = size + before + after - extent;
            if taps < 1 || size < 1 || room < 0 || extent > LIMIT {
                return None;
            }
            output[axis] = (room / stride + 1) as usize;
            begin[axis] = before as usize;
        }
        Some(Window2 {
            input,
            output,
            kernel,
            strides: self.strides.map(|v| v as usize),
            dilations: self.dilations.map(|v| v as usize),
            begin,
        })
    }
}

/// A convolution, perhaps with what follows it.
struct Conv {
    window: Window,
    groups: usize,
    /// Whether operand 3 is added.
    adds: bool,
    clamp: Clamp,
}

/// A kernel for a Conv.
pub(crate) fn conv(cx: &NodeContext<'_>) -> Option<Box<dyn Kernel>> {
    let groups = usize::try_from(cx.op.int("group", 1)).ok()?;
    Some(Box::new(Conv {
        window: Window::of(cx.op)?,
        groups: (groups > 0).then_some(groups)?,
        adds: cx.epilogue.adds,
        clamp: cx.epilogue.clamp,
    }))
}

/// One convolution, all sizes known.
struct Problem<'a> {
    window: Window2,
    batch: usize,
    groups: usize,
    /// Channels of one group.
    inputs: usize,
    outputs: usize,
    x: &'a [f32],
    w: &'a [f32],
    bias: Option<&'a [f32]>,
    other: Option<&'a [f32]>,
    clamp: Clamp,
}

impl Kernel for Conv {
    fn run(&self, operands: &mut [Option<Data>], pool: &mut Pool) -> Option<Floats> {
        let operand = |i: usize| operands.get(i).and_then(Option::as_ref);
        let (x, x_dims) = operand(0)?.floats()?;
        let (w, w_dims) = operand(1)?.floats()?;
        if !(3..=4).contains(&x_dims.len()) || w_dims.len() != x_dims.len() {
            return None;
        }
        let fits = w_dims[0].is_multiple_of(self.groups)
            && w_dims[1].checked_mul(self.groups) == Some(x_dims[1])
            && !w_dims.contains(&0);
        let window = self.window.place(&x_dims[2..], Some(&w_dims[2..]));
        let window = window.filter(|_| fits)?;
        let bias = match operand(2) {
            None => None,
            Some(bias) => Some(bias.floats().filter(|(_, d)| *d == &w_dims[..1])?.0),
        };
        let mut dims = Dims::from_slice(&[x_dims[0], w_dims[0]]);
        dims.extend_from_slice(&window.output[4 - x_dims.len()..]);
        let other = match self.adds {
            false => None,
            true => Some(operand(3)?.floats().filter(|(_, d)| *d == &dims[..])?.0),
        };
        let problem = Problem {
            window,
            batch: x_dims[0],
            groups: self.groups,
            inputs: w_dims[1],
            outputs: w_dims[0] / self.groups,
            x,
            w,
            bias,
            other,
            clamp: self.clamp,
        };
        let len = onnxq_tensor::element_count(&dims).ok()?;
        let mut y = pool.take(len)?;
        let done = if problem.inputs == 1 && problem.outputs == 1 {
            problem.depthwise(&mut y[..len], pool)
        } else {
            problem.product(&mut y[..len], pool)
        };
        if done.is_none() {
            pool.give(y);
            return None;
        }
        Some(Floats::new(y, dims))
    }
}

impl Problem<'_> {
    fn positions(&self) -> usize {
        self.window.output[0] * self.window.output[1]
    }

    /// Whether a position of the result meets the same position of the operand, and only that.
    fn is_pointwise(&self) -> bool {
        let w = &self.window;
        w.kernel == [1, 1] && w.strides == [1, 1] && w.begin == [0, 0] && w.input == w.output
    }

    /// `W · columns`, in blocks of positions.
    fn product(&self, y: &mut [f32], pool: &mut Pool) -> Option<()> {
        let window = &self.window;
        let (size, positions) = (window.input[0] * window.input[1], self.positions());
        let depth = self.inputs * window.kernel[0] * window.kernel[1];
        let pointwise = self.is_pointwise();
        // A block is a multiple of what the product works on at a time.
        let block = (BLOCK / depth.max(self.outputs)).next_multiple_of(48);
        let block = positions
            .div_ceil(positions.div_ceil(block))
            .next_multiple_of(16);
        let mut columns = match pointwise {
            true => Vec::new(),
            false => pool.take(depth.checked_mul(block.min(positions))?)?,
        };
        for image in 0..self.batch * self.groups {
            let group = image % self.groups;
            let x = &self.x[image * self.inputs * size..][..self.inputs * size];
            let w = &self.w[group * self.outputs * depth..][..self.outputs * depth];
            let first = image * self.outputs;
            for start in (0..positions).step_by(block) {
                let at = start..positions.min(start + block);
                let width = at.len();
                let b = if pointwise {
                    Matrix {
                        data: &x[start..],
                        row: size,
                        column: 1,
                    }
                } else {
                    let columns = &mut columns[..depth * width];
                    im2col(window, x, at.clone(), columns);
                    Matrix::rows(columns, width)
                };
                let c = MatrixMut {
                    data: &mut y[first * positions + start..],
                    row: positions,
                };
                gemm(
                    [self.outputs, width, depth],
                    c,
                    false,
                    Matrix::rows(w, depth),
                    b,
                );
                for i in 0..self.outputs {
                    let row = (first + i) * positions + start;
                    self.finish(y, row..row + width, group * self.outputs + i);
                }
            }
        }
        if !pointwise {
            pool.give(columns);
        }
        Some(())
    }

    /// A stencil for each channel.
    fn depthwise(&self, y: &mut [f32], pool: &mut Pool) -> Option<()> {
        let window = &self.window;
        let size = window.input[0] * window.input[1];
        let (positions, offsets) = (self.positions(), window.offsets());
        let (pitch, span, width) = (window.pitch(), window.span(), window.output[1]);
        let mut phases = pool.zeroed(window.phases_len()?)?;
        let mut wide = pool.take(span)?;
        for plane in 0..self.batch * self.groups {
            let channel = plane % self.groups;
            window.deal(&self.x[plane * size..][..size], &mut phases);
            let w = &self.w[channel * offsets.len()..][..offsets.len()];
            let y_plane = &mut y[plane * positions..][..positions];
            weighted(&phases, &offsets, w, &mut wide[..span]);
            for (to, from) in y_plane.chunks_exact_mut(width).zip(wide.chunks(pitch)) {
                to.copy_from_slice(&from[..width]);
            }
            self.finish(y, plane * positions..(plane + 1) * positions, channel);
        }
        pool.give(phases);
        pool.give(wide);
        Some(())
    }

    /// Bias, sum and clamp on a part of the result.
    fn finish(&self, y: &mut [f32], part: std::ops::Range<usize>, channel: usize) {
        if self.bias.is_none() && self.other.is_none() && self.clamp == Clamp::default() {
            return;
        }
        let bias = self.bias.map_or(0.0, |b| b[channel]);
        let other = self.other.map_or(&[][..], |o| &o[part.clone()]);
        finish(&mut y[part], bias, other, self.clamp);
    }
}
