//! Softmax, normalizations, and reductions of the last axes.

use std::borrow::Cow;

use onnxq_tensor::Dims;

use super::{Kernel, NodeContext};
use crate::plan::{
    buffers::Pool,
    data::{Data, Floats},
    kernels::rows,
};

struct Softmax {
    axis: i64,
}

/// A kernel for a Softmax over the last axis.
pub(crate) fn softmax(cx: &NodeContext<'_>) -> Option<Box<dyn Kernel>> {
    let default = if cx.opset >= 13 { -1 } else { 1 };
    let axis = cx.op.int("axis", default);
    Some(Box::new(Softmax { axis }))
}

/// Whether `axis` is the last of `rank`.
fn is_last(axis: i64, rank: usize) -> bool {
    rank > 0 && (axis == -1 || axis == rank as i64 - 1)
}

impl Kernel for Softmax {
    fn run(&self, operands: &mut [Option<Data>], pool: &mut Pool) -> Option<Floats> {
        let (x, dims) = operands.first()?.as_ref()?.floats()?;
        let width = *dims.last()?;
        if !is_last(self.axis, dims.len()) || width == 0 {
            return None;
        }
        let mut y = pool.take(x.len())?;
        rows::softmax(x, &mut y[..x.len()], width);
        Some(Floats::new(y, dims.into()))
    }
}

struct LayerNorm {
    axis: i64,
    epsilon: f32,
}

/// A kernel for a LayerNormalization over the last axis.
pub(crate) fn layer(cx: &NodeContext<'_>) -> Option<Box<dyn Kernel>> {
    Some(Box::new(LayerNorm {
        axis: cx.op.int("axis", -1),
        epsilon: cx.op.float("epsilon", 1e-5),
    }))
}

impl Kernel for LayerNorm {
    fn run(&self, operands: &mut [Option<Data>], pool: &mut Pool) -> Option<Floats> {
        let operand = |i: usize| operands.get(i).and_then(Option::as_ref);
        let (x, dims) = operand(0)?.floats()?;
        let width = *dims.last()?;
        let row = |data: &'_ Data| data.floats().is_some_and(|(_, d)| *d == [width]);
        let scale = operand(1).filter(|d| row(d))?.floats()?.0;
        let bias = match operand(2) {
            None => &[],
            Some(bias) => Some(bias).filter(|d| row(d))?.floats()?.0,
        };
        if !is_last(self.axis, dims.len()) || width == 0 {
            return None;
        }
        let mut y = pool.take(x.len())?;
        rows::layer_norm(x, &mut y[..x.len()], scale, bias, self.epsilon);
        Some(Floats::new(y, dims.into()))
    }
}

struct BatchNorm {
    epsilon: f32,
}

/// A kernel for a BatchNormalization with given statistics.
pub(crate) fn batch(cx: &NodeContext<'_>) -> Option<Box<dyn Kernel>> {
    let training = cx.op.int("training_mode", 0) != 0;
    let spatial = cx.op.int("spatial", 1) != 0;
    (cx.opset >= 7 && !training && spatial).then_some(())?;
    let epsilon = cx.op.float("epsilon", 1e-5);
    Some(Box::new(BatchNorm { epsilon }))
}

impl Kernel for BatchNorm {
    fn run(&self, operands: &mut [Option<Data>], pool: &mut Pool) -> Option<Floats> {
        let operand = |i: usize| operands.get(i)?.as_ref()?.floats();
        let (x, dims) = operand(0)?;
        let &[_, channels, ref spatial @ ..] = dims else {
            return None;
        };
        let size: usize = spatial.iter().product();
        let parameter = |i: usize| Some(operand(i).filter(|(_, d)| *d == [channels])?.0);
        let parameters = [parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?];
        let [scale, bias, mean, variance] = parameters;
        let mut y = pool.take(x.len())?;
        if size > 0 {
            let planes = x.chunks_exact(size).zip(y.chunks_exact_mut(size));
            for (i, (x, y)) in planes.enumerate() {
                let c = i % channels;
                let scale = scale[c] / (variance[c] + self.epsilon).sqrt();
                rows::affine(x, y, scale, bias[c] - mean[c] * scale);
            }
        }
        Some(Floats::new(y, dims.into()))
    }
}

struct Reduce {
    mean: bool,
    axes: Vec<i64>,
    keeps: bool,
}

/// A kernel for ReduceMean and ReduceSum over the last axes.
pub(crate) fn reduce(cx: &NodeContext<'_>) -> Option<Box<dyn Kernel>> {
    let mean = cx.op.op_type == "ReduceMean";
    let axes: Cow<'_, [i64]> = match (cx.op.ints("axes"), cx.constant(1)) {
        (Some(axes), _) => axes.into(),
        (None, Some(tensor)) => tensor.to_i64s().ok()?.into(),
        (None, None) => return None,
    };
    (!axes.is_empty()).then_some(())?;
    Some(Box::new(Reduce {
        mean,
        axes: axes.into_owned(),
        keeps: cx.op.int("keepdims", 1) != 0,
    }))
}

impl Kernel for Reduce {
    fn run(&self, operands: &mut [Option<Data>], pool: &mut Pool) -> Option<Floats> {
        let (x, x_dims) = operands.first()?.as_ref()?.floats()?;
        let rank = x_dims.len();
        let axis = |&a: &i64| usize::try_from(if a < 0 { a + rank as i64 } else { a }).ok();
        let mut axes: Vec<usize> = self.axes.iter().map(axis).collect::<Option<_>>()?;
        axes.sort_unstable();
        let kept = rank.checked_sub(axes.len())?;
        let width: usize = x_dims[kept..].iter().product();
        if !axes.iter().copied().eq(kept..rank) || width == 0 {
            return None;
        }
        let mut dims: Dims = x_dims[..kept].into();
        let len: usize = dims.iter().product();
        if self.keeps {
            dims.resize(rank, 1);
        }
        let scale = if self.mean { 1.0 / width as f32 } else { 1.0 };
        let mut y = pool.take(len)?;
        rows::sums(x, &mut y[..len], width, scale);
        Some(Floats::new(y, dims))
    }
}
