//! Pooling.

use onnxq_tensor::Dims;

use super::{Kernel, NodeContext, conv::Window};
use crate::plan::{
    buffers::Pool,
    data::{Data, Floats},
    kernels::{
        rows::sums,
        stencil::{Window2, largest, weighted},
    },
};

struct Pooling {
    window: Window,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Max,
    Average { counts_padding: bool },
}

/// A kernel for MaxPool and AveragePool.
pub(crate) fn pool(cx: &NodeContext<'_>) -> Option<Box<dyn Kernel>> {
    let counts_padding = cx.op.int("count_include_pad", 0) != 0;
    let kind = match cx.op.op_type.as_str() {
        "MaxPool" => Kind::Max,
        _ => Kind::Average { counts_padding },
    };
    Some(Box::new(Pooling {
        window: Window::of(cx.op)?,
        kind,
    }))
}

impl Kernel for Pooling {
    fn run(&self, operands: &mut [Option<Data>], pool: &mut Pool) -> Option<Floats> {
        let (x, x_dims) = operands.first()?.as_ref()?.floats()?;
        if !(3..=4).contains(&x_dims.len()) {
            return None;
        }
        let window = self.window.place(&x_dims[2..], None)?;
        let mut dims = Dims::from_slice(&x_dims[..2]);
        dims.extend_from_slice(&window.output[4 - x_dims.len()..]);
        let len = onnxq_tensor::element_count(&dims).ok()?;
        let planes = x_dims[0].checked_mul(x_dims[1])?;
        let [size, positions] = [window.input, window.output].map(|s| s[0] * s[1]);
        let (pitch, width, span) = (window.pitch(), window.output[1], window.span());
        let offsets = window.offsets();
        let weights = vec![1.0; offsets.len()];
        let scales = match self.kind {
            Kind::Max => Vec::new(),
            Kind::Average { counts_padding } => scales(&window, counts_padding)?,
        };
        let mut y = pool.take(len)?;
        let mut phases = pool.take(window.phases_len()?)?;
        let padding = if self.kind == Kind::Max {
            f32::NEG_INFINITY
        } else {
            0.0
        };
        phases.fill(padding);
        let mut wide = pool.take(span)?;
        for plane in 0..planes {
            window.deal(&x[plane * size..][..size], &mut phases);
            match self.kind {
                Kind::Max => largest(&phases, &offsets, &mut wide[..span]),
                Kind::Average { .. } => weighted(&phases, &offsets, &weights, &mut wide[..span]),
            }
            let y = &mut y[plane * positions..][..positions];
            for (to, from) in y.chunks_exact_mut(width).zip(wide.chunks(pitch)) {
                to.copy_from_slice(&from[..width]);
            }
            for (y, &scale) in y.iter_mut().zip(&scales) {
                *y *= scale;
            }
        }
        pool.give(phases);
        pool.give(wide);
        Some(Floats::new(y, dims))
    }
}

/// One over the number of elements that count at each position; `None` where there may be none.
fn scales(window: &Window2, counts_padding: bool) -> Option<Vec<f32>> {
    let count = |axis: usize, at: usize| {
        let inside = |tap: usize| {
            let p = at * window.strides[axis] + tap * window.dilations[axis];
            (window.begin[axis]..window.begin[axis] + window.input[axis]).contains(&p)
        };
        let taps = 0..window.kernel[axis];
        match counts_padding {
            true => taps.len(),
            false => taps.filter(|&tap| inside(tap)).count(),
        }
    };
    let counts = [0, 1].map(|axis| {
        let positions = 0..window.output[axis];
        positions.map(|at| count(axis, at)).collect::<Vec<_>>()
    });
    let [rows, columns] = counts;
    let cells = rows.iter().flat_map(|r| columns.iter().map(move |c| r * c));
    cells.map(|n| (n > 0).then(|| 1.0 / n as f32)).collect()
}

struct GlobalAverage;

/// A kernel for GlobalAveragePool.
pub(crate) fn global_average(_: &NodeContext<'_>) -> Option<Box<dyn Kernel>> {
    Some(Box::new(GlobalAverage))
}

impl Kernel for GlobalAverage {
    fn run(&self, operands: &mut [Option<Data>], pool: &mut Pool) -> Option<Floats> {
        let (x, x_dims) = operands.first()?.as_ref()?.floats()?;
        let width: usize = x_dims.get(2..)?.iter().product();
        let len = x_dims[0].checked_mul(x_dims[1])?;
        if width == 0 {
            return None;
        }
        let mut dims: Dims = x_dims.into();
        dims[2..].fill(1);
        let mut y = pool.take(len)?;
        sums(x, &mut y[..len], width, 1.0 / width as f32);
        Some(Floats::new(y, dims))
    }
}
