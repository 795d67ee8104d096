//! Values as they lie in memory before the transposes that made them.
//!
//! A step that can read at strides takes the operand of a transpose, and so makes the transpose
//! unnecessary.

use std::ops::Range;

use onnxq_ir::{NodeId, ValueId};
use onnxq_tensor::{DType, Dims};
use smallvec::SmallVec;

use crate::program::{
    Place,
    lower::{Home, Layout, Lowering},
    threads::cut,
};

/// Where the elements of a value are.
#[derive(Clone, Debug)]
pub(super) struct Strided {
    pub(super) place: Place,
    pub(super) dtype: DType,
    pub(super) dims: Dims,
    /// From index to index of each axis, in elements.
    pub(super) strides: SmallVec<[usize; 6]>,
}

impl Strided {
    /// A value, seen through the transpose that makes it, if one does.
    pub(super) fn of(lowering: &Lowering<'_>, v: ValueId) -> Option<Strided> {
        let graph = lowering.graph;
        let op = graph.op(v.node).filter(|op| op.is("Transpose"));
        let Some((op, home)) = op.zip(lowering.operand(v.node, 0)) else {
            return Some(Strided::in_place(lowering.home(v)?));
        };
        let x = Strided::in_place(home);
        let perm = permutation(op.ints("perm"), x.dims.len())?;
        Some(Strided {
            dims: perm.iter().map(|&axis| x.dims[axis]).collect(),
            strides: perm.iter().map(|&axis| x.strides[axis]).collect(),
            ..x
        })
    }

    fn in_place(home: &Home) -> Strided {
        let mut strides: SmallVec<[usize; 6]> = SmallVec::from_elem(1, home.dims.len());
        let mut stride = 1;
        let rank = home.dims.len();
        let axes = (0..rank).rev();
        let order: SmallVec<[usize; 6]> = match home.layout {
            Layout::ChannelsLast if rank > 1 => std::iter::once(1)
                .chain(axes.filter(|&axis| axis != 1))
                .collect(),
            _ => axes.collect(),
        };
        for axis in order {
            strides[axis] = stride;
            stride *= home.dims[axis];
        }
        Strided {
            place: home.place,
            dtype: home.dtype,
            dims: home.dims.clone(),
            strides,
        }
    }

    /// Rows and columns, with their strides, of the last two axes.
    pub(super) fn matrix(&self) -> Option<([usize; 2], [usize; 2])> {
        let &[.., rows, columns] = &self.dims[..] else {
            return None;
        };
        let &[.., row, column] = &self.strides[..] else {
            return None;
        };
        Some(([rows, columns], [row, column]))
    }

    /// Two numbers for all axes but the last two, with their strides: the second is the last of
    /// these axes, the first all before, which must be one after the other in memory.
    pub(super) fn stacks(&self) -> Option<([usize; 2], [usize; 2])> {
        let axes = self.dims.len().checked_sub(2)?;
        let (dims, strides) = (&self.dims[..axes], &self.strides[..axes]);
        let Some((&last, dims)) = dims.split_last() else {
            return Some(([1, 1], [0, 0]));
        };
        let (mut count, mut stride) = (1, 0);
        for (&dim, &step) in dims.iter().zip(strides).rev() {
            if dim == 1 {
                continue;
            }
            if count == 1 {
                stride = step;
            } else if step != stride * count {
                return None;
            }
            count *= dim;
        }
        Some(([count, last], [stride, strides[axes - 1]]))
    }
}

/// The axes that a transpose moves to each place.
pub(super) fn permutation(perm: Option<&[i64]>, rank: usize) -> Option<SmallVec<[usize; 6]>> {
    let perm: SmallVec<[usize; 6]> = match perm {
        None => (0..rank).rev().collect(),
        Some(perm) => {
            let axis = |&p: &i64| usize::try_from(p).ok().filter(|&p| p < rank);
            perm.iter().map(axis).collect::<Option<_>>()?
        }
    };
    (perm.len() == rank).then_some(perm)
}

/// Where the results of a product of stacked matrices go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stacks {
    pub(super) batches: usize,
    pub(super) heads: usize,
    pub(super) rows: usize,
    pub(super) width: usize,
    /// From row to row, from head to head, from batch to batch.
    pub(super) strides: [usize; 3],
}

/// Some of the heads, some of the rows, and the memory that they go to.
pub(super) type Part<'y, T> = (Range<usize>, Range<usize>, &'y mut [T]);

impl Stacks {
    /// Elements of a batch.
    pub(super) fn batch(&self) -> usize {
        self.heads * self.rows * self.width
    }

    /// The result of one batch in parts, cut where one lies after the other.
    pub(super) fn parts<'y, T>(&self, mut y: &'y mut [T], count: usize) -> Vec<Part<'y, T>> {
        // Heads that are side by side, or only one.
        let by_rows = self.strides[0] == self.heads * self.width;
        let (units, unit, stride) = match by_rows {
            true => (self.rows, 16, self.strides[0]),
            false => (self.heads, 1, self.strides[1]),
        };
        let mut parts = Vec::new();
        for range in cut(units, count, unit) {
            let (part, rest) = y.split_at_mut(range.len() * stride);
            y = rest;
            parts.push(match by_rows {
                true => (0..self.heads, range, part),
                false => (range, 0..self.rows, part),
            });
        }
        parts
    }
}

/// The node to whose result a product of `[batches, heads, rows, width]` may go: the transpose after it
/// that puts the heads side by side, or itself; and how it goes there.
pub(super) fn merged(
    lowering: &Lowering<'_>,
    n: NodeId,
    [batches, heads, rows, width]: [usize; 4],
) -> (NodeId, Stacks) {
    let turned = lowering.sole_user(lowering.graph.result(n, 0));
    let turned = turned.filter(|(_, _, op)| {
        let perm = permutation(op.ints("perm"), 4);
        op.is("Transpose") && perm.is_some_and(|perm| perm[..] == [0, 2, 1, 3])
    });
    let batch = heads * rows * width;
    let (node, strides) = match turned {
        Some((transpose, ..)) => (transpose, [heads * width, width, batch]),
        None => (n, [width, rows * width, batch]),
    };
    let stacks = Stacks {
        batches,
        heads,
        rows,
        width,
        strides,
    };
    (node, stacks)
}
