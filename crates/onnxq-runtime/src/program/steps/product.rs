//! Products of bytes with packed weights: what convolutions and matrix products share.

mod source;

use std::ops::Range;

use onnxq_kernels::{
    Activation, Cpu, Epilogue, Geometry, Left, Line, Output, Packed, Product, Requantize, Weights,
    bytes_mut, pack, packed_len, scratch_lines,
};
use onnxq_tensor::Tensor;

pub(super) use self::source::{
    write_columns, write_dynamic_operands, write_floats, write_product, write_requantize, write_run,
};
use super::{
    added::Added,
    columns::column_parts_lines,
    padding::{Copied, Operand},
};
use crate::program::{
    call::Call,
    source::{Code, Expr, record},
    store::{Store, Stored},
    threads::cut,
};

/// Weights packed for the tiles.
pub(super) struct PackedWeights {
    data: Stored,
    pub(super) columns: usize,
    segments: usize,
    depth: usize,
    /// The sum of each column, of what is packed.
    pub(super) sums: Vec<i32>,
}

impl PackedWeights {
    /// Packs weights.
    pub(super) fn new(weights: &Weights<'_>, store: &mut Store) -> PackedWeights {
        let (columns, segments, depth) =
            (weights.columns, weights.segments, weights.segment_depth());
        let len = packed_len(columns, segments, depth);
        let (cpu, mut sums) = (store.cpu, vec![0; columns]);
        let data = store.add(len, |to| {
            pack(cpu, weights, to, &mut sums);
        });
        PackedWeights {
            data,
            columns,
            segments,
            depth,
            sums,
        }
    }

    pub(super) fn view<'a>(&self, store: &'a Store) -> Packed<'a> {
        Packed {
            data: store.get(&self.data),
            columns: self.columns,
            segments: self.segments,
            depth: self.depth,
            among: store.len(),
        }
    }

    /// Lines of scratch memory that a product needs.
    pub(super) fn scratch_lines(&self) -> usize {
        scratch_lines(&Packed {
            data: &[],
            columns: self.columns,
            segments: self.segments,
            depth: self.depth,
            among: 0,
        })
    }

    /// The view as source text.
    pub(super) fn write(&self, code: &mut Code<'_>) -> Expr {
        record!(Packed {
            data: code.stored(&self.data),
            columns: self.columns,
            segments: self.segments,
            depth: self.depth,
            among: code.stored_len(),
        })
    }

    /// How many weights make one column.
    pub(super) fn column_len(&self) -> usize {
        self.segments * self.depth
    }
}

/// Zero points of weights as they are packed: those of unsigned weights move by 128. Empty where all
/// are 0, `None` where they are not as many as columns, or one.
pub(super) fn packed_zeros(
    zero: Option<&Tensor>,
    signed: bool,
    columns: usize,
) -> Option<Vec<i32>> {
    let shift = if signed { 0 } else { 128 };
    let zeros = match zero {
        None => vec![0],
        Some(tensor) => {
            let zeros = tensor.to_i64s().ok()?;
            let zeros: Option<Vec<i32>> = zeros.into_iter().map(|z| z.try_into().ok()).collect();
            zeros?
        }
    };
    let zeros: Vec<i32> = match zeros.len() {
        1 => vec![zeros[0] - shift; columns],
        n if n == columns => zeros.into_iter().map(|z| z - shift).collect(),
        _ => return None,
    };
    match zeros.iter().all(|&z| z == 0) {
        true => Some(Vec::new()),
        false => Some(zeros),
    }
}

/// What is added to the sums of each column: `bias - zero · Σw + depth · zero · weight_zero`, by which
/// `Σ(x - zero)(w - weight_zero)` follows from `Σ x·w` and `Σ x`.
pub(super) fn offsets(
    bias: impl Iterator<Item = i32>,
    zero: i32,
    weights: &PackedWeights,
    weight_zeros: &[i32],
) -> Vec<i32> {
    let depth = weights.column_len() as i32;
    let column = |(i, (bias, &sum)): (usize, (i32, &i32))| {
        let weight_zero = weight_zeros.get(i).copied().unwrap_or(0);
        bias.wrapping_sub(zero.wrapping_mul(sum))
            .wrapping_add(depth.wrapping_mul(zero).wrapping_mul(weight_zero))
    };
    bias.zip(&weights.sums).enumerate().map(column).collect()
}

