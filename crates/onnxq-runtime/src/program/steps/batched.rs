//! Products of stacked matrices, both computed: of floats, and of codes, whose right side is packed
//! when the model runs. They are read where they are, before the transposes that separate them.

use onnxq_ir::{NodeId, Op};
use onnxq_kernels::{
    Cpu, Epilogue, Geometry, Left, Line, Output, Packed, Product, Requantize, Weights, bytes_mut,
    pack, packed_len, scratch_lines,
};
use onnxq_ops::EvalError;
use onnxq_tensor::DType;

use super::{
    Kernel,
    elementwise::{Quantization, byte_bounds},
    product::{product_name, write_product, write_requantize, write_run},
    strided::{Stacks, Strided, merged},
};
use crate::{
    plan::gemm::{Matrix, MatrixMut, gemm},
    program::{
        call::Call,
        lower::{Layout, Lowering},
        source::{Code, Written, record},
    },
};

/// Where an operand is: from row to row, from column to column, from head to head, from batch to batch.
#[derive(Clone, Copy, Debug)]
struct Operand {
    row: usize,
    column: usize,
    head: usize,
    batch: usize,
}

impl Operand {
    fn at(&self, batch: usize, head: usize) -> usize {
        batch * self.batch + head * self.head
    }

    /// The matrix of one head, from row `row` on.
    fn matrix<'a>(&self, x: &'a [f32], batch: usize, head: usize, row: usize) -> Matrix<'a> {
        Matrix {
            data: &x[self.at(batch, head) + row * self.row..],
            row: self.row,
            column: self.column,
        }
    }
}

/// Both operands, the depth, and where the result goes.
struct Shape {
    a: Operand,
    b: Operand,
    depth: usize,
    to: Stacks,
}

/// The shape of a product, and the node whose result is its.
fn shape(lowering: &Lowering<'_>, n: NodeId, a: &Strided, b: &Strided) -> Option<(Shape, NodeId)> {
    let ([rows, depth], a_strides) = a.matrix()?;
    let ([b_depth, width], b_strides) = b.matrix()?;
    let ((a_count, a_stack), (b_count, b_stack)) = (a.stacks()?, b.stacks()?);
    let [batches, heads] = a_count;
    let some = [rows, depth, width, batches, heads].iter().all(|&n| n > 0);
    (b_depth == depth && some).then_some(())?;
    // One matrix for all heads, or all batches, stays where it is.
    let step = |i: usize| match b_count[i] {
        1 => Some(0),
        n if n == a_count[i] => Some(b_stack[i]),
        _ => None,
    };
    let (last, to) = merged(lowering, n, [batches, heads, rows, width]);
    let dims = lowering.type_of(lowering.graph.result(last, 0))?.1;
    (dims.iter().product::<usize>() == batches * heads * rows * width).then_some(())?;
    let shape = Shape {
        a: Operand {
            row: a_strides[0],
            column: a_strides[1],
            head: a_stack[1],
            batch: a_stack[0],
        },
        b: Operand {
            row: b_strides[0],
            column: b_strides[1],
            head: step(1)?,
            batch: step(0)?,
        },
        depth,
        to,
    };
    Some((shape, last))
}

/// MatMul of floats.
pub(super) fn floats(lowering: &mut Lowering<'_>, n: NodeId, _: &Op) -> Option<()> {
    let graph = lowering.graph;
    let a = Strided::of(lowering, graph.operand(n, 0)?)?;
    let b = Strided::of(lowering, graph.operand(n, 1)?)?;
    (a.dtype == DType::F32 && b.dtype == DType::F32).then_some(())?;
    let (shape, last) = shape(lowering, n, &a, &b)?;
    if last != n {
        lowering.absorb(last);
    }
    lowering.push_result(n, last, Box::new(shape), &[a.place, b.place], Layout::Plain)
}

impl Kernel for Shape {
    fn name(&self, _: Cpu) -> String {
        "float MatMul".to_owned()
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (a, b, y) = (call.floats(0), call.floats(1), call.result_floats(0));
        let to = &self.to;
        let batches = y.chunks_exact_mut(to.batch()).take(to.batches);
        for (batch, y) in batches.enumerate() {
            let parts = to.parts(y, call.threads.parts((to.batch() * self.depth) as u64 / 40));
            call.threads.run(parts, |(heads, rows, y)| {
                for (i, head) in heads.enumerate() {
                    let c = MatrixMut {
                        data: &mut y[i * to.strides[1]..],
                        row: to.strides[0],
                    };
                    let size = [rows.len(), to.width, self.depth];
                    gemm(
                        size,
                        c,
                        false,
                        self.a.matrix(a, batch, head, rows.start),
                        self.b.matrix(b, batch, head, 0),
                    );
                }
            });
        }
        Ok(())
    }
}

