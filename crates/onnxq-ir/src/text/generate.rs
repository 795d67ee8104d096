//! Constants that a text describes instead of holding them, for test cases:
//! `["fill": "0.5"]` and `["seed": "7", "lo": "-1", "hi": "1"]`.
//!
//! Element `i` of a seeded constant comes from output `i` of SplitMix64 (Steele, Lea, Flood, [Fast
//! splittable pseudorandom number generators](https://doi.org/10.1145/2714064.2660195)) started
//! at the seed. Floats are `lo + (hi - lo) * u` in double precision, rounded once to their type,
//! where `u` in [0, 1) is the top 53 bits; integers are uniform in `lo..=hi`.

use onnxq_tensor::{DType, Dims, Tensor, element_count};

use super::constant::{Elements, int_range, read_f64};
use super::lex::{Lexer, Token};
use super::minifloat::Minifloat;

/// Bytes that the generated constants of one text may take together.
pub(super) const MAX_BYTES: usize = 1 << 28;

/// The constant that `entries` describe.
pub(super) fn generate(
    dtype: DType,
    dims: Dims,
    entries: &[(String, String)],
    budget: &mut usize,
) -> Result<Tensor, String> {
    if dtype == DType::String {
        return Err("strings cannot be generated".into());
    }
    let count = element_count(&dims).map_err(|e| e.to_string())?;
    // Packed elements take a byte each until they are packed.
    let bytes = count.saturating_mul(dtype.bits().div_ceil(8));
    *budget = budget.checked_sub(bytes).ok_or_else(|| {
        format!("the generated constants of a text may take {MAX_BYTES} bytes together")
    })?;
    let parts = if matches!(dtype, DType::Complex64 | DType::Complex128) {
        2
    } else {
        1
    };
    let mut elements = Elements::new(dtype);
    match entries {
        [(key, value)] if key == "fill" => {
            let (_, mut token) = Lexer::new(value).token().map_err(|e| e.message)?;
            if let (Token::Int(text), Some(_)) = (&token, Minifloat::of(dtype)) {
                // A value here, not bits.
                token = Token::Float(text);
            }
            for _ in 0..parts {
                elements.push(&token)?;
            }
            elements.repeat(count);
        }
        _ => {
            let random = Random::from_entries(dtype, entries)?;
            for i in 0..(count * parts) as u64 {
                random.push(dtype, i, &mut elements)?;
            }
        }
    }
    elements.finish(dims)
}

/// A uniform distribution.
struct Random {
    seed: u64,
    lo: f64,
    hi: f64,
}

impl Random {
    fn from_entries(dtype: DType, entries: &[(String, String)]) -> Result<Random, String> {
        let get = |name: &str| {
            entries
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, v)| v.as_str())
        };
        let number = |name: &str| match get(name) {
            Some(text) => {
                let (_, token) = Lexer::new(text).token().map_err(|e| e.message)?;
                let value = read_f64(&token)?;
                value
                    .is_finite()
                    .then_some(Some(value))
                    .ok_or(format!("\"{name}\" must be finite"))
            }
            None => Ok(None),
        };
        let known = |key: &str| matches!(key, "seed" | "lo" | "hi" | "scale");
        if let Some((key, _)) = entries.iter().find(|(key, _)| !known(key)) {
            return Err(format!(
                "\"{key}\" does not go with \"seed\"; \"lo\", \"hi\", \"scale\" do"
            ));
        }
        let seed = get("seed").unwrap_or_default();
        let seed = seed
            .parse()
            .map_err(|_| "\"seed\" takes an integer".to_string())?;
        let (lo, hi) = match dtype {
            DType::Bool => (0.0, 1.0),
            _ if dtype.is_int() => {
                let (lo, hi) = int_range(dtype);
                (
                    lo.max(-128) as f64,
                    hi.min(if lo < 0 { 127 } else { 255 }) as f64,
                )
            }
            DType::F8E8M0 => (0.5, 2.0),
            _ => (-1.0, 1.0),
        };
        let scale = number("scale")?.unwrap_or(1.0);
        let (lo, hi) = (
            number("lo")?.unwrap_or(lo) * scale,
            number("hi")?.unwrap_or(hi) * scale,
        );
        let (lo, hi, max) = match dtype.is_int() || dtype == DType::Bool {
            true => (lo.ceil(), hi.floor(), 2f64.powi(63)),
            false => (lo, hi, f64::MAX),
        };
        if !(lo <= hi && hi - lo <= max) {
            return Err(format!("the range {lo:?} to {hi:?} is empty or too large"));
        }
        Ok(Random { seed, lo, hi })
    }

    fn push(&self, dtype: DType, i: u64, elements: &mut Elements) -> Result<(), String> {
        let bits = split_mix(self.seed, i);
        if dtype.is_int() || dtype == DType::Bool {
            let (lo, hi) = (self.lo as i128, self.hi as i128);
            let span = (hi - lo + 1) as u128;
            elements.push_int(lo + ((u128::from(bits) * span) >> 64) as i128)
        } else {
            let u = (bits >> 11) as f64 / 2f64.powi(53);
            elements.push_real(self.lo + (self.hi - self.lo) * u)
        }
    }
}

