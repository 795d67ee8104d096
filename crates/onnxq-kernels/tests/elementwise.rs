//! Functions of single elements on every tier against the formulas of the operators, one by one.

mod common;

use common::{BOUNDS, Numbers, saturate, value};
use onnxq_kernels::{
    AxisScales, ByteSoftmax, Combine, Cpu, Quantize, Quantized, dequantize_integers, lookup,
    lookup_floats, lookup_in_place, range, requantize_table, row_sums,
};
use proptest::prelude::*;

/// NaN is the zero point, where `saturate` has the lower bound.
fn quantized(x: f32, to: &Quantize) -> u8 {
    saturate(if x.is_nan() { 0.0 } else { x }, to.zero, to.bounds)
}

fn real(byte: u8, from: &Quantized) -> f32 {
    (value(byte, from.signed) - from.zero) as f32 * from.scale
}

/// Floats of all sizes, and many near the middle between two integers once they are divided.
fn floats(numbers: &mut Numbers, len: usize, scale: f32) -> Vec<f32> {
    let odd = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        0.0,
        -0.0,
        f32::MAX,
        f32::MIN_POSITIVE / 3.0,
    ];
    (0..len)
        .map(|_| match numbers.below(40) {
            0 => odd[numbers.below(odd.len())],
            1..10 => {
                let half = (numbers.below(600) as f32 - 300.5) * scale;
                f32::from_bits(
                    half.to_bits()
                        .wrapping_add(numbers.below(5) as u32)
                        .wrapping_sub(2),
                )
            }
            _ => numbers.float() * 200.0 * scale,
        })
        .collect()
}

fn scale() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => 0.001f32..3.0,
        2 => Just(0.0078125),
        1 => prop_oneof![Just(1e-40f32), Just(3e38), Just(1e-36), Just(0.0), Just(f32::INFINITY), Just(f32::NAN)],
    ]
}

fn parameters() -> impl Strategy<Value = Quantized> {
    (scale(), any::<bool>(), any::<u8>()).prop_map(|(scale, signed, zero)| Quantized {
        scale,
        zero: value(zero, signed),
        signed,
    })
}

fn target(to: Quantized, tight: bool) -> Quantize {
    let mut to = Quantize::new(to.scale, to.zero, to.signed);
    if tight {
        to.bounds = [to.bounds[0] + 9, to.bounds[1] - 30];
    }
    to
}

