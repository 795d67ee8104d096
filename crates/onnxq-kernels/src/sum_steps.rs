//! Looks for [`SumSteps`]: factors with which a quantized sum needs no division, and still is what its
//! definition says.
//!
//! There are 65,536 pairs of bytes, so that all of them can be tried. Quotients of the scales as they are do
//! for three of four sums; where they do not, the few pairs close to the middle between two results mostly agree a few units
//! in the last place away. Where nothing nearby does, the sum is computed as it is defined.

use crate::{Cpu, Residual, SumSteps, epilogue::round, residual, tiers::tiers};

/// How many units in the last place are tried each way.
const REACH: i32 = 5;

/// The least change of [`SumSteps::start`], and what it is a multiple of.
const UNIT: f64 = 1.0 / (1 << 18) as f64;

/// The spacing of numbers of this size is [`UNIT`].
const COARSE: f64 = 1.5 * (1u64 << 52) as f64 * UNIT;

/// Factors outside of these bounds are not tried. Within them products and sums of `f64` are exact, and
/// rounded once they are what a fused multiply-add gives.
const FACTORS: core::ops::Range<f32> = 1.0 / 65_536.0..256.0;

/// The steps of the sum of `residual` and a product with this zero point and these bounds, if there are any.
pub fn sum_steps(
    cpu: Cpu,
    zero: i32,
    bounds: [i32; 2],
    residual: &Residual<'_>,
) -> Option<SumSteps> {
    let [low, high] = bounds;
    let fits = low <= high && high - low <= 255 && (-128..=255).contains(&zero);
    let [scale, other_scale, sum_scale] = residual.scales;
    let (factor, other_factor) = (scale / sum_scale, other_scale / sum_scale);
    if !fits || !FACTORS.contains(&factor) || !FACTORS.contains(&other_factor) {
        return None;
    }
    let start = -f64::from(residual.zeros[0]) * f64::from(other_factor);
    // A multiple of `UNIT`, by an addition where the spacing of numbers is as much.
    let start = (start + COARSE) - COARSE;
    let mut table = Table::new(cpu, zero, bounds, residual);
    let reach = || -REACH..=REACH;
    let near = reach().flat_map(|i| reach().flat_map(move |j| reach().map(move |k| [i, j, k])));
    let farthest = |at: [i32; 3]| at.map(i32::abs).into_iter().max();
    (0..=REACH)
        .flat_map(|radius| near.clone().filter(move |&at| farthest(at) == Some(radius)))
        .map(|[i, j, k]| SumSteps {
            factor: f32::from_bits(factor.to_bits().wrapping_add_signed(i)),
            other_factor: f32::from_bits(other_factor.to_bits().wrapping_add_signed(j)),
            start: (start + f64::from(k) * UNIT) as f32,
        })
        .find(|&steps| table.agrees(steps))
}

/// The definition for all pairs.
struct Table {
    cpu: Cpu,
    /// What each byte of the other tensor stands for.
    others: [i32; 256],
    /// Products less their zero point.
    products: core::ops::RangeInclusive<i32>,
    sum_zero: i32,
    sum_bounds: [i32; 2],
    /// By product, then by the byte of the other.
    sums: [[i32; 256]; 256],
    /// Pairs with which candidates have failed: they are tried first.
    known: [Option<(i32, usize)>; 32],
    next: usize,
}

impl Table {
    fn new(cpu: Cpu, zero: i32, bounds: [i32; 2], residual: &Residual<'_>) -> Table {
        let number = |byte: u8, signed| {
            if signed {
                i32::from(byte as i8)
            } else {
                byte.into()
            }
        };
        let bytes: [u8; 256] = core::array::from_fn(|i| i as u8);
        let mut sums = [[0; 256]; 256];
        for (q, sums) in (bounds[0]..=bounds[1]).zip(&mut sums) {
            let mut row = [q as u8; 256];
            residual::add(cpu, &mut row, &bytes, zero, bounds[0] < 0, residual);
            *sums = row.map(|sum| number(sum, residual.bounds[0] < 0));
        }
        Table {
            cpu,
            others: bytes.map(|byte| number(byte, residual.signed)),
            products: bounds[0] - zero..=bounds[1] - zero,
            sum_zero: residual.zeros[1],
            sum_bounds: residual.bounds,
            sums,
            known: [None; 32],
            next: 0,
        }
    }

