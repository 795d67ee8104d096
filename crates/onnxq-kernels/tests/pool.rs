//! Pooling of every tier against the definitions of the operators.

mod common;

use common::{BOUNDS, Numbers, saturate, value, window};
use onnxq_kernels::{Average, Cpu, Image, Pool, Quantize, Quantized, global_average, global_mean};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn windows(
        dims in (1..10usize, 1..10usize, 1..150usize),
        w in window(),
        result in prop::array::uniform2(1..6usize),
        (signed, to_signed, zero_first, extreme) in any::<(bool, bool, bool, bool)>(),
        padding in prop::option::of(prop::array::uniform2(0..4usize)),
        seed in any::<u64>(),
    ) {
        let (height, width, channels) = dims;
        let mut numbers = Numbers(seed);
        let data = numbers.bytes(height * width * channels, extreme);
        let byte = |zero: u8, signed| value(zero, signed);
        let from = Quantized { scale: 0.03, zero: byte(numbers.next() as u8, signed), signed };
        let to = Quantize::new(0.02, byte(numbers.next() as u8, to_signed), to_signed);
        let by = Average { from, to, padding, zero_first };
        let image = Image { data: &data, signed, dims: [height, width, channels] };
        let pool = Pool { image, window: w, result };

        let (mut most, mut means) = (Vec::new(), Vec::new());
        for r in 0..result[0] {
            for s in 0..result[1] {
                for c in 0..channels {
                    let (mut max, mut sum, mut count) = (BOUNDS[usize::from(signed)][0], 0f32, 0);
                    for i in 0..w.kernel[0] {
                        for j in 0..w.kernel[1] {
                            let row = (r * w.strides[0] + i * w.dilations[0]) as i64 - w.pads[0] as i64;
                            let column = (s * w.strides[1] + j * w.dilations[1]) as i64 - w.pads[1] as i64;
                            let inside = (0..height as i64).contains(&row) && (0..width as i64).contains(&column);
                            let counted = padding.map_or(inside, |[bottom, right]| {
                                row < (height + bottom) as i64 && column < (width + right) as i64
                            });
                            count += usize::from(counted);
                            if inside {
                                let x = data[(row as usize * width + column as usize) * channels + c];
                                max = max.max(value(x, signed));
                                sum += (value(x, signed) - from.zero) as f32 * from.scale;
                            }
                        }
                    }
                    most.push(max as u8);
                    let mean = sum / count as f32 / to.scale;
                    means.push(match zero_first {
                        true => {
                            let x = mean + to.zero as f32;
                            saturate(if x.is_nan() { 0.0 } else { x }, 0, to.bounds)
                        }
                        false => saturate(if mean.is_nan() { 0.0 } else { mean }, to.zero, to.bounds),
                    });
                }
            }
        }
        let (rows, row) = (result[0], result[1] * channels);
        for cpu in Cpu::available() {
            let mut y = vec![9; most.len()];
            let (upper, lower) = y.split_at_mut(rows / 2 * row);
            pool.max(cpu, 0..rows / 2, upper);
            pool.max(cpu, rows / 2..rows, lower);
            prop_assert_eq!(&y, &most, "{}", cpu.isa());
            let (upper, lower) = y.split_at_mut(rows / 2 * row);
            pool.average(cpu, &by, 0..rows / 2, upper);
            pool.average(cpu, &by, rows / 2..rows, lower);
            prop_assert_eq!(&y, &means, "{}", cpu.isa());
        }
    }

    #[test]
    fn whole_images(
        (pixels, channels) in (1..600usize, prop_oneof![1..200usize, 500..1100usize]),
        (signed, to_signed, extreme) in any::<(bool, bool, bool)>(),
        seed in any::<u64>(),
    ) {
        let mut numbers = Numbers(seed);
        let x = numbers.bytes(pixels * channels, extreme);
        let from = Quantized { scale: 0.03, zero: value(numbers.next() as u8, signed), signed };
        let to = Quantize::new(0.007, value(numbers.next() as u8, to_signed), to_signed);
        let factor = from.scale / (to.scale * pixels as f32);
        let expected: Vec<u8> = (0..channels)
            .map(|c| {
                let column = x.iter().skip(c).step_by(channels);
                let sum: i64 = column.map(|&x| i64::from(value(x, signed) - from.zero)).sum();
                saturate(sum as f32 * factor, to.zero, to.bounds)
            })
            .collect();
        let means: Vec<u8> = (0..channels)
            .map(|c| {
                let column = x.iter().skip(c).step_by(channels);
                let real = |x| (value(x, signed) - from.zero) as f32 * from.scale;
                let sum: f64 = column.map(|&x| f64::from(real(x))).sum();
                saturate((sum / pixels as f64) as f32 / to.scale, to.zero, to.bounds)
            })
            .collect();
        for cpu in Cpu::available() {
            let mut y = vec![0; channels];
            global_average(cpu, &x, from, to, &mut y);
            prop_assert_eq!(&y, &expected, "{}", cpu.isa());
            global_mean(cpu, &x, from, to, &mut y);
            prop_assert_eq!(&y, &means, "{}", cpu.isa());
        }
    }
}
