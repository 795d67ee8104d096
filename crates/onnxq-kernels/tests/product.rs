//! Products of every tier against sums written down plainly.

mod common;

use common::{Numbers, cpus, value};
use onnxq_kernels::{
    Activation, Cpu, Epilogue, Geometry, Left, Line, Output, Product, Requantize, Residual, Unary,
    Weights, bytes_mut, pack, packed_len, scratch_lines, sum_steps, unary_in_place,
};
use proptest::prelude::*;

/// A product, all of whose bytes come from one seed.
#[derive(Clone, Debug)]
struct Case {
    geometry: Geometry,
    /// Whether the weights are packed as one segment.
    joined: bool,
    columns: usize,
    left_signed: bool,
    right_signed: bool,
    zeros: bool,
    /// Bytes beyond those that the rows need.
    slack: usize,
    /// Whether there are extreme ones only.
    extreme: bool,
    seed: u64,
}

struct Made {
    left: Vec<u8>,
    weights: Vec<u8>,
    offset: Vec<i32>,
    zero: Vec<i32>,
    scale: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<u8>,
    /// By row, then by column.
    sums: Vec<i32>,
}

impl Case {
    fn depth(&self) -> usize {
        let g = &self.geometry;
        g.segments[0] * g.segments[1] * g.depth
    }

    fn make(&self) -> Made {
        let g = &self.geometry;
        let mut numbers = Numbers(self.seed);
        let last = (g.runs - 1) * g.run_stride
            + (g.run_len - 1) * g.row_stride
            + (g.segments[0] - 1) * g.segment_strides[0]
            + (g.segments[1] - 1) * g.segment_strides[1]
            + g.depth;
        let left = numbers.bytes(last + self.slack, self.extreme);
        let weights = numbers.bytes(self.depth() * self.columns, self.extreme);
        let mut integers = |span: u64| -> Vec<i32> {
            (0..self.columns)
                .map(|_| (numbers.next() % span) as i32 - span as i32 / 2)
                .collect()
        };
        let offset = integers(100_000);
        let zero = match self.zeros {
            true if self.seed.is_multiple_of(2) => vec![integers(256)[0]; self.columns],
            true => integers(256),
            false => Vec::new(),
        };
        let scale = (0..self.columns).map(|_| numbers.float() * 1e-3).collect();
        let bias = (0..self.columns).map(|_| numbers.float()).collect();
        let rows = g.rows();
        let residual = numbers.bytes(rows * self.columns, false);
        let mut sums = Vec::new();
        for run in 0..g.runs {
            for row in 0..g.run_len {
                let at = run * g.run_stride + row * g.row_stride;
                let mut bytes = Vec::new();
                for outer in 0..g.segments[0] {
                    for inner in 0..g.segments[1] {
                        let at = at + outer * g.segment_strides[0] + inner * g.segment_strides[1];
                        bytes.extend_from_slice(&left[at..][..g.depth]);
                    }
                }
                let bytes: Vec<i32> = bytes.iter().map(|&b| value(b, self.left_signed)).collect();
                for column in 0..self.columns {
                    let mut sum = offset[column];
                    // Unsigned weights are packed minus 128; the zero points are of what is packed.
                    let zero = zero.get(column).copied().unwrap_or(0);
                    let shift = if self.right_signed { 0 } else { 128 };
                    for (k, a) in bytes.iter().enumerate() {
                        let w = value(weights[k * self.columns + column], self.right_signed);
                        sum += a * (w - shift - zero);
                    }
                    sums.push(sum);
                }
            }
        }
        Made {
            left,
            weights,
            offset,
            zero,
            scale,
            bias,
            residual,
            sums,
        }
    }

