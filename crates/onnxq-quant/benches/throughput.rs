//! Bytes of `f32` read per second on one thread, and what it costs to observe a value:
//! `cargo bench -p onnxq-quant`.
#![expect(clippy::print_stdout, reason = "a table is what this is for")]

use std::{hint::black_box, time::Instant};

use onnxq_quant::{
    CalibrationSpec, FloatType, Granularity, Method, ParamSpec, QuantType, TensorObserver,
    ValueRange, WeightSpec,
    data::{min_max, quantize},
    quantize_weight, weight_ranges,
};
use onnxq_tensor::{Buffer, DType, Tensor};

const ROWS: usize = 5000;
const COLUMNS: usize = 5000;

fn time(name: &str, mut run: impl FnMut()) {
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    let bytes = (ROWS * COLUMNS * 4) as f64;
    println!(
        "{name:<42} {:7.2} ms {:6.2} GB/s",
        best * 1e3,
        bytes / best / 1e9
    );
}

fn main() {
    let values: Vec<f32> = (0..ROWS * COLUMNS)
        .map(|i| ((i * 2654435761) % 10007) as f32 / 5003.0 - 1.0)
        .collect();
    let mut codes = vec![0i8; values.len()];
    let params = ParamSpec::new(QuantType::Int8)
        .compute(ValueRange::new(-1.0, 1.0), FloatType::F32)
        .unwrap();
    time("min_max, slice", || _ = black_box(min_max(&values)));
    time("quantize int8, slice, buffer reused", || {
        quantize(&values, params, black_box(&mut codes))
    });
    let mut wide = vec![0u16; values.len()];
    time("quantize uint16, slice, buffer reused", || {
        quantize(&values, params, black_box(&mut wide))
    });

    let bytes: Vec<u8> = [vec![0u8], bytemuck::cast_slice(&values).to_vec()].concat();
    let len = bytes.len();
    let unaligned = Buffer::from(bytes).slice(1..len);
    let weight = Tensor::from_vec([ROWS, COLUMNS].as_slice(), values).unwrap();
    let unaligned = Tensor::new(DType::F32, weight.dims(), unaligned).unwrap();
    let narrow = weight.reshape([ROWS * COLUMNS / 8, 8].as_slice()).unwrap();
    let spec = WeightSpec::new(QuantType::Int8);
    let granularities = [
        ("per tensor", &weight, Granularity::PerTensor),
        ("per tensor, unaligned", &unaligned, Granularity::PerTensor),
        ("axis 0", &weight, Granularity::PerChannel { axis: 0 }),
        ("last axis", &weight, Granularity::PerChannel { axis: 1 }),
        (
            "axis 0 of [n, 8]",
            &narrow,
            Granularity::PerChannel { axis: 0 },
        ),
        (
            "last axis of [n, 8]",
            &narrow,
            Granularity::PerChannel { axis: 1 },
        ),
        (
            "blocks of 32 on the last axis",
            &weight,
            Granularity::Blocked { axis: 1, block: 32 },
        ),
        (
            "blocks of 32 on axis 0",
            &weight,
            Granularity::Blocked { axis: 0, block: 32 },
        ),
    ];
    for (name, weight, granularity) in granularities {
        time(&format!("ranges, {name}"), || {
            _ = black_box(weight_ranges(weight, granularity))
        });
        let spec = WeightSpec {
            granularity,
            ..spec
        };
        time(&format!("ranges and int8, {name}"), || {
            _ = black_box(quantize_weight(weight, &spec))
        });
    }
    for qtype in [QuantType::Int4, QuantType::UInt16, QuantType::Float8E4M3FN] {
        let spec = WeightSpec::new(qtype);
        time(&format!("ranges and {qtype}, per tensor"), || {
            _ = black_box(quantize_weight(&weight, &spec))
        });
    }
    observers();
}

/// The least time of several runs, in nanoseconds by value.
fn per_value(values: usize, mut run: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..25 {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best * 1e9 / values as f64
}

/// 8 samples of a tensor, each by itself, against joining them and then doing as NumPy does.
fn observers() {
    const SAMPLES: usize = 8;
    let mut state = 1u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (state >> 40) as f32 / 8388608.0 - 1.0
    };
    let normal: Vec<f32> = (0..200_704)
        .map(|_| (0..8).map(|_| uniform()).sum::<f32>())
        .collect();
    let relu: Vec<f32> = normal.iter().map(|v| v.max(0.0)).collect();
    let small = normal[..2048].to_vec();
    println!(
        "\n{:<42} {:>8} {:>8}",
        "observe 8 samples", "ns/value", "naive"
    );
    for (shape, data) in [("normal", &normal), ("relu", &relu), ("small", &small)] {
        let naive = per_value(SAMPLES * data.len(), || {
            let all: Vec<f32> = (0..SAMPLES).flat_map(|_| data.iter().copied()).collect();
            _ = black_box(naive_histogram(&all, 2048));
        });
        for method in [Method::MINMAX, Method::PERCENTILE, Method::ENTROPY] {
            let spec = CalibrationSpec {
                method,
                symmetric: false,
            };
            for (form, keep) in [("counted", 0), ("kept", usize::MAX)] {
                let run = || {
                    let observer = TensorObserver::new(spec, None, keep).unwrap();
                    for sample in 0..SAMPLES {
                        observer.observe(sample, data, &[data.len()]).unwrap();
                    }
                    observer
                };
                let seen = per_value(SAMPLES * data.len(), || _ = black_box(run()));
                let name = format!("{shape}, {}, {form}", method.name());
                let observer = run();
                let finish = per_value(1_000_000, || _ = black_box(observer.range()));
                println!("{name:<42} {seen:8.3} {naive:8.3} {finish:8.3} ms to finish");
            }
        }
    }
}

/// Range, then bins, one value at a time.
fn naive_histogram(values: &[f32], bins: usize) -> Vec<u64> {
    let range = min_max(values).unwrap();
    let mut counts = vec![0; bins];
    for &v in values {
        let at = ((v - range.lo) / (range.hi - range.lo) * bins as f32) as usize;
        counts[at.min(bins - 1)] += 1;
    }
    counts
}