/// A product of codes.
struct Codes {
    shape: Shape,
    signed: [bool; 2],
    zeros: [i32; 2],
    scale: Vec<f32>,
    to: (i32, [i32; 2]),
}

/// QLinearMatMul.
pub(super) fn codes(lowering: &mut Lowering<'_>, n: NodeId, _: &Op) -> Option<()> {
    let graph = lowering.graph;
    let a = Strided::of(lowering, graph.operand(n, 0)?)?;
    let b = Strided::of(lowering, graph.operand(n, 3)?)?;
    let signed = [byte_bounds(a.dtype)?[0] < 0, byte_bounds(b.dtype)?[0] < 0];
    let of = [1, 4, 6].map(|at| Quantization::of(lowering, n, at));
    let (a_of, b_of, y_of) = (of[0]?, of[1]?, of[2]?);
    let (shape, last) = shape(lowering, n, &a, &b)?;
    (shape.a.column == 1 || shape.depth == 1).then_some(())?;
    let (dtype, _) = lowering.type_of(graph.result(n, 0))?;
    let kernel = Codes {
        signed,
        zeros: [a_of.zero, b_of.zero],
        scale: vec![a_of.scale * b_of.scale / y_of.scale; shape.to.width],
        to: (y_of.zero, byte_bounds(dtype)?),
        shape,
    };
    if last != n {
        lowering.absorb(last);
    }
    lowering.push_result(
        n,
        last,
        Box::new(kernel),
        &[a.place, b.place],
        Layout::Plain,
    )
}

impl Codes {
    fn packed<'a>(&self, data: &'a [u8]) -> Packed<'a> {
        Packed {
            data,
            columns: self.shape.to.width,
            segments: 1,
            depth: self.shape.depth,
            among: data.len(),
        }
    }

    /// Lines of packed columns, and of all that a thread needs.
    fn lines(&self) -> [usize; 2] {
        let width = self.shape.to.width;
        let packed = Line::count(packed_len(width, 1, self.shape.depth));
        let sums = Line::count(4 * width);
        [packed, packed + sums + scratch_lines(&self.packed(&[]))]
    }

    /// Packs one head of the right operand; `sums` becomes what is added to the sums of each column.
    fn pack(&self, cpu: Cpu, data: &[u8], to: &mut [u8], sums: &mut [i32]) {
        let Shape {
            b,
            depth,
            to: stacks,
            ..
        } = &self.shape;
        let weights = Weights {
            data,
            signed: self.signed[1],
            columns: stacks.width,
            segments: 1,
            depth: [1, *depth],
            strides: [b.column, 0, 0, b.row],
        };
        pack(cpu, &weights, to, sums);
        let zero = self.zeros[0];
        let constant = (*depth as i32)
            .wrapping_mul(zero)
            .wrapping_mul(self.packed_zero());
        for sum in sums {
            *sum = constant.wrapping_sub(zero.wrapping_mul(*sum));
        }
    }

    /// The zero point of the right operand as it is packed.
    fn packed_zero(&self) -> i32 {
        self.zeros[1] - if self.signed[1] { 0 } else { 128 }
    }
}

impl Kernel for Codes {
    fn name(&self, cpu: Cpu) -> String {
        product_name("batched matmul", self.signed[0], cpu)
    }

    fn operations(&self) -> u64 {
        let to = &self.shape.to;
        2 * (to.batches * to.batch() * self.shape.depth) as u64
    }