/// What becomes of the sums.
#[derive(Clone, Copy)]
pub(super) enum Finish<'a> {
    /// Bytes.
    Bytes {
        scale: &'a [f32],
        zero: i32,
        bounds: [i32; 2],
        added: Option<Added>,
    },
    /// Floats.
    Floats {
        scale: &'a [f32],
        bias: &'a [f32],
        activation: Activation,
    },
}

impl Finish<'_> {
    /// What is added to rows that begin `at` so many elements.
    fn others<'o>(&self, other: Option<&'o [u8]>, at: usize) -> Option<&'o [u8]> {
        let is_row = matches!(self, Finish::Bytes { added: Some(added), .. } if added.row);
        match is_row {
            true => other,
            false => other.map(|other| other.get(at..).unwrap_or_default()),
        }
    }
}

/// One product of one image or matrix: which rows go where.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) weights: &'a PackedWeights,
    pub(super) left: Operand<'a>,
    pub(super) signed: bool,
    pub(super) geometry: Geometry,
    /// Elements of the result from run to run and from row to row.
    pub(super) strides: [usize; 2],
    pub(super) offset: &'a [i32],
    pub(super) zero: &'a [i32],
    pub(super) finish: Finish<'a>,
}

/// Memory of a result.
pub(super) enum Rows<'a> {
    Bytes(&'a mut [u8]),
    Floats(&'a mut [f32]),
}

impl<'a> Rows<'a> {
    fn split(self, at: usize) -> (Rows<'a>, Rows<'a>) {
        match self {
            Rows::Bytes(y) => {
                let (a, b) = y.split_at_mut(at);
                (Rows::Bytes(a), Rows::Bytes(b))
            }
            Rows::Floats(y) => {
                let (a, b) = y.split_at_mut(at);
                (Rows::Floats(a), Rows::Floats(b))
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Rows::Bytes(y) => y.len(),
            Rows::Floats(y) => y.len(),
        }
    }
}

/// Lines of scratch memory for a task on as many threads.
pub(super) fn task_scratch(weights: &PackedWeights, threads: usize) -> usize {
    weights.scratch_lines() * threads + column_parts_lines(weights, threads)
}

/// The same where the left operand is a copy of an image.
pub(super) fn image_task_scratch(
    weights: &PackedWeights,
    geometry: &Geometry,
    copy: Copied<'_>,
    threads: usize,
) -> usize {
    let lines = |part: Range<usize>| copy.lines(&copy.rows(&copy.bytes(geometry, &part)));
    let copies = (1..=threads.max(1)).map(|parts| cut_rows(geometry, parts).map(lines).sum());
    let copies = copies.max().unwrap_or(0).max(copy.padding.lines());
    task_scratch(weights, threads) + copies
}

/// The rows of the only run of a product in parts, or its runs.
fn cut_rows(g: &Geometry, parts: usize) -> impl Iterator<Item = Range<usize>> {
    match g.runs {
        1 => cut(g.run_len, parts, 16),
        runs => cut(runs, parts, 1),
    }
}

impl Task<'_> {
    /// Computes the product into `y`, spread over the threads of the call. `others` has what
    /// [`Added`] names, from the same place on as `y`.
    pub(super) fn run(
        &self,
        call: &Call<'_>,
        scratch: &mut [Line],
        y: Rows<'_>,
        other: Option<&[u8]>,
    ) {
        let g = &self.geometry;
        let parts = call.threads.parts(self.nanoseconds());
        let y = match y {
            Rows::Bytes(y) if self.is_cut_by_columns(parts) => {
                return self.in_columns(call, parts, scratch, y, other);
            }
            y => y,
        };
        let (units, stride) = match g.runs {
            1 => (g.run_len, self.strides[1]),
            runs => (runs, self.strides[0]),
        };
        let (mut rest, mut at, mut scratch) = (y, 0, scratch);
        let mut ranges = Vec::new();
        for range in cut_rows(g, parts) {
            let len = match range.end == units {
                true => rest.len(),
                false => (range.len() * stride).min(rest.len()),
            };
            let (part, tail) = rest.split(len);
            rest = tail;
            let copied = match self.left {
                Operand::Bytes(_) => 0,
                Operand::Image { copy, .. } => copy.lines(&copy.rows(&copy.bytes(g, &range))),
            };
            let lines = copied + self.weights.scratch_lines();
            let (own, tail) = scratch.split_at_mut(lines);
            scratch = tail;
            ranges.push((range, at, part, own.split_at_mut(copied)));
            at += len;
        }
        let cpu = call.cpu;
        call.threads
            .run(ranges, |(range, at, part, (copied, scratch))| {
                let mut geometry = *g;
                let skip = match g.runs {
                    1 => {
                        geometry.run_len = range.len();
                        range.start * g.row_stride
                    }
                    _ => {
                        geometry.runs = range.len();
                        range.start * g.run_stride
                    }
                };
                let data = match self.left {
                    Operand::Bytes(bytes) => &bytes[skip..],
                    Operand::Image { image, value, copy } => {
                        let bytes = copy.bytes(g, &range);
                        let rows = copy.rows(&bytes);
                        let (first, copied) = (rows.start, bytes_mut(copied));
                        copy.padding.copy(image, value, rows, copied);
                        &copied[bytes.start - first * copy.padding.pitch()..]
                    }
                };
                let product = Product {
                    left: Left {
                        data,
                        signed: self.signed,
                        geometry,
                    },
                    right: self.weights.view(call.weights),
                    strides: self.strides,
                    epilogue: Epilogue {
                        offset: self.offset,
                        zero: self.zero,
                    },
                };
                let other = self.finish.others(other, at);
                product.run(cpu, self.output(part, other), scratch);
            });
    }

    /// Computes bytes in parts of the columns. All of them read the same copy of an image.
    fn in_columns(
        &self,
        call: &Call<'_>,
        parts: usize,
        scratch: &mut [Line],
        y: &mut [u8],
        other: Option<&[u8]>,
    ) {
        let (left, scratch) = match self.left {
            Operand::Bytes(left) => (left, scratch),
            Operand::Image { image, value, copy } => {
                let (copied, scratch) = scratch.split_at_mut(copy.padding.lines());
                let copied = copy.padding.of(image, value, bytes_mut(copied));
                (&copied[copy.start..], scratch)
            }
        };
        self.run_columns(call, left, parts, scratch, y, other);
    }

    /// About how long it takes: the dot products, and what is done with each sum; or the weights, to be read.
    fn nanoseconds(&self) -> u64 {
        let (columns, depth) = (
            self.weights.columns as u64,
            self.weights.column_len() as u64,
        );
        let sums = self.geometry.rows() as u64 * columns;
        (sums * (depth + 128) / 1000).max(columns * depth / 20)
    }

    fn output<'y>(&'y self, y: Rows<'y>, other: Option<&'y [u8]>) -> Output<'y> {
        match (y, &self.finish) {
            (
                Rows::Bytes(y),
                Finish::Bytes {
                    scale,
                    zero,
                    bounds,
                    added,
                },
            ) => {
                let residual = added.map(|added| added.residual(other));
                let to = Requantize {
                    scale,
                    zero: *zero,
                    bounds: *bounds,
                    residual,
                };
                Output::Bytes(y, to)
            }
            (
                Rows::Floats(y),
                Finish::Floats {
                    scale,
                    bias,
                    activation,
                },
            ) => Output::Floats {
                y,
                scale,
                bias,
                activation: *activation,
            },
            _ => unreachable!("the memory of a result is of the type that its finish makes"),
        }
    }
}

/// Lines of scratch memory for the offsets and the scales of each column that only data shows.
pub(super) fn column_lines(columns: usize) -> usize {
    2 * Line::count(4 * columns)
}

/// The name of a kind of product in profiles.
pub(super) fn product_name(what: &str, signed: bool, cpu: Cpu) -> String {
    let types = if signed { "s8s8" } else { "u8s8" };
    format!("{what} {types} {}", cpu.isa())
}
