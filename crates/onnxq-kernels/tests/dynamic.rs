//! DynamicQuantizeLinear against its definition, bit for bit.

use onnxq_kernels::{Cpu, dynamic_quantize};
use proptest::prelude::*;

fn saturate(x: f32, zero: f32) -> u8 {
    let rounded = if x.is_nan() {
        0.0
    } else {
        f64::from(x).round_ties_even()
    };
    (rounded + f64::from(zero)).clamp(0.0, 255.0) as u8
}

fn exact(x: &[f32]) -> (f32, u8, Vec<u8>) {
    let low = x.iter().fold(0f32, |low, &x| low.min(x));
    let high = x.iter().fold(0f32, |high, &x| high.max(x));
    let (scale, zero) = match low == high {
        true => (1.0, 0),
        false => {
            let scale = (high - low) / 255.0;
            (scale, saturate(0.0 - low / scale, 0.0))
        }
    };
    let y = x.iter().map(|x| saturate(x / scale, zero.into())).collect();
    (scale, zero, y)
}

fn check(x: &[f32]) {
    let (scale, zero, y) = exact(x);
    for cpu in Cpu::available() {
        let mut bytes = vec![7; x.len()];
        let found = dynamic_quantize(cpu, x, &mut bytes);
        assert_eq!(found.scale.to_bits(), scale.to_bits(), "{}", cpu.isa());
        assert_eq!(found.zero, i32::from(zero), "{}", cpu.isa());
        assert_eq!(bytes, y, "{}", cpu.isa());
    }
}

proptest! {
    #[test]
    fn as_defined(x in prop::collection::vec(-3f32..5.0, 0..300), scale in -40i32..38, shift in -6f32..6.0) {
        let scale = 10f32.powi(scale);
        let x: Vec<f32> = x.iter().map(|x| (x + shift) * scale).collect();
        check(&x);
    }

    /// Elements at and near the middle of two integers.
    #[test]
    fn at_middles(x in prop::collection::vec((0..511u32, -2i32..3), 0..300), scale in 0.01f32..2.0) {
        let mut x: Vec<f32> = x
            .iter()
            .map(|&(half, ulps)| {
                let middle = half as f32 / 2.0 * scale;
                f32::from_bits(middle.to_bits().saturating_add_signed(ulps))
            })
            .collect();
        x.push(255.0 * scale);
        check(&x);
    }
}

#[test]
fn odd_data() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let all: [&[f32]; 8] = [
        &[],
        &[0.0, -0.0],
        &[nan, 1.0, -1.0],
        &[nan],
        &[inf, 1.0],
        &[-inf, inf],
        &[f32::MAX, f32::MIN],
        &[1e-45, 1e-44],
    ];
    for x in all {
        check(x);
        check(&x.repeat(100));
    }
}
