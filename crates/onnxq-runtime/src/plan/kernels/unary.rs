//! Functions of one float.
//!
//! `exp`, `tanh` and `erf` are within a few units in the last place.

use super::multiversion;

/// A function of one float.
pub(crate) trait Function: Copy + Send + Sync + 'static {
    /// Its value. Always to be inlined.
    fn at(self, x: f32) -> f32;
}

multiversion! {
    /// `y = f(x)`.
    pub(crate) fn map<F: super::unary::Function>(f: F, x: &[f32], y: &mut [f32]) {
        let _ = FMA;
        for (y, &x) in y.iter_mut().zip(x) {
            *y = f.at(x);
        }
    }
}

multiversion! {
    /// `x = f(x)`.
    pub(crate) fn update<F: super::unary::Function>(f: F, x: &mut [f32]) {
        let _ = FMA;
        for x in x {
            *x = f.at(*x);
        }
    }
}

/// The exponential: `2^n e^r` with `r` at most half of `ln 2`, by a polynomial.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, the first exact in few bits.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// Adding it rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-104.0, 89.0);
    let n = (clamped * LOG2_E + ROUND) - ROUND;
    let r = clamped - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    p = p * r * r + r + 1.0;
    // In two factors, so that subnormal results and the largest come out.
    let n = n as i32;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
    let y = p * power(half) * power(n - half);
    if x.is_nan() { x } else { y }
}

/// The logistic function.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent, as a quotient of polynomials.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let near = {
        // The odd Taylor polynomial.
        let t = x * x;
        let mut p = -8.863_236e-3;
        p = p * t + 2.186_949e-2;
        p = p * t - 5.396_825_4e-2;
        p = p * t + 1.333_333_4e-1;
        p = p * t - 3.333_333_4e-1;
        p * t * x + x
    };
    let e = exp(2.0 * x.abs().min(20.0));
    let far = (1.0 - 2.0 / (e + 1.0)).copysign(x);
    let y = if x.abs() < 0.3 { near } else { far };
    if x.is_nan() { x } else { y }
}

/// The error function: an odd polynomial up to 1, and `1 - e^-q` with a polynomial `q` beyond.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let a = x.abs().min(4.0);
    let t = a * a;
    let mut p = -9.667_044e-6;
    p = p * t + 1.126_595_9e-4;
    p = p * t - 8.484_080_3e-4;
    p = p * t + 5.221_031_6e-3;
    p = p * t - 2.686_543e-2;
    p = p * t + 1.128_378_2e-1;
    p = p * t - 3.761_263_8e-1;
    p = p * t + std::f32::consts::FRAC_2_SQRT_PI;
    let mut q = -1.637_151_4e-6;
    q = q * a + 4.605_804_5e-5;
    q = q * a - 5.968_056_5e-4;
    q = q * a + 4.759_596e-3;
    q = q * a - 2.642_113_5e-2;
    q = q * a + 1.100_800_86e-1;
    q = q * a + 6.318_260_4e-1;
    q = q * a + 1.130_233_4;
    q = q * a - 3.201_380_6e-4;
    let y = if a < 1.0 { p * a } else { 1.0 - exp(-q) };
    if x.is_nan() { x } else { y.copysign(x) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(f: fn(f32) -> f32, exact: fn(f64) -> f64, from: f32, to: f32) {
        for i in 0..=20_000 {
            let x = from + (to - from) * i as f32 / 20_000.0;
            let (y, e) = (f64::from(f(x)), exact(f64::from(x)));
            let far = (y - e).abs() / e.abs().max(f64::from(f32::MIN_POSITIVE));
            assert!(far < 1e-6, "at {x}: {y}, expected {e}");
        }
    }

    #[test]
    fn functions_are_near() {
        near(exp, f64::exp, -87.0, 88.7);
        near(tanh, f64::tanh, -12.0, 12.0);
        near(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -80.0, 80.0);
        // erf by its series, which converges fast enough up to 3.
        near(erf, series, -3.0, 3.0);
    }

    fn series(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn extremes_are_kept() {
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(tanh(-1e-30), -1e-30);
        assert_eq!(erf(f32::NEG_INFINITY), -1.0);
        assert_eq!(sigmoid(f32::NEG_INFINITY), 0.0);
        for f in [exp, tanh, erf, sigmoid] {
            assert!(f(f32::NAN).is_nan());
        }
    }
}
