//! Measures one integer product: `gemm M K N [--types u8s8] [--isa amx] [--tiles most] [--threads N] [--out u8]`
//! prints `N GOPS` last, multiplications and additions counted apart.
//!
//! With one thread the time is the thread's own processor time, with more it is the clock's. The
//! figure is the median of several short rounds. Some rows are compared with the portable tier first.

#![expect(clippy::print_stdout, reason = "a program that prints a figure")]

use std::{env, error::Error};

mod aligned;
mod timing;

use aligned::Aligned;
use onnxq_kernels::{
    Activation, Cpu, Epilogue, Geometry, Isa, Left, Line, Output, Packed, Product, Requantize,
    Residual, SumSteps, Tiles, Weights, bytes_mut, pack, packed_len, scratch_lines, sum_steps,
};

const USAGE: &str = "usage: gemm M K N [--types u8s8|s8s8|u8u8|s8u8] [--isa ISA] [--tiles few|most] [--threads N] [--out s32|u8|u8+u8|f32]";
const ROUNDS: usize = 9;
const ROUND_SECONDS: f64 = 0.02;

struct Options {
    sizes: [usize; 3],
    left_signed: bool,
    right_signed: bool,
    cpu: Cpu,
    tiles: Tiles,
    threads: usize,
    out: Out,
}

#[derive(Clone, Copy)]
enum Out {
    Sums,
    Bytes,
    /// Bytes that others are added to.
    Added,
    Floats,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut sizes = Vec::new();
    let mut options = Options {
        sizes: [0; 3],
        left_signed: false,
        right_signed: true,
        cpu: Cpu::detect(),
        tiles: Tiles::Measured,
        threads: 1,
        out: Out::Bytes,
    };
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(USAGE);
        match argument.as_str() {
            "--types" => {
                (options.left_signed, options.right_signed) = match value()?.as_str() {
                    "u8s8" => (false, true),
                    "s8s8" => (true, true),
                    "u8u8" => (false, false),
                    "s8u8" => (true, false),
                    _ => return Err(USAGE.into()),
                }
            }
            "--isa" => {
                let isa: Isa = value()?.parse()?;
                options.cpu = Cpu::with(isa).ok_or("this processor has no such instructions")?;
            }
            "--tiles" => {
                options.tiles = match value()?.as_str() {
                    "few" => Tiles::Few,
                    "most" => Tiles::Most,
                    _ => return Err(USAGE.into()),
                }
            }
            "--threads" => options.threads = value()?.parse::<usize>()?.max(1),
            "--out" => {
                options.out = match value()?.as_str() {
                    "s32" => Out::Sums,
                    "u8" => Out::Bytes,
                    "u8+u8" => Out::Added,
                    "f32" => Out::Floats,
                    _ => return Err(USAGE.into()),
                }
            }
            size => sizes.push(size.parse().map_err(|_| USAGE)?),
        }
    }
    options.cpu = options.cpu.with_tiles(options.tiles);
    options.sizes = sizes.try_into().map_err(|_| USAGE)?;
    match options.sizes.contains(&0) {
        true => Err(USAGE.into()),
        false => Ok(options),
    }
}

/// The operands: bytes of no particular kind.
struct Operands {
    /// Aligned, as the memory between the steps of a model is.
    left: Vec<Line>,
    weights: Vec<u8>,
    offset: Vec<i32>,
    /// Unsigned weights are packed minus 128; here their zero point is 0.
    zero: Vec<i32>,
    scale: Vec<f32>,
    steps: Option<SumSteps>,
}

impl Operands {
    fn new(o: &Options) -> Operands {
        let [rows, depth, columns] = o.sizes;
        let mut state = 1_u64;
        let mut bytes = |len: usize| -> Vec<u8> {
            let next = |_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            };
            (0..len).map(next).collect()
        };
        let mut left = vec![Line::ZERO; Line::count(rows * depth)];
        bytes_mut(&mut left)[..rows * depth].copy_from_slice(&bytes(rows * depth));
        Operands {
            left,
            weights: bytes(depth * columns),
            offset: (0..columns as i32).map(|i| i * 37 % 1000).collect(),
            zero: vec![-128; if o.right_signed { 0 } else { columns }],
            scale: vec![0.02 / (depth as f32).sqrt(); columns],
            steps: sum_steps(o.cpu, ZERO, [0, 255], &RESIDUAL),
        }
    }
}

/// The zero point of the result.
const ZERO: i32 = 128;

/// What is added to it.
const RESIDUAL: Residual<'_> = Residual {
    data: None,
    row: false,
    signed: false,
    scales: [0.021_343, 0.017_711, 0.030_197],
    zeros: [3, 0],
    bounds: [0, 255],
    steps: None,
};

/// What one thread computes: some rows of some columns.
struct Part<'a> {
    product: Product<'a>,
    scale: &'a [f32],
    scratch: Vec<Line>,
    result: Values,
    /// The other tensor, if there is to be one.
    other: Vec<u8>,
    steps: Option<SumSteps>,
}

enum Values {
    Sums(Aligned<i32>),
    Bytes(Aligned<u8>),
    Floats(Aligned<f32>),
}

