//! Depthwise convolutions of every tier against sums written down plainly.

mod common;

use common::{BOUNDS, Numbers, saturate, value, window};
use onnxq_kernels::{
    Cpu, Depthwise, Dequantize, Image, Line, Requantize, Residual, UNBOUNDED, Window,
    depthwise_packed_len, depthwise_scratch_lines, pack_depthwise,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Case {
    dims: [usize; 3],
    result: [usize; 2],
    window: Window,
    signed: bool,
    weights_signed: bool,
    /// How many zero points the weights have: 0, 1, or one for each channel.
    zeros: usize,
    extreme: bool,
    seed: u64,
}

impl Case {
    fn check(&self) {
        let ([height, width, channels], w) = (self.dims, self.window);
        let mut numbers = Numbers(self.seed);
        let taps = w.kernel[0] * w.kernel[1];
        let data = numbers.bytes(height * width * channels, self.extreme);
        let weights = numbers.bytes(channels * taps, self.extreme);
        let count = [0, 1, channels][self.zeros];
        let zeros = numbers.bytes(count, self.extreme);
        let zeros: Vec<i32> = zeros
            .iter()
            .map(|&z| value(z, self.weights_signed))
            .collect();
        let offset = numbers.integers(channels, 100_000);
        let mut scale: Vec<f32> = (0..channels).map(|_| numbers.float() * 0.01).collect();
        if self.extreme {
            let odd = [f32::NAN, f32::INFINITY, 1e9, -1e9, 1e-30];
            scale[numbers.below(channels)] = odd[numbers.below(5)];
        }
        let [rows, columns] = self.result;
        let residual_data = numbers.bytes(rows * columns * channels, false);
        let pad = numbers.next() as u8;

        let weight = |c: usize, t: usize| {
            let zero = zeros.get(if self.zeros == 1 { 0 } else { c });
            value(weights[c * taps + t], self.weights_signed) - zero.copied().unwrap_or(0)
        };
        let mut expected_sums = Vec::new();
        for r in 0..rows {
            for s in 0..columns {
                for c in 0..channels {
                    let mut sum = offset[c];
                    for i in 0..w.kernel[0] {
                        for j in 0..w.kernel[1] {
                            let row =
                                (r * w.strides[0] + i * w.dilations[0]).wrapping_sub(w.pads[0]);
                            let column =
                                (s * w.strides[1] + j * w.dilations[1]).wrapping_sub(w.pads[1]);
                            let x = match row < height && column < width {
                                true => data[(row * width + column) * channels + c],
                                false => pad,
                            };
                            sum += value(x, self.signed) * weight(c, i * w.kernel[1] + j);
                        }
                    }
                    expected_sums.push(sum);
                }
            }
        }

        let mut packed = vec![0; depthwise_packed_len(&w, channels)];
        let mut sums = vec![0; channels];
        let packed = pack_depthwise(
            &weights,
            self.weights_signed,
            &zeros,
            &w,
            &mut packed,
            &mut sums,
        );
        for (c, &sum) in sums.iter().enumerate() {
            assert_eq!(sum, (0..taps).map(|t| weight(c, t)).sum::<i32>());
        }
        let depthwise = Depthwise {
            image: Image {
                data: &data,
                signed: self.signed,
                dims: self.dims,
            },
            pad,
            window: w,
            weights: packed,
            offset: &offset,
            result: self.result,
        };
        let mut scratch = vec![Line([0xaa; 64]); depthwise_scratch_lines(&w)];
        let bias = numbers.bytes(channels, false);
        let bias: Vec<f32> = bias.iter().map(|&b| f32::from(b) - 128.0).collect();
        for (bias, bounds) in [
            (&bias[..], UNBOUNDED),
            (&[][..], [0.0, 6.0]),
            (&bias[..], [-3.0, f32::INFINITY]),
        ] {
            let to = Dequantize {
                scale: &scale,
                bias,
                bounds,
            };
            let expected = expected_sums.iter().enumerate().map(|(i, &sum)| {
                let c = i % channels;
                let value = sum as f32 * scale[c] + bias.get(c).copied().unwrap_or(0.0);
                match value.is_nan() {
                    true => value,
                    false => value.max(bounds[0]).min(bounds[1]),
                }
            });
            let expected: Vec<f32> = expected.collect();
            for cpu in Cpu::available() {
                let mut y = vec![0.0; expected.len()];
                let (upper, lower) = y.split_at_mut(rows / 3 * columns * channels);
                depthwise.run_floats(cpu, 0..rows / 3, upper, &to, &mut scratch);
                depthwise.run_floats(cpu, rows / 3..rows, lower, &to, &mut scratch);
                let same = |(y, e): (&f32, &f32)| y == e || y.is_nan() && e.is_nan();
                assert!(
                    y.iter().zip(&expected).all(same),
                    "{}, {self:?}: {y:?}, {expected:?}",
                    cpu.isa()
                );
            }
        }
        let tight = [BOUNDS[0], BOUNDS[1], [3, 100], [-50, 20]];
        for bounds in tight {
            let zero = if bounds[0] < 0 { -7 } else { 131 };
            for with_residual in [false, true] {
                let q = |i: usize| {
                    saturate(expected_sums[i] as f32 * scale[i % channels], zero, bounds)
                };
                let (scales, zeros, sum_bounds) = ([0.03, 0.02, 0.025], [5, 9], [0, 255]);
                let expected: Vec<u8> = (0..expected_sums.len())
                    .map(|i| match with_residual {
                        false => q(i),
                        true => {
                            let q = value(q(i), bounds[0] < 0) - zero;
                            let other = value(residual_data[i], true) - zeros[0];
                            let sum = q as f32 * scales[0] + other as f32 * scales[1];
                            saturate(sum / scales[2], zeros[1], sum_bounds)
                        }
                    })
                    .collect();
                for cpu in Cpu::available() {
                    let mut y = vec![0; expected.len()];
                    let (upper, lower) = y.split_at_mut(rows / 3 * columns * channels);
                    for (rows, y) in [(0..rows / 3, upper), (rows / 3..rows, lower)] {
                        let residual = with_residual.then(|| Residual {
                            data: Some(
                                &residual_data[rows.start * columns * channels..][..y.len()],
                            ),
                            row: false,
                            signed: true,
                            scales,
                            zeros,
                            bounds: sum_bounds,
                            steps: None,
                        });
                        let to = Requantize {
                            scale: &scale,
                            zero,
                            bounds,
                            residual,
                        };
                        depthwise.run(cpu, rows, y, &to, &mut scratch);
                    }
                    assert_eq!(y, expected, "{}, {self:?}", cpu.isa());
                }
            }
        }
    }
}

fn case() -> impl Strategy<Value = Case> {
    let flags = (any::<bool>(), any::<bool>(), 0..3usize, any::<bool>());
    let channels = prop_oneof![
        1..200usize,
        Just(16),
        Just(32),
        Just(64),
        Just(96),
        Just(144)
    ];
    let dims = (1..12usize, 1..20usize, channels);
    (dims, window(), flags, 0..2usize, any::<u64>()).prop_map(
        |((height, width, channels), window, flags, more, seed)| {
            let (signed, weights_signed, zeros, extreme) = flags;
            let size = |axis: usize, size: usize| {
                let reach = (window.kernel[axis] - 1) * window.dilations[axis] + 1;
                let room = (size + 2 * window.pads[axis]).saturating_sub(reach);
                room / window.strides[axis] + 1 + more
            };
            Case {
                dims: [height, width, channels],
                result: [size(0, height), size(1, width)],
                window,
                signed,
                weights_signed,
                zeros,
                extreme,
                seed,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_tier_convolves_alike(case in case()) {
        case.check();
    }
}

/// Rows so long that they are cut.
#[test]
fn long_rows() {
    for (channels, stride, kernel) in [(16, 1, 3), (32, 2, 5), (80, 1, 7), (33, 3, 3)] {
        Case {
            dims: [3, 500, channels],
            result: [3usize.div_ceil(stride), 500usize.div_ceil(stride)],
            window: Window {
                kernel: [kernel; 2],
                strides: [stride; 2],
                dilations: [1; 2],
                pads: [kernel / 2; 2],
            },
            signed: channels == 32,
            weights_signed: true,
            zeros: 0,
            extreme: false,
            seed: 1,
        }
        .check();
    }
}
