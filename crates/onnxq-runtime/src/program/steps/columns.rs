//! Products of few rows, cut by columns: threads that shared their rows would each read all weights, which take longer
//! to arrive than to multiply.

use onnxq_kernels::{Epilogue, Left, Line, Output, Product, Requantize, Residual, bytes_mut};

use super::product::{Finish, PackedWeights, Task};
use crate::program::{call::Call, threads::cut};

/// So many rows are few.
const FEW_ROWS: usize = 64;

/// Columns that are not cut.
const UNIT: usize = 64;

/// Lines of scratch memory for parts of products with these weights, beside those that the products need.
pub(super) fn column_parts_lines(weights: &PackedWeights, threads: usize) -> usize {
    match threads {
        0 | 1 => 0,
        _ => 2 * (Line::count(FEW_ROWS * weights.columns) + threads),
    }
}

/// Some columns, and memory for them.
struct Part<'a> {
    first: usize,
    width: usize,
    scratch: &'a mut [Line],
    result: &'a mut [u8],
    others: &'a mut [u8],
}

impl Task<'_> {
    /// Whether threads share the columns.
    pub(super) fn is_cut_by_columns(&self, parts: usize) -> bool {
        let few = self.geometry.rows() <= FEW_ROWS;
        few && parts > 1 && self.weights.columns >= 2 * UNIT
    }

    /// Where a row of the result begins.
    fn place(&self, row: usize) -> usize {
        let run_len = self.geometry.run_len;
        row / run_len * self.strides[0] + row % run_len * self.strides[1]
    }

    /// Computes bytes, in so many parts. Each has its own memory: rows of the result belong to all of them.
    pub(super) fn run_columns(
        &self,
        call: &Call<'_>,
        left: &[u8],
        parts: usize,
        scratch: &mut [Line],
        y: &mut [u8],
        other: Option<&[u8]>,
    ) {
        let Finish::Bytes {
            scale,
            zero,
            bounds,
            added,
        } = self.finish
        else {
            return;
        };
        let (rows, weights) = (self.geometry.rows(), self.weights.view(call.weights));
        let mut rest = scratch;
        let mut work = Vec::new();
        for range in cut(weights.columns, parts, UNIT) {
            let lines = Line::count(rows * range.len());
            let (scratch, tail) = rest.split_at_mut(self.weights.scratch_lines());
            let (result, tail) = tail.split_at_mut(lines);
            let (others, tail) = tail.split_at_mut(added.map_or(0, |_| lines));
            rest = tail;
            work.push(Part {
                first: range.start,
                width: range.len(),
                scratch,
                result: bytes_mut(result),
                others: bytes_mut(others),
            });
        }
        let other = other.unwrap_or(y);
        call.threads
            .run(work.iter_mut().collect(), |part: &mut Part<'_>| {
                let (first, width) = (part.first, part.width);
                let columns = first..first + width;
                let is_row = added.is_some_and(|added| added.row);
                for (row, others) in part.others.chunks_exact_mut(width).take(rows).enumerate() {
                    let place = if is_row { 0 } else { self.place(row) };
                    others.copy_from_slice(&other[place + first..][..width]);
                }
                let product = Product {
                    left: Left {
                        data: left,
                        signed: self.signed,
                        geometry: self.geometry,
                    },
                    right: weights.columns(columns.clone()),
                    strides: [self.geometry.run_len * width, width],
                    epilogue: Epilogue {
                        offset: &self.offset[columns.clone()],
                        zero: self.zero.get(columns.clone()).unwrap_or_default(),
                    },
                };
                let to = Requantize {
                    scale: &scale[columns],
                    zero,
                    bounds,
                    residual: added.map(|added| Residual {
                        row: false,
                        ..added.residual(Some(part.others))
                    }),
                };
                product.run(call.cpu, Output::Bytes(part.result, to), part.scratch);
            });
        for part in work {
            let results = part.result.chunks_exact(part.width).take(rows);
            for (row, result) in results.enumerate() {
                y[self.place(row) + part.first..][..part.width].copy_from_slice(result);
            }
        }
    }
}