impl<'a> Part<'a> {
    fn new(
        o: &Options,
        with: &'a Operands,
        right: Packed<'a>,
        first: usize,
        left: &'a [u8],
    ) -> Part<'a> {
        let columns = right.columns;
        let rows = left.len() / right.depth;
        let some = first..first + columns;
        let zero = match o.right_signed {
            true => &[],
            false => &with.zero[some.clone()],
        };
        Part {
            product: Product {
                left: Left {
                    data: left,
                    signed: o.left_signed,
                    geometry: Geometry::matrix(rows, right.depth, right.depth),
                },
                right,
                strides: [0, columns],
                epilogue: Epilogue {
                    offset: &with.offset[some.clone()],
                    zero,
                },
            },
            scale: &with.scale[some],
            scratch: vec![Line::ZERO; scratch_lines(&right)],
            other: match o.out {
                Out::Added => (0..rows * columns).map(|i| (i * 7) as u8).collect(),
                _ => Vec::new(),
            },
            steps: with.steps,
            result: match o.out {
                Out::Sums => Values::Sums(Aligned::zeros(rows * columns)),
                Out::Bytes | Out::Added => Values::Bytes(Aligned::zeros(rows * columns)),
                Out::Floats => Values::Floats(Aligned::zeros(rows * columns)),
            },
        }
    }

    fn run(&mut self, cpu: Cpu) {
        let output = match &mut self.result {
            Values::Sums(y) => Output::Sums(y.get_mut()),
            Values::Bytes(y) => Output::Bytes(
                y.get_mut(),
                Requantize {
                    scale: self.scale,
                    zero: ZERO,
                    bounds: [0, 255],
                    residual: (!self.other.is_empty()).then_some(Residual {
                        data: Some(&self.other),
                        steps: self.steps,
                        ..RESIDUAL
                    }),
                },
            ),
            Values::Floats(y) => Output::Floats {
                y: y.get_mut(),
                scale: self.scale,
                bias: &[],
                activation: Activation::Identity,
            },
        };
        self.product.run(cpu, output, &mut self.scratch);
    }

    /// Whether the portable tier finds the same in the first, a middle and the last row.
    fn agrees(&self, o: &Options, with: &'a Operands, first: usize) -> bool {
        let Product { left, right, .. } = self.product;
        let (rows, columns) = (left.geometry.rows(), right.columns);
        [0, rows / 2, rows - 1].into_iter().all(|row| {
            let bytes = &left.data[row * right.depth..][..right.depth];
            let mut one = Part::new(o, with, right, first, bytes);
            if !self.other.is_empty() {
                let other = &self.other[row * columns..][..columns];
                one.other.copy_from_slice(other);
            }
            one.run(Cpu::PORTABLE);
            let at = row * columns..(row + 1) * columns;
            match (&self.result, &one.result) {
                (Values::Sums(all), Values::Sums(one)) => all.get()[at] == *one.get(),
                (Values::Bytes(all), Values::Bytes(one)) => all.get()[at] == *one.get(),
                (Values::Floats(all), Values::Floats(one)) => all.get()[at] == *one.get(),
                _ => false,
            }
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let o = options()?;
    let [rows, depth, columns] = o.sizes;
    let mut operands = Operands::new(&o);
    let mut left = std::mem::take(&mut operands.left);
    let mut left = &bytes_mut(&mut left)[..rows * depth];
    // Threads share the rows, or where these are few, the columns.
    let by_rows = rows >= 16 * o.threads;
    let widths = match by_rows {
        true => vec![columns],
        false => shares(columns, o.threads),
    };
    let mut memory: Vec<Vec<Line>> = (widths.iter())
        .map(|&width| vec![Line::ZERO; packed_len(width, 1, depth) / 64])
        .collect();
    let mut packed = Vec::new();
    let mut first = 0;
    for (&width, memory) in widths.iter().zip(&mut memory) {
        let weights = Weights {
            data: &operands.weights[first..],
            signed: o.right_signed,
            columns: width,
            segments: 1,
            depth: [1, depth],
            strides: [1, 0, 0, columns],
        };
        packed.push((
            first,
            pack(o.cpu, &weights, bytes_mut(memory), &mut vec![0; width]),
        ));
        first += width;
    }
    let mut parts = Vec::new();
    if by_rows {
        for count in shares(rows, o.threads) {
            let (these, rest) = left.split_at(count * depth);
            parts.push((0, Part::new(&o, &operands, packed[0].1, 0, these)));
            left = rest;
        }
    } else {
        for (first, packed) in packed {
            parts.push((first, Part::new(&o, &operands, packed, first, left)));
        }
    }
    for (first, part) in &mut parts {
        part.run(o.cpu);
        if !part.agrees(&o, &operands, *first) {
            return Err("the result is not that of the portable tier".into());
        }
    }
    let mut parts: Vec<Part<'_>> = parts.into_iter().map(|(_, part)| part).collect();
    let cpu = o.cpu;
    let mut parts: Vec<_> = parts.iter_mut().map(|part| move || part.run(cpu)).collect();
    let mut calls = 1;
    let mut seconds = timing::rounds(&mut parts, calls);
    while seconds < ROUND_SECONDS / 2.0 {
        calls *= 2;
        seconds = timing::rounds(&mut parts, calls);
    }
    let mut each: Vec<f64> = (0..ROUNDS)
        .map(|_| timing::rounds(&mut parts, calls) / calls as f64)
        .collect();
    each.sort_by(f64::total_cmp);
    let operations = 2.0 * (rows * depth * columns) as f64;
    let best = operations / each[0] / 1e9;
    let median = each[ROUNDS / 2];
    println!(
        "{}: best {best:.1}, {:.2} us, {:.1} GOPS",
        o.cpu.isa(),
        median * 1e6,
        operations / median / 1e9
    );
    Ok(())
}

/// `count` in shares of about the same size, none of them empty.
fn shares(count: usize, threads: usize) -> Vec<usize> {
    let each = count.div_ceil(threads).next_multiple_of(16);
    (0..count)
        .step_by(each)
        .map(|at| each.min(count - at))
        .collect()
}
