//! Elements in another order: Transpose and Concat.

use onnxq_tensor::Dims;

use super::{Kernel, NodeContext};
use crate::plan::{
    buffers::Pool,
    data::{Data, Floats},
};

struct Transpose {
    order: Option<Vec<i64>>,
}

/// A kernel for a Transpose.
pub(crate) fn transpose(cx: &NodeContext<'_>) -> Option<Box<dyn Kernel>> {
    let order = cx.op.ints("perm").map(<[i64]>::to_vec);
    (order.is_some() || cx.op.attr("perm").is_none()).then_some(())?;
    Some(Box::new(Transpose { order }))
}

impl Kernel for Transpose {
    fn run(&self, operands: &mut [Option<Data>], pool: &mut Pool) -> Option<Floats> {
        let (x, x_dims) = operands.first()?.as_ref()?.floats()?;
        let rank = x_dims.len();
        let order: Vec<usize> = match &self.order {
            Some(order) => order.iter().map(|&a| a as usize).collect(),
            None => (0..rank).rev().collect(),
        };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..rank) {
            return None;
        }
        let dims: Dims = order.iter().map(|&a| x_dims[a]).collect();
        let mut y = pool.take(x.len())?;
        let mut strides = vec![1; rank];
        for axis in (0..rank.saturating_sub(1)).rev() {
            strides[axis] = strides[axis + 1] * x_dims[axis + 1];
        }
        // Axes of the result as (elements, step in the operand), those that go on alike as one.
        let mut axes: Vec<(usize, usize)> = Vec::new();
        for &a in order.iter().filter(|&&a| x_dims[a] != 1) {
            match axes.last_mut() {
                Some((n, step)) if *step == strides[a] * x_dims[a] => {
                    (*n, *step) = (*n * x_dims[a], strides[a]);
                }
                _ => axes.push((x_dims[a], strides[a])),
            }
        }
        if !x.is_empty() {
            copy(x, &axes, &mut y[..x.len()]);
        }
        Some(Floats::new(y, dims))
    }
}

/// Copies to the axes of the result, the last ones in tiles.
fn copy(x: &[f32], axes: &[(usize, usize)], y: &mut [f32]) {
    let ((outer, rows), (width, step)) = match *axes {
        [] => ((&axes[..0], (1, 0)), (1, 1)),
        [last] => ((&axes[..0], (1, 0)), last),
        [ref outer @ .., rows, last] => ((outer, rows), last),
    };
    let (height, row) = rows;
    let mut index = vec![0; outer.len()];
    let mut from = 0;
    for y in y.chunks_exact_mut(height * width) {
        if step == 1 {
            for (i, y) in y.chunks_exact_mut(width).enumerate() {
                y.copy_from_slice(&x[from + i * row..][..width]);
            }
        } else {
            tiles(&x[from..], y, (height, row), (width, step));
        }
        for axis in (0..outer.len()).rev() {
            let (n, step) = outer[axis];
            index[axis] += 1;
            from += step;
            if index[axis] < n {
                break;
            }
            from -= n * step;
            index[axis] = 0;
        }
    }
}

/// Tiles small enough that their cache lines stay on both sides.
const TILE: usize = 16;

fn tiles(x: &[f32], y: &mut [f32], (height, row): (usize, usize), (width, step): (usize, usize)) {
    for top in (0..height).step_by(TILE) {
        for left in (0..width).step_by(TILE) {
            for i in top..height.min(top + TILE) {
                let y = &mut y[i * width..][left..width.min(left + TILE)];
                for (y, x) in y
                    .iter_mut()
                    .zip(x[i * row + left * step..].iter().step_by(step))
                {
                    *y = *x;
                }
            }
        }
    }
}

struct Concat {
    axis: i64,
}

/// A kernel for a Concat.
pub(crate) fn concat(cx: &NodeContext<'_>) -> Option<Box<dyn Kernel>> {
    let default = if cx.opset < 4 { 1 } else { 0 };
    let axis = cx.op.int("axis", default);
    Some(Box::new(Concat { axis }))
}

impl Kernel for Concat {
    fn run(&self, operands: &mut [Option<Data>], pool: &mut Pool) -> Option<Floats> {
        let parts = operands.iter().map(|o| o.as_ref()?.floats());
        let parts: Vec<(&[f32], &[usize])> = parts.collect::<Option<_>>()?;
        let mut dims: Dims = parts.first()?.1.into();
        let rank = dims.len();
        let axis = if self.axis < 0 {
            self.axis + rank as i64
        } else {
            self.axis
        };
        let axis = usize::try_from(axis).ok().filter(|&a| a < rank)?;
        let alike = |d: &[usize]| {
            d.len() == rank && d[..axis] == dims[..axis] && d[axis + 1..] == dims[axis + 1..]
        };
        if !parts.iter().all(|(_, d)| alike(d)) {
            return None;
        }
        dims[axis] = parts.iter().map(|(_, d)| d[axis]).sum();
        let len = onnxq_tensor::element_count(&dims).ok()?;
        let rows: usize = dims[..axis].iter().product();
        let row: usize = dims[axis..].iter().product();
        let mut y = pool.take(len)?;
        let mut at = 0;
        for (x, d) in parts {
            let width: usize = d[axis..].iter().product();
            if width > 0 {
                for (i, x) in x.chunks_exact(width).enumerate().take(rows) {
                    let start = i * row + at;
                    y[start..start + width].copy_from_slice(x);
                }
            }
            at += width;
        }
        Some(Floats::new(y, dims))
    }
}
