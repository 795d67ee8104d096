//! How fast the float kernels are: elements per nanosecond, for each tier.
//!
//!     cargo run --release -p onnxq-kernels --example floats -- [FILTER]

#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use std::{hint::black_box, time::Instant};

use onnxq_kernels::{Activation, Cpu, Unary, unary, unary_in_place};

/// Nanoseconds of the fastest of many runs.
fn fastest(mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed().as_millis() < 60 {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_nanos() as f64);
    }
    best
}

struct Bench {
    filter: String,
    cpu: Cpu,
}

impl Bench {
    fn run(&self, name: &str, elements: usize, run: impl FnMut()) {
        if name.contains(&self.filter) {
            let ns = fastest(run);
            println!(
                "{:10} {name:30} {:8.2} elements/ns {:10.1} us",
                self.cpu.isa(),
                elements as f64 / ns,
                ns / 1000.0
            );
        }
    }
}

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    (0..n as u32)
        .map(|i| {
            (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 21) as f32 - 4.0
        })
        .collect()
}

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    for cpu in Cpu::available() {
        let bench = Bench {
            filter: filter.clone(),
            cpu,
        };
        functions(&bench);
    }
}

fn functions(bench: &Bench) {
    let x = numbers(4096, 1);
    let mut y = vec![0.0; x.len()];
    let all = [
        ("unary exp", Unary::Exp),
        ("unary log", Unary::Log),
        ("unary erf", Unary::Erf),
        ("unary sqrt", Unary::Sqrt),
        ("unary relu", Unary::Activation(Activation::Clamp(0.0, 6.0))),
        ("unary gelu", Unary::Activation(Activation::Gelu)),
        ("unary gelu tanh", Unary::Activation(Activation::GeluTanh)),
        ("unary silu", Unary::Activation(Activation::Silu)),
        ("unary sigmoid", Unary::Activation(Activation::Sigmoid)),
        ("unary tanh", Unary::Activation(Activation::Tanh)),
        ("unary elu", Unary::Elu(1.0)),
        ("unary softplus", Unary::Softplus),
        ("unary mish", Unary::Mish),
        ("unary hard swish", Unary::HardSwish),
        ("unary round", Unary::Round),
    ];
    for (name, f) in all {
        bench.run(name, x.len(), || {
            unary(bench.cpu, f, black_box(&x), black_box(&mut y))
        });
    }
    bench.run("unary in place relu", x.len(), || {
        unary_in_place(
            bench.cpu,
            Unary::Activation(Activation::Clamp(0.0, 6.0)),
            black_box(&mut y),
        );
    });
}
