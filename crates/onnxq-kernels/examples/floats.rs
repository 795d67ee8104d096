//! How fast the float kernels are: elements per nanosecond, for each tier.
//!
//!     cargo run --release -p onnxq-kernels --example floats -- [FILTER]

#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use std::{hint::black_box, time::Instant};

use onnxq_kernels::{
    Activation, Attention, Binary, Broadcast, Comparison, Cpu, Heads, Line, Mask, Norm, Reduction,
    Skip, Softmax, UNBOUNDED, Unary, binary, binary_in_place, compare, dynamic_quantize,
    gru_cell_linear, lstm_cell, normalize, range, reduce_columns, reduce_rows, select,
    skip_normalize, softmax, unary, unary_in_place,
};

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
        rows(&bench);
        attention(&bench);
        pairs(&bench);
        cells(&bench);
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

fn rows(bench: &Bench) {
    let x = numbers(128 * 384, 2);
    let mut y = x.clone();
    let cpu = bench.cpu;
    for width in [128, 13, 384] {
        let n = x.len() / width * width;
        let mask = vec![-1.0; width];
        for (name, f) in [
            ("softmax", Softmax::Softmax),
            ("log softmax", Softmax::LogSoftmax),
        ] {
            bench.run(&format!("{name} {width}"), n, || {
                softmax(cpu, f, black_box(&mut y[..n]), width, 0.5, &mask);
            });
        }
    }
    let width = 384;
    let norm = Norm {
        scale: &vec![1.5; width],
        bias: &vec![0.5; width],
        epsilon: 1e-5,
        centered: true,
    };
    bench.run("layer norm 384", x.len(), || {
        normalize(cpu, &norm, black_box(&x), &mut y)
    });
    let mut sums = x.clone();
    bench.run("skip layer norm 384", x.len(), || {
        let mut skip = Skip {
            skip: &x,
            bias: norm.bias,
            sum: &mut sums,
        };
        skip_normalize(cpu, &norm, black_box(&x), &mut skip, &mut y);
    });
    let rms = Norm {
        centered: false,
        bias: &[],
        ..norm
    };
    bench.run("rms norm 384", x.len(), || {
        normalize(cpu, &rms, black_box(&x), &mut y)
    });
    for (name, f) in [
        ("mean", Reduction::Mean),
        ("max", Reduction::Max),
        ("l2", Reduction::L2),
    ] {
        bench.run(&format!("{name} of rows of 384"), x.len(), || {
            reduce_rows(cpu, f, black_box(&x), width, &mut y[..128]);
        });
        bench.run(&format!("{name} of columns, 128"), x.len(), || {
            reduce_columns(cpu, f, black_box(&x), &mut y[..width]);
        });
    }
}

fn attention(bench: &Bench) {
    for (heads, rows, depth) in [(12, 128, 32), (12, 13, 32), (12, 128, 64), (4, 512, 64)] {
        let stride = heads * depth;
        let [q, k, v] = [1, 2, 3].map(|seed| numbers(rows * stride, seed));
        let heads_of = |data| Heads {
            data,
            strides: [stride, depth],
        };
        let attention = Attention {
            heads,
            key_heads: heads,
            rows,
            keys: rows,
            depth,
            width: depth,
            scale: 0.1,
            q: heads_of(&q),
            k: heads_of(&k),
            v: heads_of(&v),
            mask: Some(Mask {
                data: &vec![0.5; rows],
                strides: [0, 0],
            }),
            strides: [stride, depth],
        };
        let mut y = vec![0.0; rows * stride];
        let mut scratch = vec![Line::ZERO; attention.scratch_lines()];
        // Multiplications of the two products.
        let work = 2 * heads * rows * rows * depth;
        bench.run(&format!("attention {heads}x{rows}x{depth}"), work, || {
            attention.run(bench.cpu, 0..rows, black_box(&mut y), &mut scratch);
        });
    }
}

fn pairs(bench: &Bench) {
    let (cpu, width) = (bench.cpu, 384);
    let [a, b] = [1, 2].map(|seed| numbers(32 * width, seed));
    let mut y = a.clone();
    let all = Broadcast::Elements(&a);
    let operands = [
        ("elements", Broadcast::Elements(&b)),
        ("row", Broadcast::Row(&b[..width])),
        ("column", Broadcast::Column(&b[..32])),
        ("scalar", Broadcast::Scalar(2.0)),
    ];
    for (name, b) in operands {
        bench.run(&format!("binary add {name}"), y.len(), || {
            binary(
                cpu,
                Binary::Add,
                black_box(all),
                b,
                width,
                UNBOUNDED,
                black_box(&mut y),
            );
        });
    }
    let b = operands[0].1;
    bench.run("binary add in place, relu", y.len(), || {
        binary_in_place(cpu, Binary::Add, black_box(&mut y), b, width, [0.0, 6.0]);
    });
    bench.run("binary div", y.len(), || {
        binary(
            cpu,
            Binary::Div,
            black_box(all),
            b,
            width,
            UNBOUNDED,
            black_box(&mut y),
        );
    });
    let mut bytes = vec![0; y.len()];
    bench.run("range", a.len(), || {
        black_box(range(cpu, black_box(&a)));
    });
    bench.run("dynamic quantization", a.len(), || {
        black_box(dynamic_quantize(cpu, black_box(&a), black_box(&mut bytes)));
    });
    bench.run("binary less", y.len(), || {
        compare(
            cpu,
            Comparison::Less,
            black_box(all),
            b,
            width,
            black_box(&mut bytes),
        );
    });
    bench.run("binary select", y.len(), || {
        select(cpu, black_box(&bytes), all, b, width, black_box(&mut y));
    });
}

fn cells(bench: &Bench) {
    let (hidden, rows) = (256, 4);
    let gates = numbers(4 * hidden * rows, 1);
    let recurrent = numbers(4 * hidden * rows, 2);
    let (mut c, mut h) = (vec![0.5; hidden * rows], vec![0.5; hidden * rows]);
    bench.run("lstm cell", h.len(), || {
        lstm_cell(
            bench.cpu,
            black_box(&gates),
            hidden,
            f32::INFINITY,
            &mut c,
            &mut h,
        );
    });
    let three = 3 * hidden * rows;
    bench.run("gru cell", h.len(), || {
        let (x, r) = (black_box(&gates[..three]), &recurrent[..three]);
        gru_cell_linear(bench.cpu, x, r, hidden, f32::INFINITY, &mut h);
    });
}
