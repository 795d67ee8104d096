//! Softmax, normalizations and reductions of rows against their definitions in f64.

use onnxq_kernels::{
    Cpu, Norm, Reduction, Skip, Softmax, normalize, reduce_columns, reduce_rows, skip_normalize,
    softmax,
};
use proptest::prelude::*;

/// A few rows, as many floats more, and one row.
fn rows() -> impl Strategy<Value = (usize, Vec<f32>, Vec<f32>, Vec<f32>)> {
    (1..6usize, 1..150usize).prop_flat_map(|(rows, width)| {
        let floats = |n| prop::collection::vec(-9f32..9.0, n);
        (
            Just(width),
            floats(rows * width),
            floats(rows * width),
            floats(width),
        )
    })
}

/// The result on every tier, which must be the same one.
fn on_all(run: impl Fn(Cpu) -> Vec<f32>) -> Vec<f32> {
    let expected = run(Cpu::PORTABLE);
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for cpu in Cpu::available() {
        assert_eq!(bits(&run(cpu)), bits(&expected), "{}", cpu.isa());
    }
    expected
}

fn near(y: &[f32], exact: &[f64], tolerance: f64) {
    assert_eq!(y.len(), exact.len());
    for (i, (&y, &e)) in y.iter().zip(exact).enumerate() {
        let error = (f64::from(y) - e).abs() / e.abs().max(1.0);
        assert!(error <= tolerance, "element {i}: {y}, not {e}");
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

fn exact_norm(norm: &Norm<'_>, x: &[f64]) -> Vec<f64> {
    let width = norm.scale.len();
    let mut y = Vec::new();
    for row in x.chunks_exact(width) {
        let n = width as f64;
        let mean = if norm.centered {
            row.iter().sum::<f64>() / n
        } else {
            0.0
        };
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        let inverse = 1.0 / (variance + f64::from(norm.epsilon)).sqrt();
        for (j, x) in row.iter().enumerate() {
            let bias = norm.bias.get(j).copied().unwrap_or(0.0);
            y.push((x - mean) * inverse * f64::from(norm.scale[j]) + f64::from(bias));
        }
    }
    y
}

proptest! {
    #[test]
    fn softmax_of_rows((width, x, more, row) in rows(), scale in 0.1f32..2.0, masks in 0..3usize) {
        let mask = [&[][..], &row, &more][masks];
        for f in [Softmax::Softmax, Softmax::LogSoftmax] {
            let y = on_all(|cpu| {
                let mut y = x.clone();
                softmax(cpu, f, &mut y, width, scale, mask);
                y
            });
            let mut exact = Vec::new();
            for (i, x) in x.chunks_exact(width).enumerate() {
                let masked = |j: usize| match mask.is_empty() {
                    true => 0.0,
                    false => f64::from(mask[(i * width + j) % mask.len()]),
                };
                let x: Vec<f64> = x.iter().enumerate().map(|(j, &x)| f64::from(x) * f64::from(scale) + masked(j)).collect();
                let max = x.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = x.iter().map(|x| (x - max).exp()).sum();
                exact.extend(x.iter().map(|x| match f {
                    Softmax::Softmax => (x - max).exp() / sum,
                    Softmax::LogSoftmax => x - max - sum.ln(),
                }));
            }
            near(&y, &exact, 4e-6);
        }
    }

    #[test]
    fn normalized_rows((width, x, more, row) in rows(), biased: bool, centered: bool, skips in 0..3usize, sums: bool) {
        let scale: Vec<f32> = row.iter().rev().copied().collect();
        let norm = Norm {
            scale: &scale,
            bias: if biased { &row } else { &[] },
            epsilon: 1e-5,
            centered,
        };
        let skipped = [&[][..], &more, &more[..width]][skips];
        let added: Vec<f64> = (0..x.len())
            .map(|i| {
                let skip = if skipped.is_empty() { 0.0 } else { skipped[i % skipped.len()] };
                f64::from(x[i]) + f64::from(skip) + if biased { f64::from(row[i % width]) } else { 0.0 }
            })
            .collect();
        // A small variance enlarges what rounding does to the elements.
        let exact = exact_norm(&norm, &added);
        let tolerance = 1e-4;
        let y = on_all(|cpu| {
            let mut y = vec![0.0; x.len()];
            let mut sum = vec![0.0; if sums { x.len() } else { 0 }];
            let bias = if biased { &row[..] } else { &[] };
            let mut skip = Skip { skip: skipped, bias, sum: &mut sum };
            skip_normalize(cpu, &norm, &x, &mut skip, &mut y);
            if sums {
                near(&sum, &added, 1e-6);
            }
            y
        });
        near(&y, &exact, tolerance);
        if skips == 0 && !biased {
            let plain = on_all(|cpu| {
                let mut y = vec![0.0; x.len()];
                normalize(cpu, &norm, &x, &mut y);
                y
            });
            prop_assert_eq!(plain, y);
        }
    }

    #[test]
    fn reductions((width, x, ..) in rows()) {
        let exact = |f: Reduction, x: &mut dyn Iterator<Item = f64>| -> f64 {
            let x: Vec<f64> = x.collect();
            let sum: f64 = x.iter().sum();
            let squares: f64 = x.iter().map(|x| x * x).sum();
            match f {
                Reduction::Sum => sum,
                Reduction::Mean => sum / x.len() as f64,
                Reduction::Max => x.into_iter().fold(f64::MIN, f64::max),
                Reduction::Min => x.into_iter().fold(f64::MAX, f64::min),
                Reduction::L1 => x.iter().map(|x| x.abs()).sum(),
                Reduction::L2 => squares.sqrt(),
                Reduction::SumSquares => squares,
            }
        };
        let all = [
            Reduction::Sum, Reduction::Mean, Reduction::Max, Reduction::Min, Reduction::L1,
            Reduction::L2, Reduction::SumSquares,
        ];
        for f in all {
            let y = on_all(|cpu| {
                let mut y = vec![0.0; x.len() / width];
                reduce_rows(cpu, f, &x, width, &mut y);
                y
            });
            let e: Vec<f64> = x.chunks_exact(width).map(|x| exact(f, &mut wide(x).into_iter())).collect();
            near(&y, &e, 2e-5);
            let y = on_all(|cpu| {
                let mut y = vec![0.0; width];
                reduce_columns(cpu, f, &x, &mut y);
                y
            });
            let e: Vec<f64> = (0..width)
                .map(|j| exact(f, &mut wide(&x).into_iter().skip(j).step_by(width)))
                .collect();
            near(&y, &e, 2e-5);
        }
    }
}

#[test]
fn rows_with_nan_and_infinities() {
    for cpu in Cpu::available() {
        let mut x = [1.0, f32::NAN, 2.0, 0.0];
        let mut y = [0.0];
        for f in [Reduction::Max, Reduction::Min, Reduction::Sum] {
            reduce_rows(cpu, f, &x, 4, &mut y);
            assert!(y[0].is_nan(), "{f:?}");
        }
        softmax(cpu, Softmax::Softmax, &mut x, 4, 1.0, &[]);
        assert!(x.iter().all(|x| x.is_nan()));
        // What is masked has no part in it.
        let mut x = [1.0, 5.0, 1.0, -3.0];
        let mask = [0.0, f32::NEG_INFINITY, 0.0, f32::MIN];
        softmax(cpu, Softmax::Softmax, &mut x, 4, 1.0, &mask);
        assert_eq!(x, [0.5, 0.0, 0.5, 0.0]);
    }
}