    fn check(&self, cpu: Cpu) {
        let g = self.geometry;
        let made = self.make();
        let (segments, depth) = match self.joined {
            true => (1, self.depth()),
            false => (g.segments[0] * g.segments[1], g.depth),
        };
        let weights = Weights {
            data: &made.weights,
            signed: self.right_signed,
            columns: self.columns,
            segments,
            depth: [1, depth],
            strides: [1, depth * self.columns, 0, self.columns],
        };
        let mut packed = vec![0; packed_len(self.columns, segments, depth)];
        let mut column_sums = vec![0; self.columns];
        let right = pack(cpu, &weights, &mut packed, &mut column_sums);
        let product = Product {
            left: Left {
                data: &made.left,
                signed: self.left_signed,
                geometry: g,
            },
            right,
            strides: [g.run_len * self.columns, self.columns],
            epilogue: Epilogue {
                offset: &made.offset,
                zero: &made.zero,
            },
        };
        // Whatever was there before.
        let mut scratch = vec![Line::ZERO; scratch_lines(&right)];
        bytes_mut(&mut scratch).fill(0xa5);
        let len = g.rows() * self.columns;

        let mut sums = vec![0; len];
        product.run(cpu, Output::Sums(&mut sums), &mut scratch);
        assert_eq!(sums, made.sums, "sums, {}", cpu.isa());

        for (bounds, zero) in [([0, 255], 7), ([-128, 127], -3), ([-20, 31], 0)] {
            let residual = Residual {
                data: Some(&made.residual),
                row: false,
                signed: bounds[0] < 0,
                scales: [0.02, 0.03, 0.035],
                zeros: [5, zero],
                bounds,
                steps: None,
            };
            let steps = sum_steps(cpu, zero, bounds, &residual);
            assert!(steps.is_some(), "these sums have steps");
            let in_steps = Residual { steps, ..residual };
            let row = &made.residual[..self.columns];
            let of_row = |residual| Residual {
                data: Some(row),
                row: true,
                ..residual
            };
            let rows = [residual, in_steps].map(of_row);
            let all = [residual, in_steps, rows[0], rows[1]].map(Some);
            for residual in [None].into_iter().chain(all) {
                let to = Requantize {
                    scale: &made.scale,
                    zero,
                    bounds,
                    residual,
                };
                let expected: Vec<u8> = (0..len)
                    .map(|i| {
                        let scaled = made.sums[i] as f32 * made.scale[i % self.columns];
                        let rounded = scaled.round_ties_even() as i64 + i64::from(zero);
                        let q = rounded.clamp(bounds[0].into(), bounds[1].into()) as i32;
                        let Some(r) = residual else { return q as u8 };
                        let at = if r.row { i % self.columns } else { i };
                        let other = value(made.residual[at], r.signed) - r.zeros[0];
                        let sum = (q - zero) as f32 * r.scales[0] + other as f32 * r.scales[1];
                        let y = (sum / r.scales[2]).round_ties_even() as i32 + r.zeros[1];
                        y.clamp(r.bounds[0], r.bounds[1]) as u8
                    })
                    .collect();
                let mut y = vec![0; len];
                product.run(cpu, Output::Bytes(&mut y, to), &mut scratch);
                assert_eq!(y, expected, "bytes, {}, {to:?}", cpu.isa());
                let Some(residual) = residual.filter(|r| !r.row) else {
                    continue;
                };
                // The same with the residual where the result will be.
                let residual = Some(Residual {
                    data: None,
                    ..residual
                });
                y.copy_from_slice(&made.residual);
                let to = Requantize { residual, ..to };
                product.run(cpu, Output::Bytes(&mut y, to), &mut scratch);
                assert_eq!(y, expected, "in place, {}", cpu.isa());
            }
        }

        for (bias, activation) in [
            (&[][..], Activation::Identity),
            (&made.bias, Activation::Clamp(0.0, 6.0)),
            (&made.bias, Activation::Gelu),
        ] {
            let mut expected: Vec<f32> = (0..len)
                .map(|i| {
                    let mut y = made.sums[i] as f32 * made.scale[i % self.columns];
                    if !bias.is_empty() {
                        y += bias[i % self.columns];
                    }
                    y
                })
                .collect();
            unary_in_place(Cpu::PORTABLE, Unary::Activation(activation), &mut expected);
            let mut y = vec![0.0; len];
            let output = Output::Floats {
                y: &mut y,
                scale: &made.scale,
                bias,
                activation,
            };
            product.run(cpu, output, &mut scratch);
            assert_eq!(y, expected, "floats, {}", cpu.isa());
        }
    }
}

