//! Attention against its definition in f64, and tiers and splits against each other.

use onnxq_kernels::{Attention, Cpu, Heads, Line, Mask};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Case {
    heads: usize,
    key_heads: usize,
    rows: usize,
    keys: usize,
    depth: usize,
    width: usize,
    /// Heads beside each other in a row, or one after the other.
    interleaved: bool,
    /// 0: none, 1: a row, 2: a matrix, 3: a matrix for each head.
    mask: usize,
    split: usize,
    seed: u32,
}

fn floats(n: usize, seed: u32) -> Vec<f32> {
    let at = |i: u32| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 8) as f32;
    (0..n as u32)
        .map(|i| at(i) / (1 << 23) as f32 - 1.0)
        .collect()
}

impl Case {
    fn strides(&self, heads: usize, rows: usize, width: usize) -> [usize; 2] {
        match self.interleaved {
            true => [heads * width, width],
            false => [width, rows * width],
        }
    }

    fn check(&self) {
        let Case {
            heads,
            key_heads,
            rows,
            keys,
            depth,
            width,
            ..
        } = *self;
        let q = floats(heads * rows * depth, self.seed);
        let k = floats(key_heads * keys * depth, self.seed ^ 1);
        let v = floats(key_heads * keys * width, self.seed ^ 2);
        let mut mask = floats(heads * rows * keys, self.seed ^ 3);
        for m in &mut mask {
            if *m > 0.8 && keys > 1 {
                *m = f32::NEG_INFINITY;
            }
        }
        // One key is never masked.
        mask.iter_mut().step_by(keys).for_each(|m| *m = 0.25);
        let mask = match self.mask {
            0 => None,
            1 => Some([0, 0]),
            2 => Some([keys, 0]),
            _ => Some([keys, rows * keys]),
        }
        .map(|strides| Mask {
            data: &mask,
            strides,
        });
        let attention = Attention {
            heads,
            key_heads,
            rows,
            keys,
            depth,
            width,
            scale: 3.0 / (depth as f32).sqrt(),
            q: Heads {
                data: &q,
                strides: self.strides(heads, rows, depth),
            },
            k: Heads {
                data: &k,
                strides: self.strides(key_heads, keys, depth),
            },
            v: Heads {
                data: &v,
                strides: self.strides(key_heads, keys, width),
            },
            mask,
            strides: self.strides(heads, rows, width),
        };
        let exact = exact(&attention);
        let mut results = Vec::new();
        for cpu in Cpu::available() {
            let mut scratch = vec![Line([0xff; 64]); attention.scratch_lines()];
            let mut y = vec![0.0; heads * rows * width];
            attention.run(cpu, 0..rows, &mut y, &mut scratch);
            for (i, (y, e)) in y.iter().zip(&exact).enumerate() {
                assert!(
                    (f64::from(*y) - e).abs() < 2e-6,
                    "{i}: {y}, not {e}, {}",
                    cpu.isa()
                );
            }
            if self.interleaved && self.split < rows {
                let (mut parts, at) = (vec![0.0; y.len()], self.split);
                let (low, high) = parts.split_at_mut(at * heads * width);
                attention.run(cpu, 0..at, low, &mut scratch);
                attention.run(cpu, at..rows, high, &mut scratch);
                assert_eq!(y, parts, "in two parts, {}", cpu.isa());
            }
            results.push(y);
        }
        for y in &results {
            assert_eq!(y, &results[0]);
        }
    }
}

fn exact(x: &Attention<'_>) -> Vec<f64> {
    let mut y = vec![0.0; x.heads * x.rows * x.width];
    for head in 0..x.heads {
        let key_head = head / (x.heads / x.key_heads);
        for row in 0..x.rows {
            let q = &x.q.data[row * x.q.strides[0] + head * x.q.strides[1]..][..x.depth];
            let scores: Vec<f64> = (0..x.keys)
                .map(|key| {
                    let k = &x.k.data[key * x.k.strides[0] + key_head * x.k.strides[1]..];
                    let sum: f64 = q
                        .iter()
                        .zip(k)
                        .map(|(&q, &k)| f64::from(q) * f64::from(k))
                        .sum();
                    let mask = x.mask.map_or(0.0, |m| {
                        m.data[row * m.strides[0] + head * m.strides[1] + key].into()
                    });
                    sum * f64::from(x.scale) + mask
                })
                .collect();
            let max = scores.iter().copied().fold(f64::MIN, f64::max);
            let total: f64 = scores.iter().map(|s| (s - max).exp()).sum();
            for (key, s) in scores.iter().enumerate() {
                let v = &x.v.data[key * x.v.strides[0] + key_head * x.v.strides[1]..];
                let y = &mut y[row * x.strides[0] + head * x.strides[1]..][..x.width];
                for (y, &v) in y.iter_mut().zip(v) {
                    *y += (s - max).exp() / total * f64::from(v);
                }
            }
        }
    }
    y
}

fn case() -> impl Strategy<Value = Case> {
    let heads = (1..4usize, 1..3usize);
    let sizes = (1..30usize, 1..80usize, 1..40usize, 1..70usize);
    let rest = (any::<bool>(), 0..4usize, 0..30usize, any::<u32>());
    (heads, sizes, rest).prop_map(
        |((key_heads, each), (rows, keys, depth, width), (interleaved, mask, split, seed))| Case {
            heads: key_heads * each,
            key_heads,
            rows,
            keys,
            depth,
            width,
            interleaved,
            mask,
            split,
            seed,
        },
    )
}

proptest! {
    #[test]
    fn near_its_definition(case in case()) {
        case.check();
    }
}

/// Nothing to attend to, and nobody to do it.
#[test]
fn nothing() {
    for (heads, rows, keys, width) in [(0, 2, 2, 2), (1, 0, 2, 2), (1, 2, 0, 2), (1, 2, 2, 0)] {
        let data = &[1.0; 8][..];
        let all = Heads {
            data,
            strides: [2, 2],
        };
        let attention = Attention {
            heads,
            key_heads: 1,
            rows,
            keys,
            depth: 2,
            width,
            scale: 1.0,
            q: all,
            k: all,
            v: all,
            mask: None,
            strides: [2, 2],
        };
        let mut scratch = vec![Line::ZERO; attention.scratch_lines()];
        attention.run(Cpu::detect(), 0..rows, &mut [0.0; 8], &mut scratch);
    }
}
