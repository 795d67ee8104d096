//! LSTM and GRU over sequences that are all of full length, with weights of floats or of codes.
//!
//! The products of the input are computed for all time steps at once, with the biases. Codes, as
//! DynamicQuantizeLSTM has them, are multiplied by what is quantized on the fly: all of the input,
//! and the states of each time step.

mod source;

use onnxq_ir::{Attr, NodeId, Op};
use onnxq_kernels::{
    Activation, Cpu, Geometry, Line, Weights, bytes_mut, column_scales, dynamic_quantize,
    gru_cell_linear, gru_gates, gru_state, lstm_cell, zero_offsets,
};
use onnxq_ops::EvalError;
use onnxq_tensor::{DType, Tensor};

use super::{
    Kernel,
    elementwise::byte_bounds,
    padding::Operand,
    product::{Finish, PackedWeights, Rows, Task, column_lines, packed_zeros, task_scratch},
};
use crate::{
    plan::gemm::{Matrix, MatrixMut, gemm},
    program::{
        call::Call,
        lower::{Layout, Lowering},
        source::{Code, Written},
    },
};

/// Which equations.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Lstm,
    Gru { linear_before_reset: bool },
}

impl Cell {
    fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru { .. } => 3,
        }
    }
}

#[derive(Clone, Copy)]
struct Sizes {
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    /// Elements of all gates of one state.
    width: usize,
}

/// The matrices of one direction.
enum Matrices {
    /// Operands 1 and 2 of the step, `[directions, width, input]` and `[directions, width, hidden]`.
    Floats,
    /// Of the input and of the state.
    Codes(Box<[Codes; 2]>),
}

/// A matrix of codes, by columns of gates.
struct Codes {
    weights: PackedWeights,
    zeros: Vec<i32>,
    /// One, or one for each column.
    scale: Vec<f32>,
}

struct Direction {
    backwards: bool,
    matrices: Matrices,
    /// What is added to the products of the input: the biases of the state too, where they are
    /// only added as well.
    bias: Vec<f32>,
    /// Those of the state, where they are multiplied.
    state_bias: Vec<f32>,
}

struct Recurrent {
    cell: Cell,
    name: String,
    sizes: Sizes,
    clip: f32,
    directions: Vec<Direction>,
    /// Which operands of the step are the first states, zero where there is none.
    first: [Option<usize>; 2],
    /// Which results of the step are all states, and the last ones.
    results: [Option<usize>; 3],
}

/// LSTM, GRU and DynamicQuantizeLSTM with the usual activations.
pub(super) fn recurrent(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let graph = lowering.graph;
    let coded = op.op_type == "DynamicQuantizeLSTM";
    let cell = match op.op_type == "GRU" {
        true => Cell::Gru {
            linear_before_reset: op.int("linear_before_reset", 0) != 0,
        },
        false => Cell::Lstm,
    };
    let x = lowering.operand(n, 0)?;
    let &[steps, batch, input] = &x.dims[..] else {
        return None;
    };
    let r = lowering.operand(n, 2)?;
    let hidden = *r.dims.get(if coded { 1 } else { 2 })?;
    let width = cell.gates() * hidden;
    let sizes = Sizes {
        steps,
        batch,
        input,
        hidden,
        width,
    };
    let backwards = match op.str("direction").unwrap_or("forward") {
        "forward" => &[false][..],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        _ => return None,
    };
    let count = backwards.len();
    let usual = x.dtype == DType::F32
        && ![steps, batch, input, hidden].contains(&0)
        && op.int("layout", 0) == 0
        && op.int("input_forget", 0) == 0
        && has_usual_activations(op, cell, count)
        && graph.operand(n, 7).is_none()
        && is_full(lowering, n, sizes);
    usual.then_some(())?;
    let biases = biases(lowering, n, cell, sizes, count)?;
    let x = lowering.plain(graph.operand(n, 0)?)?;
    let mut places = vec![x.place];
    let mut codes = Vec::new();
    if coded {
        codes = coded_matrices(lowering, n, sizes, count)?;
    } else {
        for (i, inputs) in [(1, input), (2, hidden)] {
            let home = lowering.plain(graph.operand(n, i)?)?;
            let fits = home.dtype == DType::F32 && home.dims[..] == [count, width, inputs];
            fits.then_some(())?;
            places.push(home.place);
        }
    }
    let mut first = [None; 2];
    let states = if cell == Cell::Lstm { 2 } else { 1 };
    for (i, first) in first.iter_mut().enumerate().take(states) {
        if let Some(v) = graph.operand(n, 5 + i) {
            let home = lowering.plain(v)?;
            let fits = home.dtype == DType::F32 && home.dims[..] == [count, batch, hidden];
            fits.then_some(())?;
            *first = Some(places.len());
            places.push(home.place);
        }
    }
    let mut codes = codes.into_iter();
    let directions = backwards.iter().zip(biases).map(|(&backwards, biases)| {
        let [bias, state_bias] = biases;
        Direction {
            backwards,
            matrices: match codes.next() {
                None => Matrices::Floats,
                Some(codes) => Matrices::Codes(Box::new(codes)),
            },
            bias,
            state_bias,
        }
    });
    let kernel = Recurrent {
        cell,
        name: op.op_type.to_lowercase(),
        sizes,
        clip: op
            .attr("clip")
            .and_then(Attr::as_float)
            .filter(|&clip| clip > 0.0)
            .unwrap_or(f32::INFINITY),
        directions: directions.collect(),
        first,
        results: [None; 3],
    };
    push(lowering, n, kernel, &places)
}