fn case() -> impl Strategy<Value = Case> {
    let matrix = (1..70usize, 1..150usize, 0..5usize)
        .prop_map(|(rows, depth, more)| Geometry::matrix(rows, depth, depth + more));
    // A window of `kernel` positions over rows of `channels` bytes.
    let window = (
        1..6usize,
        1..20usize,
        1..4usize,
        1..4usize,
        1..3usize,
        1..90usize,
    );
    let window = (window, any::<bool>()).prop_map(
        |((runs, len, kernel, outer, stride, channels), inner)| {
            let pitch = (len - 1) * stride + kernel;
            Geometry {
                runs,
                run_len: len,
                run_stride: stride * pitch * channels,
                row_stride: stride * channels,
                segments: [outer, if inner { kernel } else { 1 }],
                segment_strides: [pitch * channels, channels],
                depth: if inner { channels } else { kernel * channels },
            }
        },
    );
    let geometry = prop_oneof![matrix, window];
    let flags = any::<[bool; 5]>();
    (geometry, 1..70usize, flags, 0..5000usize, any::<u64>()).prop_map(
        |(geometry, columns, [left_signed, right_signed, zeros, extreme, joined], slack, seed)| {
            Case {
                geometry,
                joined,
                columns,
                left_signed,
                right_signed,
                zeros,
                slack: slack.saturating_sub(2500),
                extreme,
                seed,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_tier_multiplies_alike(case in case()) {
        for cpu in cpus() {
            case.check(cpu);
        }
    }
}

/// Depths and widths that need several passes and panels.
#[test]
fn large_products() {
    let sizes = [
        (49, 4608, 512),
        (100, 1024, 1100),
        (3, 5000, 33),
        (200, 64, 64),
    ];
    for (i, (rows, depth, columns)) in sizes.into_iter().enumerate() {
        let case = Case {
            geometry: Geometry::matrix(rows, depth, depth),
            joined: false,
            columns,
            left_signed: i % 2 == 0,
            right_signed: true,
            zeros: i % 3 == 0,
            slack: 0,
            extreme: false,
            seed: i as u64,
        };
        for cpu in cpus() {
            case.check(cpu);
        }
    }
}

/// Short runs, far apart, whose rows are gathered, also where columns, segments and rows have remainders.
#[test]
fn gathered_rows() {
    for (run_len, runs, columns, zeros) in
        [(7, 7, 200, false), (5, 13, 65, true), (1, 20, 130, false)]
    {
        let case = Case {
            geometry: Geometry {
                runs,
                run_len,
                run_stride: 2 * 17 * 40,
                row_stride: 2 * 40,
                segments: [3, 1],
                segment_strides: [17 * 40, 0],
                depth: 3 * 40,
            },
            joined: zeros,
            columns,
            left_signed: zeros,
            right_signed: true,
            zeros,
            slack: 100,
            extreme: false,
            seed: columns as u64,
        };
        for cpu in cpus() {
            case.check(cpu);
        }
    }
}

/// Every remainder of rows, columns and depth by the sizes of tiles.
#[test]
fn every_remainder() {
    for rows in [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 48, 49] {
        for columns in [1, 3, 8, 15, 16, 17, 31, 32, 33, 63, 65] {
            for depth in [1, 2, 3, 4, 5, 63, 64, 65, 127, 129] {
                let case = Case {
                    geometry: Geometry::matrix(rows, depth, depth),
                    joined: false,
                    columns,
                    left_signed: (rows + columns) % 2 == 0,
                    right_signed: depth % 2 == 0,
                    zeros: columns % 3 == 0,
                    slack: 0,
                    extreme: true,
                    seed: (rows * columns * depth) as u64,
                };
                for cpu in cpus() {
                    case.check(cpu);
                }
            }
        }
    }
}

/// Scales that make numbers of any size, infinities and what is no number: every tier has the same bytes.
#[test]
fn scales_of_any_size() {
    let (rows, depth, columns) = (37, 200, 83);
    let scales = [
        1e-3,
        -1e-3,
        0.999,
        1.0,
        3e4,
        1e30,
        -1e30,
        f32::MAX,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        0.0,
        -0.0,
        1e-40,
    ];
    let mut numbers = Numbers(7);
    let left = numbers.bytes(rows * depth, true);
    let weights = numbers.bytes(depth * columns, true);
    let mut packed = vec![0; packed_len(columns, 1, depth)];
    let weights = Weights::matrix(&weights, true, depth, columns);
    let right = pack(Cpu::PORTABLE, &weights, &mut packed, &mut vec![0; columns]);
    let mut scratch = vec![Line::ZERO; scratch_lines(&right)];
    let offset: Vec<i32> = (0..columns as i32).map(|i| i * 1000 - 40_000).collect();
    let product = Product {
        left: Left {
            data: &left,
            signed: false,
            geometry: Geometry::matrix(rows, depth, depth),
        },
        right,
        strides: [0, columns],
        epilogue: Epilogue {
            offset: &offset,
            zero: &[],
        },
    };
    // Small ones alone as well: they take another way.
    for scales in [&scales[..3], &scales] {
        let scale: Vec<f32> = scales.iter().copied().cycle().take(columns).collect();
        for (bounds, zero) in [
            ([0, 255], 0),
            ([0, 255], 255),
            ([-128, 127], -128),
            ([-128, 127], 127),
            ([3, 200], 3),
            ([-5, 5], 0),
            ([0, 127], -100),
        ] {
            let mut bytes = |cpu| {
                let to = Requantize {
                    scale: &scale,
                    zero,
                    bounds,
                    residual: None,
                };
                let mut y = vec![0; rows * columns];
                product.run(cpu, Output::Bytes(&mut y, to), &mut scratch);
                y
            };
            let expected = bytes(Cpu::PORTABLE);
            for cpu in cpus() {
                assert_eq!(bytes(cpu), expected, "{}, {bounds:?}, {zero}", cpu.isa());
            }
        }
    }
}