    fn scratch(&self, threads: usize) -> usize {
        self.lines()[1] * threads
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (a, b, y) = (call.bytes(0), call.bytes(1), call.result(0));
        let Shape { depth, to, .. } = self.shape;
        let [packed_lines, lines] = self.lines();
        let packed_zeros = match self.packed_zero() {
            0 => Vec::new(),
            zero => vec![zero; to.width],
        };
        let (zero, bounds) = self.to;
        let scratch: &mut [Line] = std::mem::take(&mut call.scratch);
        let batches = y.chunks_exact_mut(to.batch()).take(to.batches);
        for (batch, y) in batches.enumerate() {
            let parts = to.parts(y, call.threads.parts((to.batch() * depth) as u64 / 100));
            let parts = parts.into_iter().zip(scratch.chunks_mut(lines)).collect();
            let cpu = call.cpu;
            call.threads.run(parts, |((heads, rows, y), scratch)| {
                let (packed, scratch) = scratch.split_at_mut(packed_lines);
                let packed = &mut bytes_mut(packed)[..packed_len(to.width, 1, depth)];
                let (sums, scratch) = scratch.split_at_mut(Line::count(4 * to.width));
                let sums: &mut [i32] = &mut bytemuck::cast_slice_mut(bytes_mut(sums))[..to.width];
                for (i, head) in heads.enumerate() {
                    self.pack(cpu, &b[self.shape.b.at(batch, head)..], packed, sums);
                    let row = self.shape.a.row;
                    let product = Product {
                        left: Left {
                            data: &a[self.shape.a.at(batch, head) + rows.start * row..],
                            signed: self.signed[0],
                            geometry: Geometry::matrix(rows.len(), depth, row),
                        },
                        right: self.packed(packed),
                        strides: [0, to.strides[0]],
                        epilogue: Epilogue {
                            offset: sums,
                            zero: &packed_zeros,
                        },
                    };
                    let to = Requantize {
                        scale: &self.scale,
                        zero,
                        bounds,
                        residual: None,
                    };
                    let y = &mut y[i * self.shape.to.strides[1]..];
                    product.run(cpu, Output::Bytes(y, to), scratch);
                }
            });
        }
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        code.operand(0, "a", "u8");
        code.operand(1, "b", "u8");
        code.result(0, "y", "u8");
        code.scratch();
        let Shape { a, b, depth, to } = &self.shape;
        let (width, sums) = (to.width, Line::count(4 * to.width));
        let len = packed_len(width, 1, *depth);
        let packed = Line::count(len);
        code.line(&format!(
            "let (packed, scratch) = scratch.split_at_mut({packed});"
        ));
        code.bind("packed", format!("&mut bytes_mut(packed)[..{len}]"));
        code.line(&format!(
            "let (sums, scratch) = scratch.split_at_mut({sums});"
        ));
        code.bind("sums", format!("&mut elements_mut::<i32>(sums)[..{width}]"));
        let (zero, packed_zero) = (self.zeros[0], self.packed_zero());
        let zeros = match packed_zero {
            0 => Vec::new(),
            zero => vec![zero; width],
        };
        let zeros = code.integers(&zeros);
        let counts = [("batch", to.batches), ("head", to.heads)];
        let loops = || counts.into_iter().filter(|(_, count)| *count > 1);
        for (name, count) in loops() {
            code.open(&format!("for {name} in 0..{count}"));
        }
        let place = |slice: &str, reference: &str, strides: [usize; 2]| {
            let terms = counts.iter().zip(strides);
            let terms = terms.filter(|((_, count), stride)| *count > 1 && *stride > 0);
            let terms: Vec<String> = terms
                .map(|((name, _), stride)| format!("{name} * {stride}"))
                .collect();
            match terms.is_empty() {
                true => slice.to_owned(),
                false => format!("{reference}{slice}[{}..]", terms.join(" + ")),
            }
        };
        let weights = record!(Weights {
            data: place("b", "&", [b.batch, b.head]),
            signed: self.signed[1],
            columns: width,
            segments: 1usize,
            depth: [1, *depth],
            strides: [b.column, 0, 0, b.row],
        });
        code.bind("weights", weights);
        let arguments = vec![
            code.cpu(),
            "&weights".into(),
            "packed".into(),
            "sums".into(),
        ];
        code.call("pack", arguments);
        let constant = (*depth as i32).wrapping_mul(zero).wrapping_mul(packed_zero);
        code.open("for sum in sums.iter_mut()");
        let factor = zero.wrapping_neg();
        code.line(&format!(
            "*sum = sum.wrapping_mul({factor}).wrapping_add({constant});"
        ));
        code.close();
        let right = record!(Packed {
            data: "packed",
            columns: width,
            segments: 1usize,
            depth: *depth,
            among: "packed.len()",
        });
        let left = place("a", "&", [a.batch, a.head]);
        let geometry = Geometry::matrix(to.rows, *depth, a.row);
        let strides = [0, to.strides[0]];
        write_product(
            code,
            left,
            self.signed[0],
            &geometry,
            right,
            strides,
            "sums",
            zeros,
        );
        let (zero, bounds) = self.to;
        write_requantize(code, &self.scale, zero, bounds, None);
        code.bind("y", place("y", "&mut ", [to.batch(), to.strides[1]]));
        write_run(code, "Output::Bytes(y, requantize)");
        for _ in loops() {
            code.close();
        }
        Ok(())
    }
}