/// Adds the step, with the results that anyone wants.
fn push(
    lowering: &mut Lowering<'_>,
    n: NodeId,
    mut kernel: Recurrent,
    places: &[crate::program::Place],
) -> Option<()> {
    let graph = lowering.graph;
    let mut made = Vec::new();
    for (i, result) in kernel.results.iter_mut().enumerate() {
        if i >= graph.node(n).results.len() {
            break;
        }
        let v = graph.result(n, i);
        if graph.is_used(v) || graph.is_output(v) {
            *result = Some(made.len());
            made.push((v, lowering.make(v, Layout::Plain)?));
        }
    }
    let results: Vec<_> = made.iter().map(|(_, home)| home.place).collect();
    lowering.push(lowering.name(n), Box::new(kernel), places, &results);
    for (v, home) in made {
        lowering.settle(v, home);
    }
    Some(())
}

/// Whether the activations are those that a cell has by default.
fn has_usual_activations(op: &Op, cell: Cell, directions: usize) -> bool {
    let usual: &[&str] = match cell {
        Cell::Lstm => &["sigmoid", "tanh", "tanh"],
        Cell::Gru { .. } => &["sigmoid", "tanh"],
    };
    match op.attr("activations") {
        None => true,
        Some(Attr::Strings(names)) => {
            let mut pairs = names.iter().zip(usual.iter().cycle());
            [0, usual.len() * directions].contains(&names.len())
                && pairs.all(|(name, usual)| name.eq_ignore_ascii_case(usual.as_bytes()))
        }
        Some(_) => false,
    }
}

/// Whether no sequence ends early.
fn is_full(lowering: &Lowering<'_>, n: NodeId, sizes: Sizes) -> bool {
    if lowering.graph.operand(n, 4).is_none() {
        return true;
    }
    let lengths = lowering.constant_operand(n, 4);
    let lengths = lengths.and_then(|t| t.to_i64s().ok());
    lengths.is_some_and(|l| l.iter().all(|&l| l == sizes.steps as i64))
}

/// For each direction what is added to the products of the input, and to those of the state.
fn biases(
    lowering: &Lowering<'_>,
    n: NodeId,
    cell: Cell,
    s: Sizes,
    directions: usize,
) -> Option<Vec<[Vec<f32>; 2]>> {
    let none = vec![0.0; s.width * 2 * directions];
    let all = match lowering.graph.operand(n, 3) {
        None => none,
        Some(_) => {
            let bias = lowering.constant_operand(n, 3)?;
            (bias.dims() == [directions, 2 * s.width]).then_some(())?;
            bias.as_slice::<f32>().ok()?.into_owned()
        }
    };
    let of_direction = |both: &[f32]| {
        let (input, state) = both.split_at(s.width);
        match cell {
            Cell::Gru {
                linear_before_reset: true,
            } => [input.to_vec(), state.to_vec()],
            _ => [
                input.iter().zip(state).map(|(a, b)| a + b).collect(),
                Vec::new(),
            ],
        }
    };
    Some(all.chunks_exact(2 * s.width).map(of_direction).collect())
}

