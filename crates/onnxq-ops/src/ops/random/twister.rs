//! The Mersenne twister MT19937, seeded and read as NumPy's `RandomState` does, so that what a seed
//! gives is known. <https://doi.org/10.1145/272991.272995>

const N: usize = 624;
const M: usize = 397;

/// A source of numbers that look random.
pub(in crate::ops) struct Twister {
    state: Vec<u32>,
    at: usize,
    /// Normal numbers come in pairs; the second of one.
    spare: Option<f64>,
}

impl Twister {
    pub(in crate::ops) fn new(seed: u32) -> Twister {
        let mut state = Vec::with_capacity(N);
        let mut x = seed;
        for i in 1..=N as u32 {
            state.push(x);
            x = (x ^ (x >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i);
        }
        Twister {
            state,
            at: N,
            spare: None,
        }
    }

    fn refill(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ odd;
        }
        self.at = 0;
    }

    fn bits(&mut self) -> u32 {
        if self.at == N {
            self.refill();
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A number in [0, 1), of 53 bits.
    pub(in crate::ops) fn uniform(&mut self) -> f64 {
        let (high, low) = (self.bits() >> 5, self.bits() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// A number of the standard normal distribution, by the polar method.
    pub(in crate::ops) fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (a, b) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = a * a + b * b;
            if square > 0.0 && square < 1.0 {
                let factor = (-2.0 * square.ln() / square).sqrt();
                self.spare = Some(factor * a);
                return factor * b;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Twister;

    #[test]
    fn numbers_are_those_of_numpy() {
        // numpy.random.seed(0); numpy.random.uniform(size=3)
        let mut source = Twister::new(0);
        let first: Vec<f64> = (0..3).map(|_| source.uniform()).collect();
        let expected = [0.5488135039273248, 0.7151893663724195, 0.6027633760716439];
        assert_eq!(first, expected);
        // numpy.random.seed(0); numpy.random.normal(size=2)
        let mut source = Twister::new(0);
        let normal = [source.normal(), source.normal()];
        let near = |(a, b): (&f64, f64)| (a - b).abs() < 1e-12;
        let expected = [1.764052345967664, 0.4001572083672233];
        assert!(normal.iter().zip(expected).all(near), "{normal:?}");
    }
}
