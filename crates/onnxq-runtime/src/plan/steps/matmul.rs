//! MatMul and Gemm.

use onnxq_tensor::Dims;

use super::{Kernel, NodeContext, elementwise::broadcast};
use crate::plan::{
    buffers::Pool,
    data::{Data, Floats},
    kernels::gemm::{Matrix, MatrixMut, gemm as product},
};

struct MatMul;

/// A kernel for a MatMul.
pub(crate) fn matmul(_: &NodeContext<'_>) -> Option<Box<dyn Kernel>> {
    Some(Box::new(MatMul))
}

impl Kernel for MatMul {
    fn run(&self, operands: &mut [Option<Data>], pool: &mut Pool) -> Option<Floats> {
        let (a, a_dims) = operands.first()?.as_ref()?.floats()?;
        let (b, b_dims) = operands.get(1)?.as_ref()?.floats()?;
        let (a_outer, &[mut m, k]) = a_dims.split_last_chunk::<2>()?;
        let (b_outer, &[b_k, n]) = b_dims.split_last_chunk::<2>()?;
        if k != b_k {
            return None;
        }
        let outer = broadcast(a_outer, b_outer)?;
        let mut dims = outer.clone();
        dims.extend([m, n]);
        let len = onnxq_tensor::element_count(&dims).ok()?;
        let mut batch: usize = outer.iter().product();
        if b_outer.iter().all(|&d| d == 1) && a_outer == outer.as_slice() {
            // One matrix for all rows.
            m = m.checked_mul(batch)?;
            batch = 1;
        }
        let index = |i: usize, of: &[usize]| index(&outer, i, of);
        let mut y = pool.take(len)?;
        for i in 0..batch {
            let (a_at, b_at) = match batch {
                1 => (0, 0),
                _ => (index(i, a_outer), index(i, b_outer)),
            };
            let c = MatrixMut {
                data: &mut y[i * m * n..],
                row: n,
            };
            let a = Matrix::rows(&a[a_at * m * k..], k);
            product([m, n, k], c, false, a, Matrix::rows(&b[b_at * k * n..], n));
        }
        Some(Floats::new(y, dims))
    }
}

/// Which entry of a tensor of dimensions `of` meets entry `i` of one of dimensions `outer`.
fn index(outer: &[usize], mut i: usize, of: &[usize]) -> usize {
    let (mut at, mut stride) = (0, 1);
    for (axis, &n) in outer.iter().enumerate().rev() {
        let position = i % n;
        i /= n;
        let Some(own) = (axis + of.len()).checked_sub(outer.len()) else {
            break;
        };
        if of[own] != 1 {
            at += position * stride;
        }
        stride *= of[own];
    }
    at
}

struct Gemm {
    alpha: f32,
    beta: f32,
    transposed: [bool; 2],
}

/// A kernel for a Gemm.
pub(crate) fn gemm(cx: &NodeContext<'_>) -> Option<Box<dyn Kernel>> {
    (cx.opset >= 7).then_some(())?;
    Some(Box::new(Gemm {
        alpha: cx.op.float("alpha", 1.0),
        beta: cx.op.float("beta", 1.0),
        transposed: ["transA", "transB"].map(|key| cx.op.int(key, 0) != 0),
    }))
}

impl Kernel for Gemm {
    fn run(&self, operands: &mut [Option<Data>], pool: &mut Pool) -> Option<Floats> {
        let matrix = |i: usize| {
            let (data, dims) = operands.get(i)?.as_ref()?.floats()?;
            let &[rows, columns] = dims else { return None };
            let matrix = Matrix::rows(data, columns);
            Some(match self.transposed[i] {
                true => (matrix.transposed(), columns, rows),
                false => (matrix, rows, columns),
            })
        };
        let ((a, m, k), (b, b_k, n)) = (matrix(0)?, matrix(1)?);
        if k != b_k {
            return None;
        }
        let c = match operands.get(2) {
            Some(Some(c)) => {
                let (c, dims) = c.floats()?;
                let rank = dims.len();
                let from_end = |i: usize| rank.checked_sub(i).map_or(1, |i| dims[i]);
                let (rows, columns) = (from_end(2), from_end(1));
                let fits = rank <= 2 && (rows == m || rows == 1) && (columns == n || columns == 1);
                Some((c, rows, columns)).filter(|_| fits)
            }
            _ => None,
        };
        if c.is_none() && matches!(operands.get(2), Some(Some(_))) {
            return None;
        }
        let len = m.checked_mul(n)?;
        let mut y = pool.take(len)?;
        let to = MatrixMut {
            data: &mut y[..len],
            row: n,
        };
        product([m, n, k], to, false, a, b);
        if self.alpha != 1.0 {
            y[..len].iter_mut().for_each(|y| *y *= self.alpha);
        }
        if let (Some((c, rows, columns)), 1..) = (c, n) {
            for (i, y) in y[..len].chunks_exact_mut(n).enumerate() {
                let row = if rows == 1 { 0 } else { i * columns };
                for (j, y) in y.iter_mut().enumerate() {
                    let column = if columns == 1 { 0 } else { j };
                    *y += self.beta * c[row + column];
                }
            }
        }
        Some(Floats::new(y, Dims::from_slice(&[m, n])))
    }
}