/// Output `i` of SplitMix64 started at `seed`.
fn split_mix(seed: u64, i: u64) -> u64 {
    let state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(i.wrapping_add(1)));
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(dtype: DType, dims: &[usize], entries: &[(&str, &str)]) -> Result<Tensor, String> {
        let entries: Vec<_> = entries
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        generate(
            dtype,
            Dims::from_slice(dims),
            &entries,
            &mut (MAX_BYTES / 4),
        )
    }

    #[test]
    fn split_mix_is_the_published_one() {
        // The first outputs for seed 1234567 of the reference implementation.
        assert_eq!(split_mix(1234567, 0), 6457827717110365317);
        assert_eq!(split_mix(1234567, 1), 3203168211198807973);
    }

    #[test]
    fn fill() {
        let t = make(DType::F32, &[3], &[("fill", "0.5")]).unwrap();
        assert_eq!(t, Tensor::vector(vec![0.5f32; 3]));
        let t = make(DType::F16, &[1], &[("fill", "1")]).unwrap();
        assert_eq!(t.bytes(), [0, 0x3c]);
        let t = make(DType::I4, &[3], &[("fill", "-1")]).unwrap();
        assert_eq!(t.bytes(), [0xff, 0x0f]);
        assert!(make(DType::U8, &[3], &[("fill", "-1")]).is_err());
        assert!(make(DType::F32, &[3], &[("fill", "x")]).is_err());
    }

    #[test]
    fn seeds() {
        for &dtype in DType::ALL.iter().filter(|&&t| t != DType::String) {
            let a = make(dtype, &[100], &[("seed", "7")]).unwrap();
            assert_eq!(a, make(dtype, &[100], &[("seed", "7")]).unwrap());
            assert_ne!(a, make(dtype, &[100], &[("seed", "8")]).unwrap());
        }
        let t = make(
            DType::I8,
            &[1000],
            &[("seed", "1"), ("lo", "-2"), ("hi", "2")],
        )
        .unwrap();
        let values = t.to_i64s().unwrap();
        assert!((-2..=2).all(|v| values.contains(&v)) && values.iter().all(|v| v.abs() <= 2));
        let t = make(DType::F32, &[1000], &[("seed", "1"), ("scale", "0.1")]).unwrap();
        let values = t.as_slice::<f32>().unwrap();
        assert!(values.iter().all(|v| v.abs() <= 0.1) && values.iter().any(|v| v.abs() > 0.09));
    }

    #[test]
    fn errors() {
        assert!(make(DType::String, &[1], &[("fill", "x")]).is_err());
        assert!(make(DType::F32, &[1], &[("seed", "x")]).is_err());
        assert!(make(DType::F32, &[1], &[("lo", "1")]).is_err());
        assert!(make(DType::F32, &[1], &[("seed", "1"), ("lo", "2")]).is_err());
        assert!(make(DType::F32, &[1], &[("seed", "1"), ("mean", "2")]).is_err());
        assert!(make(DType::I64, &[1], &[("seed", "1"), ("hi", "1e30")]).is_err());
        assert!(make(DType::F32, &[9_999_999_999], &[("fill", "0")]).is_err());
        assert!(make(DType::F32, &[usize::MAX, 2], &[("fill", "0")]).is_err());
    }
}