fn same(a: &[f32], b: &[f32]) {
    let bits = |x: &[f32]| {
        x.iter()
            .map(|x| (x.to_bits(), x.is_nan()))
            .collect::<Vec<_>>()
    };
    for (i, (a, b)) in bits(a).into_iter().zip(bits(b)).enumerate() {
        assert!(a.0 == b.0 || (a.1 && b.1), "element {i}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn quantize(len in 0..400usize, to in parameters(), tight in any::<bool>(), seed in any::<u64>()) {
        let to = target(to, tight);
        let x = floats(&mut Numbers(seed), len, to.scale);
        let expected: Vec<u8> = x.iter().map(|x| quantized(x / to.scale, &to)).collect();
        for cpu in Cpu::available() {
            let mut y = vec![0; len];
            to.run(cpu, &x, &mut y);
            prop_assert_eq!(&y, &expected, "{} {:?}", cpu.isa(), x);
        }
    }

    #[test]
    fn dequantize(len in 0..300usize, from in parameters(), zero in any::<i32>(), seed in any::<u64>()) {
        let mut numbers = Numbers(seed);
        let x = numbers.bytes(len, false);
        let expected: Vec<f32> = x.iter().map(|&x| real(x, &from)).collect();
        let integers: Vec<i32> = (0..len).map(|_| numbers.next() as i32).collect();
        for cpu in Cpu::available() {
            let mut y = vec![0.0; len];
            from.dequantize(cpu, &x, &mut y);
            same(&y, &expected);
            for zero in [0, zero] {
                let expected: Vec<f32> = integers
                    .iter()
                    .map(|&x| (i64::from(x) - i64::from(zero)) as f32 * from.scale)
                    .collect();
                dequantize_integers(cpu, &integers, from.scale, zero, &mut y);
                same(&y, &expected);
            }
        }
    }

    #[test]
    fn along_an_axis(
        (outer, count, inner) in (1..5usize, 1..70usize, 1..40usize),
        (signed, columns, zeros) in any::<(bool, bool, bool)>(),
        seed in any::<u64>(),
    ) {
        let mut numbers = Numbers(seed);
        let inner = if columns { 1 } else { inner };
        let len = outer * count * inner;
        let scales: Vec<f32> = (0..count).map(|_| numbers.float().abs() + 0.01).collect();
        let zeros: Vec<i32> = numbers
            .bytes(if zeros { count } else { 0 }, false)
            .into_iter()
            .map(|z| value(z, signed))
            .collect();
        let of = |i: usize| {
            let at = i / inner % count;
            Quantized { scale: scales[at], zero: zeros.get(at).copied().unwrap_or(0), signed }
        };
        let bytes = numbers.bytes(len, false);
        let reals: Vec<f32> = floats(&mut numbers, len, 1.0);
        let to_reals: Vec<f32> = (0..len).map(|i| real(bytes[i], &of(i))).collect();
        let to_bytes: Vec<u8> = (0..len)
            .map(|i| quantized(reals[i] / of(i).scale, &target(of(i), false)))
            .collect();
        let by = AxisScales { scales: &scales, zeros: &zeros, inner };
        for cpu in Cpu::available() {
            let (mut y, mut z) = (vec![0.0; len], vec![0; len]);
            by.dequantize(cpu, &bytes, signed, &mut y);
            same(&y, &to_reals);
            by.quantize(cpu, &reals, signed, &mut z);
            prop_assert_eq!(&z, &to_bytes, "{}", cpu.isa());
        }
    }

    #[test]
    fn combine(
        (rows, row) in (1..6usize, 1..200usize),
        (a, b, to) in (parameters(), parameters(), parameters()),
        tight in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut numbers = Numbers(seed);
        let to = target(to, tight);
        let (x, z) = (numbers.bytes(rows * row, false), numbers.bytes(row, false));
        for op in [Combine::Add, Combine::Multiply] {
            let expected: Vec<u8> = (0..x.len())
                .map(|i| {
                    let (p, q) = (x[i], z[i % row]);
                    match op {
                        Combine::Add => quantized((real(p, &a) + real(q, &b)) / to.scale, &to),
                        Combine::Multiply => {
                            let centered = |q, p: &Quantized| (value(q, p.signed) - p.zero) as f32;
                            let factor = a.scale * b.scale / to.scale;
                            quantized(centered(p, &a) * centered(q, &b) * factor, &to)
                        }
                    }
                })
                .collect();
            for cpu in Cpu::available() {
                let mut y = vec![0; x.len()];
                op.run(cpu, (&x, a), (&z, b), to, &mut y);
                prop_assert_eq!(&y, &expected, "{} {:?}", cpu.isa(), op);
            }
        }
    }

    #[test]
    fn ranges_and_sums(len in 0..500usize, depth in 1..200usize, signed in any::<bool>(), seed in any::<u64>()) {
        let mut numbers = Numbers(seed);
        let x = floats(&mut numbers, len, 1.0);
        let low = x.iter().copied().fold(f32::INFINITY, f32::min);
        let high = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let bytes = numbers.bytes(depth * 3, true);
        let expected: Vec<i32> = bytes
            .chunks_exact(depth)
            .map(|row| row.iter().map(|&b| value(b, signed)).sum())
            .collect();
        for cpu in Cpu::available() {
            prop_assert_eq!(range(cpu, &x), [low, high]);
            let mut y = vec![0; 3];
            row_sums(cpu, &bytes, signed, depth, &mut y);
            prop_assert_eq!(&y, &expected);
        }
    }

    #[test]
    fn tables(len in 0..3000usize, from in parameters(), to in parameters(), seed in any::<u64>()) {
        let mut numbers = Numbers(seed);
        let (x, to) = (numbers.bytes(len, false), target(to, false));
        let moved = requantize_table(from, to);
        for byte in 0..=255u8 {
            prop_assert_eq!(moved[usize::from(byte)], quantized(real(byte, &from) / to.scale, &to));
        }
        let table: [u8; 256] = numbers.bytes(256, false).try_into().expect("256");
        let reals = table.map(|b| f32::from(b) * 0.3);
        for cpu in Cpu::available() {
            let expected: Vec<u8> = x.iter().map(|&x| table[usize::from(x)]).collect();
            let mut y = vec![0; len];
            lookup(cpu, &x, &table, &mut y);
            prop_assert_eq!(&y, &expected);
            y.copy_from_slice(&x);
            lookup_in_place(cpu, &mut y, &table);
            prop_assert_eq!(&y, &expected);
            let mut y = vec![0.0; len];
            lookup_floats(cpu, &x, &reals, &mut y);
            let expected: Vec<f32> = x.iter().map(|&x| reals[usize::from(x)]).collect();
            prop_assert_eq!(&y, &expected);
        }
    }

    #[test]
    fn softmax((rows, width) in (1..5usize, 1..300usize), scale in 0.001f32..0.5, signed in any::<bool>(), seed in any::<u64>()) {
        let x = Numbers(seed).bytes(rows * width, false);
        let room = (f64::from(f32::MAX / width as f32).ln() - 5.0).max(0.0);
        let table: [f32; 256] =
            std::array::from_fn(|i| ((i as f64 - 255.0) * f64::from(scale) + room).exp() as f32);
        let zero = if signed { -128 } else { 0 };
        let bounds = BOUNDS[usize::from(signed)];
        let expected: Vec<u8> = x
            .chunks_exact(width)
            .flat_map(|row| {
                let most = row.iter().map(|&x| value(x, signed)).max().expect("not empty");
                let exp = move |x: u8| table[(255 - (most - value(x, signed))) as usize];
                let sum = row.iter().fold(0f32, |sum, &x| sum + exp(x));
                row.iter().map(move |&x| saturate(exp(x) * 256.0 / sum, zero, bounds))
            })
            .collect();
        let by = ByteSoftmax { table: &table, factor: 256.0, zero, signed };
        for cpu in Cpu::available() {
            let mut y = vec![0; x.len()];
            by.run(cpu, &x, width, &mut y);
            prop_assert_eq!(&y, &expected, "{}", cpu.isa());
        }
    }
}

/// Every pair of bytes: also those whose sum is as close to the middle between two as there is.
#[test]
fn sums_of_all_pairs() {
    let mut numbers = Numbers(11);
    let x: Vec<u8> = (0..1 << 16).map(|i| (i >> 8) as u8).collect();
    let z: Vec<u8> = (0..1 << 16).map(|i| i as u8).collect();
    for case in 0..60 {
        let mut of = |scale: f32| {
            let bits = numbers.bytes(4, false);
            let signed = bits[0].is_multiple_of(2);
            let zero = value(bits[1], signed);
            // Among them those that make sums in the very middle.
            let scale = match case % 3 {
                0 => scale * f32::from(bits[2] % 32 + 1) / 32.0,
                _ => scale * (0.5 + f32::from_bits(0x3f80_0000 | u32::from(bits[3]) << 13) / 2.0),
            };
            Quantized {
                scale,
                zero,
                signed,
            }
        };
        let (a, b, to) = (of(0.02), of(0.03), target(of(0.03), false));
        let expected: Vec<u8> = (x.iter().zip(&z))
            .map(|(&p, &q)| quantized((real(p, &a) + real(q, &b)) / to.scale, &to))
            .collect();
        for cpu in Cpu::available() {
            let mut y = vec![0; x.len()];
            Combine::Add.run(cpu, (&x, a), (&z, b), to, &mut y);
            assert!(y == expected, "{} {a:?} {b:?} {to:?}", cpu.isa());
        }
    }
}

/// Scales by which numbers leave the range of floats, or come close to 0, before they are divided.
#[test]
fn sums_of_extreme_scales() {
    let x: Vec<u8> = (0..=255).collect();
    let other: Vec<u8> = x.iter().rev().copied().collect();
    let of = |scale, zero| Quantized {
        scale,
        zero,
        signed: false,
    };
    for (a, b, to) in [
        (0.001, 3e38, 3e38),
        (3e38, 3e38, 2e38),
        (1e-42, 3e-42, 2e-42),
        (1e-3, 1e-45, 1e-3),
    ] {
        let (a, b, to) = (of(a, 3), of(b, 11), Quantize::new(to, 7, false));
        let mut results = Cpu::available().map(|cpu| {
            let mut y = vec![0; x.len()];
            Combine::Add.run(cpu, (&x, a), (&other, b), to, &mut y);
            y
        });
        let portable = results.next();
        assert!(
            results.all(|y| Some(y) == portable),
            "{a:?} + {b:?} = {to:?}"
        );
    }
}