    fn agrees(&mut self, steps: SumSteps) -> bool {
        let others = self.others.map(|other| {
            (f64::from(other) * f64::from(steps.other_factor) + f64::from(steps.start)) as f32
        });
        let first = *self.products.start();
        let row = |q: i32| Row {
            product: f64::from(q) * f64::from(steps.factor),
            zero: self.sum_zero,
            bounds: self.sum_bounds,
            sums: &self.sums[(q - first) as usize],
        };
        let known = self.known.iter().flatten();
        if known.clone().any(|&(q, r)| !row(q).is(r, &others)) {
            return false;
        }
        let wrong = self
            .products
            .clone()
            .find(|&q| !all_agree(self.cpu, row(q), &others));
        if let Some(q) = wrong {
            let r = (0..256).find(|&r| !row(q).is(r, &others)).unwrap_or(0);
            self.known[self.next % self.known.len()] = Some((q, r));
            self.next += 1;
        }
        wrong.is_none()
    }
}

/// The sums of one product with all others.
#[derive(Clone, Copy)]
struct Row<'a> {
    /// In steps of the sum.
    product: f64,
    zero: i32,
    bounds: [i32; 2],
    /// What they are by the definition.
    sums: &'a [i32; 256],
}

impl Row<'_> {
    /// Whether the sum with `others[r]` is what it should be.
    #[inline(always)]
    fn is(self, r: usize, others: &[f32; 256]) -> bool {
        let sum = (self.product + f64::from(others[r])) as f32;
        let [low, high] = self.bounds;
        (round(sum) + self.zero).clamp(low, high) == self.sums[r]
    }
}

tiers! {
    fn all_agree(row: Row<'_>, others: &[f32; 256]) -> bool {
        let mut agree = true;
        for r in 0..256 {
            agree &= row.is(r, others);
        }
        agree
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn residual(scales: [f32; 3], zeros: [i32; 2]) -> Residual<'static> {
        Residual {
            data: None,
            row: false,
            signed: false,
            scales,
            zeros,
            bounds: [0, 255],
            steps: None,
        }
    }

    /// Most sums have steps, also of those that plain quotients do not do for.
    #[test]
    fn most_sums_have_steps() {
        let mut state = 1u32;
        let mut uniform = |low: f32, high: f32| {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            low + (high - low) * ((state >> 8) as f32 / (1 << 24) as f32)
        };
        let (mut found, mut moved) = (0, 0);
        for _ in 0..60 {
            let (a, b) = (uniform(0.005, 0.05), uniform(0.005, 0.05));
            let sum = a.max(b) * uniform(0.7, 1.6);
            let residual = residual([a, b, sum], [uniform(0.0, 255.0) as i32, 0]);
            let steps = sum_steps(Cpu::detect(), 128, [0, 255], &residual);
            found += usize::from(steps.is_some());
            moved += usize::from(
                steps.is_some_and(|s| s.factor != a / sum || s.other_factor != b / sum),
            );
        }
        assert!(found >= 55, "{found} of 60");
        assert!(moved > 0, "plain quotients would do");
    }

    #[test]
    fn absurd_scales_have_none() {
        for scales in [
            [f32::NAN, 1.0, 1.0],
            [1.0, 1e-20, 1.0],
            [1.0, 1.0, 0.0],
            [-1.0, 1.0, 1.0],
        ] {
            let steps = sum_steps(Cpu::PORTABLE, 0, [0, 255], &residual(scales, [0, 0]));
            assert_eq!(steps, None, "{scales:?}");
        }
    }
}
