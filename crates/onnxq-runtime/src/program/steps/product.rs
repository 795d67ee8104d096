//! Products of bytes with packed weights: what convolutions and matrix products share.

use onnxq_kernels::{
    Activation, Cpu, Epilogue, Geometry, Left, Line, Output, Packed, Product, Requantize, Weights,
    pack, packed_len, scratch_lines,
};
use onnxq_tensor::Tensor;

use super::{added::Added, columns::column_parts_lines};
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
        }
    }

    /// Lines of scratch memory that a product needs.
    pub(super) fn scratch_lines(&self) -> usize {
        scratch_lines(&Packed {
            data: &[],
            columns: self.columns,
            segments: self.segments,
            depth: self.depth,
        })
    }

    /// The view as source text.
    pub(super) fn write(&self, code: &mut Code<'_>) -> Expr {
        record!(Packed {
            data: code.stored(&self.data),
            columns: self.columns,
            segments: self.segments,
            depth: self.depth,
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
pub(super) struct Task<'a> {
    pub(super) weights: &'a PackedWeights,
    pub(super) left: &'a [u8],
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
                return self.run_columns(call, parts, scratch, y, other);
            }
            y => y,
        };
        // What is cut: the rows of the only run, or runs.
        let (units, unit) = match g.runs {
            1 => (g.run_len, 16),
            runs => (runs, 1),
        };
        let each = self.weights.scratch_lines();
        let mut scratch = scratch.chunks_mut(each.max(1));
        let (mut rest, mut at) = (y, 0);
        let mut ranges = Vec::new();
        for range in cut(units, parts, unit) {
            let stride = match g.runs {
                1 => self.strides[1],
                _ => self.strides[0],
            };
            let len = match range.end == units {
                true => rest.len(),
                false => (range.len() * stride).min(rest.len()),
            };
            let (part, tail) = rest.split(len);
            rest = tail;
            ranges.push((range, at, part, scratch.next().unwrap_or_default()));
            at += len;
        }
        let cpu = call.cpu;
        call.threads.run(ranges, |(range, at, part, scratch)| {
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
            let product = Product {
                left: Left {
                    data: &self.left[skip..],
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
            product.run(
                cpu,
                self.output(part, self.finish.others(other, at)),
                scratch,
            );
        });
    }

    /// About how long it takes: the dot products, and what is done with each sum.
    fn nanoseconds(&self) -> u64 {
        let sums = (self.geometry.rows() * self.weights.columns) as u64;
        sums * (self.weights.column_len() as u64 + 128) / 1000
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

/// A product as source text, into `product`. `left`, `offset` and `zero` are expressions for slices.
#[expect(clippy::too_many_arguments, reason = "the parts of a product")]
pub(super) fn write_product(
    code: &mut Code<'_>,
    left: impl Into<Expr>,
    signed: bool,
    geometry: &Geometry,
    right: Expr,
    strides: [usize; 2],
    offset: impl Into<Expr>,
    zero: impl Into<Expr>,
) {
    let left = record!(Left {
        data: left,
        signed: signed,
        geometry: geometry,
    });
    let epilogue = record!(Epilogue {
        offset: offset,
        zero: zero,
    });
    let product = record!(Product {
        left: left,
        right: right,
        strides: strides,
        epilogue: epilogue,
    });
    code.bind("product", product);
}

/// Lines of scratch memory for the offsets and the scales of each column that only data shows.
pub(super) fn column_lines(columns: usize) -> usize {
    2 * Line::count(4 * columns)
}

/// Computes the offsets and the scales of each column as source text, into `offset` and `scales`, from expressions for the
/// zero point and the slice of scales of the left operand.
pub(super) fn write_columns(
    code: &mut Code<'_>,
    weights: &PackedWeights,
    weight_zeros: Expr,
    weight_scale: &[f32],
    zero: &str,
    scale: &str,
) {
    code.scratch();
    let (columns, lines) = (weights.columns, Line::count(4 * weights.columns));
    code.line(&format!(
        "let (offset, scratch) = scratch.split_at_mut({lines});"
    ));
    code.bind(
        "offset",
        format!("&mut elements_mut::<i32>(offset)[..{columns}]"),
    );
    let sums = code.integers(&weights.sums);
    let depth = weights.column_len().into();
    let arguments = vec![zero.into(), sums, weight_zeros, depth, "offset".into()];
    code.call("zero_offsets", arguments);
    code.line(&format!(
        "let (scales, scratch) = scratch.split_at_mut({lines});"
    ));
    code.bind(
        "scales",
        format!("&mut elements_mut::<f32>(scales)[..{columns}]"),
    );
    let weight_scale = code.floats(weight_scale);
    code.call(
        "column_scales",
        vec![scale.into(), weight_scale, "scales".into()],
    );
}

/// How sums become bytes as source text, into `requantize`. `other` is an expression for the slice that
/// `added` adds, where the result does not have it.
pub(super) fn write_requantize(
    code: &mut Code<'_>,
    scale: &[f32],
    zero: i32,
    bounds: [i32; 2],
    added: Option<(Added, Expr)>,
) {
    let residual = added.map(|(added, other)| added.write(other));
    let requantize = record!(Requantize {
        scale: code.floats(scale),
        zero: zero,
        bounds: bounds,
        residual: residual,
    });
    code.bind("requantize", requantize);
}

/// The operands `x`, `scale` and `zero` of a product with computed parameters, and its result `y`, as
/// parameters; gives an expression for the zero point.
pub(super) fn write_dynamic_operands(
    code: &mut Code<'_>,
    has_zero: bool,
    signed: bool,
) -> &'static str {
    code.operand(0, "x", "u8");
    code.operand(1, "scale", "f32");
    if has_zero {
        code.operand(2, "zero", "u8");
    }
    code.result(0, "y", "f32");
    match (has_zero, signed) {
        (false, _) => "0",
        (true, false) => "i32::from(zero[0])",
        (true, true) => "i32::from(zero[0] as i8)",
    }
}

/// How sums become floats `y` as source text, into `output`.
pub(super) fn write_floats(
    code: &mut Code<'_>,
    scale: impl Into<Expr>,
    bias: impl Into<Expr>,
    activation: Activation,
) {
    let fields = vec![
        ("y", "y".into()),
        ("scale", scale.into()),
        ("bias", bias.into()),
        ("activation", activation.into()),
    ];
    code.bind("output", Expr::Struct("Output::Floats", fields));
}

/// Runs `product` to `output`, as source text.
pub(super) fn write_run(code: &mut Code<'_>, output: &str) {
    let arguments = vec![code.cpu(), output.into(), code.scratch()];
    code.call("product.run", arguments);
}

/// The name of a kind of product in profiles.
pub(super) fn product_name(what: &str, signed: bool, cpu: Cpu) -> String {
    let types = if signed { "s8s8" } else { "u8s8" };
    format!("{what} {types} {}", cpu.isa())
}
