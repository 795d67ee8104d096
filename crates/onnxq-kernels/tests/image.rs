//! Images in another order or with room around, on every tier.

mod common;

use common::Numbers;
use onnxq_kernels::{
    Cpu, Planes, Quantize, gather_rows, pad, resize_nearest, transpose, transpose_matrix,
};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn padding(dims in prop::array::uniform3(0..7usize), pads in prop::array::uniform4(-2..4isize), seed in any::<u64>()) {
        let [height, width, channels] = dims;
        // Below and to the right the image may be cut.
        let [top, left] = [pads[0], pads[1]].map(|p| p.max(0) as usize);
        let [rows, columns] = [top + height, left + width];
        let [rows, columns] = [(rows, pads[2]), (columns, pads[3])].map(|(n, p)| n.saturating_add_signed(p));
        let x = Numbers(seed).bytes(height * width * channels, false);
        let mut expected = vec![7; rows * columns * channels];
        for r in 0..height.min(rows.saturating_sub(top)) {
            for i in 0..width.min(columns.saturating_sub(left)) * channels {
                expected[((r + top) * columns + left) * channels + i] = x[r * width * channels + i];
            }
        }
        let mut y = vec![0; expected.len()];
        let (upper, lower) = y.split_at_mut(rows / 2 * columns * channels);
        pad(&x, dims, [top, left], [rows, columns], 7, 0..rows / 2, upper);
        pad(&x, dims, [top, left], [rows, columns], 7, rows / 2..rows, lower);
        prop_assert_eq!(y, expected);
    }

    #[test]
    fn planes_to_pixels((channels, pixels, more) in (1..40usize, 1..700usize, 0..20usize), small in any::<bool>(), seed in any::<u64>()) {
        let channels = if small { channels.min(4) } else { channels };
        let padded = if small { 4 } else { channels + more };
        let mut numbers = Numbers(seed);
        let x = numbers.bytes(channels * pixels, false);
        let planes = Planes { channels, pixels, padded, fill: 77 };
        let mut expected = vec![77; pixels * padded];
        for c in 0..channels {
            for p in 0..pixels {
                expected[p * padded + c] = x[c * pixels + p];
            }
        }
        let floats: Vec<f32> = x.iter().map(|&x| (f32::from(x) - 100.0) * 0.3).collect();
        let to = Quantize::new(0.3, 100, false);
        let cut = numbers.below(pixels + 1);
        for cpu in Cpu::available() {
            let mut y = vec![0; expected.len()];
            let (first, second) = y.split_at_mut(cut * padded);
            planes.to_channels_last(cpu, &x, 0..cut, first);
            planes.to_channels_last(cpu, &x, cut..pixels, second);
            prop_assert_eq!(&y, &expected, "{}", cpu.isa());
            y.fill(0);
            let (first, second) = y.split_at_mut(cut * padded);
            planes.quantize(cpu, &floats, to, 0..cut, first);
            planes.quantize(cpu, &floats, to, cut..pixels, second);
            prop_assert_eq!(&y, &expected, "{}", cpu.isa());
        }
    }

    #[test]
    fn matrices((rows, columns) in (0..90usize, 0..150usize), seed in any::<u64>()) {
        let mut numbers = Numbers(seed);
        let x = numbers.bytes(rows * columns, false);
        let wide: Vec<f32> = x.iter().map(|&x| f32::from(x)).collect();
        let mut expected = vec![0; x.len()];
        for r in 0..rows {
            for c in 0..columns {
                expected[c * rows + r] = x[r * columns + c];
            }
        }
        let cut = numbers.below(columns + 1);
        for cpu in Cpu::available() {
            let mut y = vec![0; x.len()];
            let (first, second) = y.split_at_mut(cut * rows);
            transpose_matrix(cpu, &x, [rows, columns], 0..cut, first);
            transpose_matrix(cpu, &x, [rows, columns], cut..columns, second);
            prop_assert_eq!(&y, &expected, "{}", cpu.isa());
            let mut y = vec![0.0; x.len()];
            transpose_matrix(cpu, &wide, [rows, columns], 0..columns, &mut y);
            prop_assert!(y.iter().zip(&expected).all(|(&a, &b)| a == f32::from(b)));
        }
    }

    #[test]
    fn tensors(
        (dims, order) in prop::collection::vec(1..7usize, 0..6).prop_flat_map(|dims| {
            let order: Vec<usize> = (0..dims.len()).collect();
            (Just(dims), Just(order).prop_shuffle())
        }),
        seed in any::<u64>(),
    ) {
        let len: usize = dims.iter().product();
        let x = Numbers(seed).bytes(len, false);
        let mut expected = Vec::new();
        for i in 0..len {
            // The index in the result, then where that is in the operand.
            let (mut rest, mut at) = (i, 0);
            for &axis in order.iter().rev() {
                at += rest % dims[axis] * dims[axis + 1..].iter().product::<usize>();
                rest /= dims[axis];
            }
            expected.push(x[at]);
        }
        let wide: Vec<i32> = x.iter().map(|&x| i32::from(x)).collect();
        for cpu in Cpu::available() {
            let mut y = vec![0; len];
            transpose(cpu, &x, &dims, &order, &mut y);
            prop_assert_eq!(&y, &expected, "{}", cpu.isa());
            let mut y = vec![0; len];
            transpose(cpu, &wide, &dims, &order, &mut y);
            prop_assert!(y.iter().zip(&expected).all(|(&a, &b)| a == i32::from(b)));
        }
    }

    #[test]
    fn resizing(dims in prop::array::uniform3(1..7usize), result in prop::array::uniform2(0..12usize), seed in any::<u64>()) {
        let [height, width, channels] = dims;
        let mut numbers = Numbers(seed);
        let x = numbers.bytes(height * width * channels, false);
        let rows: Vec<u32> = (0..result[0]).map(|_| numbers.below(height) as u32).collect();
        let columns: Vec<u32> = (0..result[1]).map(|_| numbers.below(width) as u32).collect();
        let mut expected = Vec::new();
        for &r in &rows {
            for &c in &columns {
                expected.extend_from_slice(&x[(r as usize * width + c as usize) * channels..][..channels]);
            }
        }
        let mut y = vec![0; expected.len()];
        let cut = result[0] / 2;
        let (upper, lower) = y.split_at_mut(cut * columns.len() * channels);
        resize_nearest(&x, dims, &rows, &columns, 0..cut, upper);
        resize_nearest(&x, dims, &rows, &columns, cut..result[0], lower);
        prop_assert_eq!(y, expected);
    }

    #[test]
    fn rows_by_number((rows, width, count) in (1..9usize, 0..9usize, 0..9usize), seed in any::<u64>()) {
        let mut numbers = Numbers(seed);
        let x = numbers.bytes(rows * width, false);
        let wanted: Vec<i64> = (0..count).map(|_| numbers.below(2 * rows) as i64 - rows as i64).collect();
        let mut expected = Vec::new();
        for &i in &wanted {
            expected.extend_from_slice(&x[(i.rem_euclid(rows as i64) as usize) * width..][..width]);
        }
        let mut y = vec![0; expected.len()];
        prop_assert_eq!(gather_rows(&x, width, &wanted, &mut y), Ok(()));
        prop_assert_eq!(&y, &expected);
        if width > 0 {
            for bad in [rows as i64, -1 - rows as i64, i64::MIN, i64::MAX] {
                prop_assert_eq!(gather_rows(&x, width, &[bad], &mut vec![0; width]), Err(bad));
            }
        }
    }
}
