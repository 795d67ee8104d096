//! How long a run takes: the last line is `median_ms: N`.

use std::time::Instant;

use @CRATE@::{Inputs, Model};

/// Inputs, and outputs behind them.
static RECORDED: &[u8] = include_bytes!("../tests/golden.bin");

/// For how long to measure, in seconds, and how many runs at least.
const SECONDS: f64 = 2.0;
const RUNS: usize = 20;

fn read<T, const N: usize, const SIZE: usize>(
    from: &mut &[u8],
    f: impl Fn([u8; SIZE]) -> T,
) -> Box<[T; N]> {
    let (bytes, rest) = from.split_at(N * SIZE);
    *from = rest;
    let (elements, _) = bytes.as_chunks();
    let elements: Vec<T> = elements.iter().map(|&bytes| f(bytes)).collect();
    let elements = elements.try_into().ok();
    elements.expect("as many elements as were read")
}

fn main() {
    let mut recorded = RECORDED;
@READ@    let inputs = @INPUTS@;
    let mut model = Model::new();
    std::hint::black_box(model.run(&inputs)@MARK@);
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < RUNS || start.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        std::hint::black_box(model.run(&inputs)@MARK@);
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    println!("instructions: {}", model.instructions());
    println!("median_ms: {:.4}", times[times.len() / 2] * 1e3);
}
