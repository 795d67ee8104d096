//! [`Distance`]: how far tensors are from what is expected of them, collected tensor by tensor.
//!
//! Sums are in `f64`. Collecting the parts of a whole one after the other and merging them in the
//! same order gives the same figures, so that the number of threads cannot show.

use std::borrow::Cow;

use onnxq_tensor::{Tensor, TensorError};

/// How far elements are from those expected.
///
/// Elements that are both NaN, or the same infinity, are equal. One that is not finite on one side
/// alone makes the differences infinite.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Distance {
    /// The number of elements.
    pub elements: u64,
    /// The largest absolute difference.
    pub max_abs: f64,
    sum_abs: f64,
    signal: f64,
    noise: f64,
    other: f64,
    product: f64,
}

impl Distance {
    /// The distance of `got` from `expected`, which have the same number of elements.
    ///
    /// # Errors
    /// Elements of the types are no numbers.
    pub fn between(expected: &Tensor, got: &Tensor) -> Result<Distance, TensorError> {
        let mut distance = Distance::default();
        distance.add_tensors(expected, got)?;
        Ok(distance)
    }

    /// Collects two tensors with the same number of elements. Of strings, those that are the same
    /// differ by 0, others by 1.
    ///
    /// # Errors
    /// Elements of the types are no numbers.
    pub fn add_tensors(&mut self, expected: &Tensor, got: &Tensor) -> Result<(), TensorError> {
        if let (Some(expected), Some(got)) = (expected.strings(), got.strings()) {
            for (e, g) in expected.iter().zip(got.iter()) {
                self.add(1.0, f64::from(e == g));
            }
            return Ok(());
        }
        if let (Ok(expected), Ok(got)) = (expected.as_slice::<f32>(), got.as_slice::<f32>()) {
            for (&e, &g) in expected.iter().zip(got.iter()) {
                self.add(e.into(), g.into());
            }
            return Ok(());
        }
        let (expected, got): (Cow<'_, [f64]>, Cow<'_, [f64]>) =
            (expected.to_f64s()?, got.to_f64s()?);
        for (&e, &g) in expected.iter().zip(got.iter()) {
            self.add(e, g);
        }
        Ok(())
    }

    /// Collects one element.
    pub fn add(&mut self, expected: f64, got: f64) {
        let difference = difference(expected, got);
        self.elements += 1;
        self.max_abs = self.max_abs.max(difference);
        self.sum_abs += difference;
        self.noise += difference * difference;
        if expected.is_finite() && got.is_finite() {
            self.signal += expected * expected;
            self.other += got * got;
            self.product += expected * got;
        }
    }

    /// Collects what `later` has collected.
    pub fn merge(&mut self, later: &Distance) {
        self.elements += later.elements;
        self.max_abs = self.max_abs.max(later.max_abs);
        self.sum_abs += later.sum_abs;
        self.signal += later.signal;
        self.noise += later.noise;
        self.other += later.other;
        self.product += later.product;
    }

    /// The mean absolute difference; 0 of no elements.
    pub fn mean_abs(&self) -> f64 {
        self.sum_abs / (self.elements.max(1) as f64)
    }

    /// Signal to quantization noise in dB, `10 log10(sum e^2 / sum (e - g)^2)`: infinite where all
    /// is equal, negative infinity where there is noise only.
    pub fn sqnr_db(&self) -> f64 {
        if self.noise == 0.0 {
            return f64::INFINITY;
        }
        10.0 * (self.signal / self.noise).log10()
    }

    /// The cosine of the angle between the two; where one is zero, 1 if both are.
    pub fn cosine(&self) -> f64 {
        let lengths = self.signal.sqrt() * self.other.sqrt();
        if lengths == 0.0 {
            return f64::from(self.noise == 0.0);
        }
        // Rounding takes it past the end.
        (self.product / lengths).clamp(-1.0, 1.0)
    }
}

fn difference(expected: f64, got: f64) -> f64 {
    if expected == got || (expected.is_nan() && got.is_nan()) {
        return 0.0;
    }
    let difference = (expected - got).abs();
    if difference.is_finite() {
        difference
    } else {
        f64::INFINITY
    }
}

/// Decibels for programs, where there is no infinity: between -200 and 200.
pub fn finite_db(sqnr_db: f64) -> f64 {
    sqnr_db.clamp(-200.0, 200.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn distance(expected: &[f32], got: &[f32]) -> Distance {
        let tensor = |values: &[f32]| Tensor::vector(values.to_vec());
        Distance::between(&tensor(expected), &tensor(got)).unwrap()
    }

    #[test]
    fn figures_by_hand() {
        // Signal 4 + 0 + 1, noise 0.25 + 0.25.
        let d = distance(&[2.0, 0.0, -1.0], &[2.5, 0.5, -1.0]);
        assert_eq!((d.elements, d.max_abs), (3, 0.5));
        assert!((d.mean_abs() - 1.0 / 3.0).abs() < 1e-15);
        assert!((d.sqnr_db() - 10.0).abs() < 1e-12);
        assert!((d.cosine() - 6.0 / (5.0f64 * 7.5).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn what_is_equal_has_no_noise() {
        let odd = [1.0, f32::NAN, f32::INFINITY];
        for d in [
            distance(&odd, &odd),
            distance(&[], &[]),
            distance(&[0.0], &[0.0]),
        ] {
            assert_eq!((d.max_abs, d.mean_abs()), (0.0, 0.0));
            assert_eq!((d.sqnr_db(), d.cosine()), (f64::INFINITY, 1.0));
        }
        assert_eq!(finite_db(f64::INFINITY), 200.0);
    }

    #[test]
    fn what_is_not_finite_on_one_side_is_infinitely_far() {
        for got in [f32::NAN, f32::INFINITY] {
            let d = distance(&[1.0, 1.0], &[got, 1.0]);
            assert_eq!((d.max_abs, d.sqnr_db()), (f64::INFINITY, f64::NEG_INFINITY));
            let d = distance(&[got, 1.0], &[1.0, 1.0]);
            assert_eq!((d.max_abs, d.sqnr_db()), (f64::INFINITY, f64::NEG_INFINITY));
        }
        assert_eq!(distance(&[0.0], &[1.0]).sqnr_db(), f64::NEG_INFINITY);
    }

    #[test]
    fn other_types_count_as_numbers() {
        let expected = Tensor::vector(vec![1i64, 2, 3]);
        let got = Tensor::vector(vec![1u8, 2, 5]);
        assert_eq!(Distance::between(&expected, &got).unwrap().max_abs, 2.0);
        let text = |words: [&'static str; 2]| {
            let words = words.map(|w| bytes::Bytes::from_static(w.as_bytes()));
            Tensor::from_strings([2].as_slice(), words).unwrap()
        };
        let d = Distance::between(&text(["a", "b"]), &text(["a", "c"])).unwrap();
        assert_eq!((d.max_abs, d.mean_abs()), (1.0, 0.5));
    }

    proptest! {
        #[test]
        fn parts_merge_to_the_whole(
            values in prop::collection::vec((-100i32..100, -100i32..100), 0..40),
            at in 0usize..40,
        ) {
            // Quarters of integers: sums are exact, whatever the order.
            let mut whole = Distance::default();
            let mut parts = [Distance::default(); 2];
            for (i, &(e, g)) in values.iter().enumerate() {
                let (e, g) = (f64::from(e) / 4.0, f64::from(g) / 4.0);
                whole.add(e, g);
                parts[usize::from(i >= at)].add(e, g);
            }
            let [mut first, second] = parts;
            first.merge(&second);
            prop_assert_eq!(first, whole);
        }
    }
}
