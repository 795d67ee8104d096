//! What the tests of kernels on bytes share.
#![allow(dead_code, reason = "each test file uses a part")]

use onnxq_kernels::{Cpu, Isa, Tiles, Window};
use proptest::prelude::*;

/// Every tier of this processor, that of AMX with few tile registers and with most.
pub(crate) fn cpus() -> impl Iterator<Item = Cpu> {
    Cpu::available().flat_map(|cpu| {
        let tiles: &[Tiles] = match cpu.isa() {
            Isa::Amx => &[Tiles::Few, Tiles::Most],
            _ => &[Tiles::Measured],
        };
        tiles.iter().map(move |&tiles| cpu.with_tiles(tiles))
    })
}

/// A generator of numbers, for contents that need no shrinking.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Any bytes, or extreme ones only.
    pub(crate) fn bytes(&mut self, len: usize, extreme: bool) -> Vec<u8> {
        let pick = |n: u64| match extreme {
            true => [0, 127, 128, 255][n as usize % 4],
            false => n as u8,
        };
        (0..len).map(|_| pick(self.next())).collect()
    }

    pub(crate) fn integers(&mut self, len: usize, span: i32) -> Vec<i32> {
        (0..len)
            .map(|_| (self.next() % span as u64) as i32 - span / 2)
            .collect()
    }

    /// From -1 to 1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() % 20001) as f32 / 10000.0 - 1.0
    }
}

pub(crate) fn value(byte: u8, signed: bool) -> i32 {
    match signed {
        true => i32::from(byte as i8),
        false => i32::from(byte),
    }
}

/// `sat(rne(x) + zero)`, NaN as the lower bound.
pub(crate) fn saturate(x: f32, zero: i32, [low, high]: [i32; 2]) -> u8 {
    if x.is_nan() {
        return low as u8;
    }
    let y = f64::from(x).round_ties_even() + f64::from(zero);
    y.clamp(f64::from(low), f64::from(high)) as i32 as u8
}

pub(crate) const BOUNDS: [[i32; 2]; 2] = [[0, 255], [-128, 127]];

/// Windows as models have them, and others.
pub(crate) fn window() -> impl Strategy<Value = Window> {
    let pair = |range: std::ops::Range<usize>| [range.clone(), range];
    let varied = (pair(1..8), pair(1..6), pair(1..4), pair(0..5));
    let varied = varied.prop_map(|(kernel, strides, dilations, pads)| Window {
        kernel,
        strides,
        dilations,
        pads,
    });
    let usual = (1..8usize, 1..3usize, any::<bool>()).prop_map(|(kernel, stride, pad)| Window {
        kernel: [kernel; 2],
        strides: [stride; 2],
        dilations: [1; 2],
        pads: [if pad { kernel / 2 } else { 0 }; 2],
    });
    prop_oneof![varied, usual]
}