/// The matrices of each direction of a DynamicQuantizeLSTM.
fn coded_matrices(
    lowering: &mut Lowering<'_>,
    n: NodeId,
    s: Sizes,
    directions: usize,
) -> Option<Vec<[Codes; 2]>> {
    let mut matrix = |operand: usize, depth: usize, parameters: usize, d: usize| {
        let tensor = lowering.constant_operand(n, operand)?.clone();
        let signed = byte_bounds(tensor.dtype())?[0] < 0;
        (tensor.dims() == [directions, depth, s.width]).then_some(())?;
        let data = &tensor.bytes()[d * depth * s.width..][..depth * s.width];
        let part = |len: usize| {
            let each = len / directions;
            let fits = len == directions || len == directions * s.width;
            fits.then_some(d * each..(d + 1) * each)
        };
        let scale = lowering.constant_operand(n, parameters)?;
        let scale = scale.as_slice::<f32>().ok()?[part(scale.len())?].to_vec();
        let zeros = lowering.constant_operand(n, parameters + 1)?;
        let zeros = zeros.to_i64s().ok()?[part(zeros.len())?].to_vec();
        let zeros = Tensor::from_vec(&[zeros.len()][..], zeros).ok()?;
        let weights = Weights::matrix(data, signed, depth, s.width);
        Some(Codes {
            weights: PackedWeights::new(&weights, &mut lowering.weights),
            zeros: packed_zeros(Some(&zeros), signed, s.width)?,
            scale,
        })
    };
    let mut direction = |d| Some([matrix(1, s.input, 8, d)?, matrix(2, s.hidden, 10, d)?]);
    (0..directions).map(&mut direction).collect()
}

impl Codes {
    /// `y = x w + bias`, where `x`, of rows of `depth`, is quantized first.
    fn product(&self, call: &Call<'_>, x: &[f32], bias: &[f32], work: &mut [Line], y: &mut [f32]) {
        let (depth, width) = (self.weights.column_len(), self.weights.columns);
        let (quantized, scratch) = work.split_at_mut(Line::count(x.len()));
        let quantized = &mut bytes_mut(quantized)[..x.len()];
        let by = dynamic_quantize(call.cpu, x, quantized);
        let (columns, scratch) = scratch.split_at_mut(column_lines(width));
        let (offset, scale) = columns.split_at_mut(columns.len() / 2);
        let offset = &mut bytemuck::cast_slice_mut(bytes_mut(offset))[..width];
        let scale = &mut bytemuck::cast_slice_mut(bytes_mut(scale))[..width];
        zero_offsets(by.zero, &self.weights.sums, &self.zeros, depth, offset);
        column_scales(&[by.scale], &self.scale, scale);
        let task = Task {
            weights: &self.weights,
            left: Operand::Bytes(quantized),
            signed: false,
            geometry: Geometry::matrix(x.len() / depth, depth, depth),
            strides: [0, width],
            offset,
            zero: &self.zeros,
            finish: Finish::Floats {
                scale,
                bias,
                activation: Activation::Identity,
            },
        };
        task.run(call, scratch, Rows::Floats(y), None);
    }

    fn scratch(&self, rows: usize, threads: usize) -> usize {
        let quantized = Line::count(rows * self.weights.column_len());
        quantized + column_lines(self.weights.columns) + task_scratch(&self.weights, threads)
    }
}

/// Memory of one direction.
struct State<'a> {
    /// The products of the input, and what is made of them.
    gates: &'a mut [f32],
    /// Those of the state.
    recurrent: &'a mut [f32],
    h: &'a mut [f32],
    c: &'a mut [f32],
    reset: &'a mut [f32],
    work: &'a mut [Line],
}

impl Sizes {
    fn state(&self) -> usize {
        self.batch * self.hidden
    }

    /// Elements of the parts of [`State`], but for `work`.
    fn parts(&self) -> [usize; 5] {
        let (gates, state) = (self.batch * self.width, self.state());
        [self.steps * gates, gates, state, state, state]
    }

    fn cut<'a>(&self, mut scratch: &'a mut [Line]) -> State<'a> {
        let parts = self.parts().map(|len| {
            let lines = std::mem::take(&mut scratch);
            let (part, rest) = lines.split_at_mut(Line::count(len * 4));
            scratch = rest;
            &mut bytemuck::cast_slice_mut(bytes_mut(part))[..len]
        });
        let [gates, recurrent, h, c, reset] = parts;
        State {
            gates,
            recurrent,
            h,
            c,
            reset,
            work: scratch,
        }
    }
}

impl Kernel for Recurrent {
    fn name(&self, _: Cpu) -> String {
        let weights = match self.directions.first().map(|d| &d.matrices) {
            Some(Matrices::Codes(_)) => "u8s8",
            _ => "f32",
        };
        format!("{} {weights}", self.name)
    }

    fn operations(&self) -> u64 {
        let Sizes {
            steps,
            batch,
            input,
            hidden,
            width,
        } = self.sizes;
        let coded = |d: &&Direction| matches!(d.matrices, Matrices::Codes(_));
        let directions = self.directions.iter().filter(coded).count();
        2 * (directions * steps * batch * width * (input + hidden)) as u64
    }

    fn scratch(&self, threads: usize) -> usize {
        let s = &self.sizes;
        let floats: usize = s.parts().iter().map(|len| Line::count(len * 4)).sum();
        let codes = self.directions.iter().map(|d| match &d.matrices {
            Matrices::Floats => 0,
            Matrices::Codes(codes) => {
                let [input, state] = &**codes;
                let input = input.scratch(s.steps * s.batch, threads);
                input.max(state.scratch(s.batch, threads))
            }
        });
        floats + codes.max().unwrap_or(0)
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let scratch = std::mem::take(&mut call.scratch);
        let s = &self.sizes;
        let mut results = self.results.map(|i| i.map(|i| call.result_floats(i)));
        for (d, direction) in self.directions.iter().enumerate() {
            let mut state = s.cut(scratch);
            let at = d * s.state()..(d + 1) * s.state();
            for (to, from) in [&mut *state.h, &mut *state.c].into_iter().zip(self.first) {
                match from {
                    None => to.fill(0.0),
                    Some(i) => to.copy_from_slice(&call.floats(i)[at.clone()]),
                }
            }
            self.inputs(call, d, &mut state);
            for step in 0..s.steps {
                let time = match direction.backwards {
                    true => s.steps - 1 - step,
                    false => step,
                };
                self.step(call, d, time, &mut state);
                if let Some(all) = &mut results[0] {
                    let at = (time * self.directions.len() + d) * s.state();
                    all[at..][..s.state()].copy_from_slice(state.h);
                }
            }
            for (to, from) in results[1..].iter_mut().zip([&*state.h, &*state.c]) {
                if let Some(to) = to {
                    to[at.clone()].copy_from_slice(from);
                }
            }
        }
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        self.write_steps(code)
    }
}

impl Recurrent {
    /// The products of the input.
    fn inputs(&self, call: &Call<'_>, d: usize, state: &mut State<'_>) {
        let (s, direction) = (&self.sizes, &self.directions[d]);
        let rows = s.steps * s.batch;
        let x = &call.floats(0)[..rows * s.input];
        match &direction.matrices {
            Matrices::Codes(codes) => {
                codes[0].product(call, x, &direction.bias, state.work, state.gates);
            }
            Matrices::Floats => {
                for row in state.gates.chunks_exact_mut(s.width) {
                    row.copy_from_slice(&direction.bias);
                }
                let w = &call.floats(1)[d * s.width * s.input..];
                add_product(x, s.input, w, state.gates, [s.width; 2]);
            }
        }
    }

    fn step(&self, call: &Call<'_>, d: usize, time: usize, state: &mut State<'_>) {
        let (s, direction) = (&self.sizes, &self.directions[d]);
        let State {
            gates,
            recurrent,
            h,
            c,
            reset,
            work,
        } = state;
        let size = s.batch * s.width;
        let gates = &mut gates[time * size..][..size];
        let r = match &direction.matrices {
            Matrices::Floats => &call.floats(2)[d * s.width * s.hidden..],
            Matrices::Codes(_) => &[],
        };
        match self.cell {
            Cell::Lstm => {
                match &direction.matrices {
                    Matrices::Floats => add_product(h, s.hidden, r, gates, [s.width; 2]),
                    Matrices::Codes(codes) => {
                        codes[1].product(call, h, &[], work, recurrent);
                        for (gate, more) in gates.iter_mut().zip(&**recurrent) {
                            *gate += more;
                        }
                    }
                }
                lstm_cell(call.cpu, gates, s.hidden, self.clip, c, h);
            }
            Cell::Gru {
                linear_before_reset: true,
            } => {
                for row in recurrent.chunks_exact_mut(s.width) {
                    row.copy_from_slice(&direction.state_bias);
                }
                add_product(h, s.hidden, r, recurrent, [s.width; 2]);
                gru_cell_linear(call.cpu, gates, recurrent, s.hidden, self.clip, h);
            }
            Cell::Gru { .. } => {
                let two = 2 * s.hidden;
                add_product(h, s.hidden, r, gates, [two, s.width]);
                gru_gates(call.cpu, gates, s.hidden, self.clip, h, reset);
                let new = &mut gates[two..];
                add_product(
                    reset,
                    s.hidden,
                    &r[two * s.hidden..],
                    new,
                    [s.hidden, s.width],
                );
                gru_state(call.cpu, gates, s.hidden, self.clip, h);
            }
        }
    }
}

/// Adds `x w'` to rows of `columns`, a stride apart; `x` and `w` have rows of `depth`.
fn add_product(x: &[f32], depth: usize, w: &[f32], y: &mut [f32], [columns, row]: [usize; 2]) {
    let (x_rows, w_rows) = (Matrix::rows(x, depth), Matrix::rows(w, depth));
    let sizes = [x.len() / depth, columns, depth];
    let y = MatrixMut { data: y, row };
    gemm(sizes, y, true, x_rows, w_rows.transposed());
}
