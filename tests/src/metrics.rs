//! How far one tensor is from another.

use onnxq_ops::Value;
use onnxq_tensor::{DType, Tensor};

/// The distance of a tensor from the expected one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metrics {
    /// The largest absolute difference.
    pub max_abs: f64,
    /// The largest difference relative to the expected element, over those that are not zero.
    pub max_rel: f64,
    /// Signal to quantization noise, `10 log10(sum e^2 / sum (e - g)^2)`; infinite where equal.
    pub sqnr_db: f64,
    /// The cosine of the angle between the two; 1 where both are zero.
    pub cosine: f64,
}

/// What is allowed between two elements: `|e - g| <= atol + rtol |e|`.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// The part relative to the expected element.
    pub rtol: f64,
    /// The absolute part.
    pub atol: f64,
}

impl Default for Tolerance {
    /// Two evaluations in float32 that add in different orders.
    fn default() -> Tolerance {
        Tolerance {
            rtol: 1e-4,
            atol: 1e-5,
        }
    }
}

/// Why two tensors cannot be compared, or where they differ.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Mismatch {
    #[error("expected {expected}, got {got}")]
    Type { expected: String, got: String },
    #[error("elements of {0} have no distance")]
    NoDistance(DType),
    #[error(
        "{count} of {len} elements differ, first at {index}: expected {expected}, got {got} \
         (largest difference {max_abs})"
    )]
    Elements {
        count: usize,
        len: usize,
        index: usize,
        expected: f64,
        got: f64,
        max_abs: f64,
    },
    #[error("strings differ")]
    Strings,
}

/// Measures the distance of `got` from `expected`, which must agree in type and dimensions.
///
/// Elements that are both NaN, or the same infinity, are equal; a NaN or infinity on one side
/// alone makes the differences infinite and the quality negative infinity.
pub fn compare(expected: &Tensor, got: &Tensor) -> Result<Metrics, Mismatch> {
    let (e, g) = pair(expected, got)?;
    let (mut max_abs, mut max_rel) = (0f64, 0f64);
    let (mut signal, mut noise, mut other, mut product) = (0f64, 0f64, 0f64, 0f64);
    for (&e, &g) in e.iter().zip(&g) {
        let d = difference(e, g);
        max_abs = max_abs.max(d);
        if e != 0.0 && d > 0.0 {
            max_rel = max_rel.max(if d.is_finite() { d / e.abs() } else { d });
        }
        noise += d * d;
        if e.is_finite() && g.is_finite() {
            signal += e * e;
            other += g * g;
            product += e * g;
        }
    }
    let sqnr_db = if noise == 0.0 {
        f64::INFINITY
    } else {
        10.0 * (signal / noise).log10()
    };
    let lengths = (signal * other).sqrt();
    let cosine = match lengths {
        0.0 => f64::from(noise == 0.0),
        lengths => product / lengths,
    };
    Ok(Metrics {
        max_abs,
        max_rel,
        sqnr_db,
        cosine,
    })
}

/// Checks that every element is within `tolerance`, as `numpy.allclose` does with equal NaNs.
pub fn check_close(expected: &Tensor, got: &Tensor, tolerance: Tolerance) -> Result<(), Mismatch> {
    if expected.dtype() == DType::String && got.dtype() == DType::String {
        return if expected == got {
            Ok(())
        } else {
            Err(Mismatch::Strings)
        };
    }
    let (e, g) = pair(expected, got)?;
    let outside = |(_, (e, g)): &(usize, (&f64, &f64))| {
        let d = difference(**e, **g);
        // Written so that an infinite difference is outside whatever the expected element.
        d > 0.0 && !(d.is_finite() && d <= tolerance.atol + tolerance.rtol * e.abs())
    };
    let mut wrong = e.iter().zip(&g).enumerate().filter(outside);
    let Some((index, (&first, &got_first))) = wrong.next() else {
        return Ok(());
    };
    Err(Mismatch::Elements {
        count: 1 + wrong.count(),
        len: e.len(),
        index,
        expected: first,
        got: got_first,
        max_abs: e
            .iter()
            .zip(&g)
            .map(|(&e, &g)| difference(e, g))
            .fold(0.0, f64::max),
    })
}

/// Checks that every element of a value, tensor or not, is within `tolerance`.
///
/// # Errors
/// Says where the first difference is.
pub fn check_values(expected: &Value, got: &Value, tolerance: Tolerance) -> Result<(), String> {
    match (expected, got) {
        (Value::Tensor(e), Value::Tensor(g)) => {
            check_close(e, g, tolerance).map_err(|e| e.to_string())
        }
        (Value::Sequence(e), Value::Sequence(g)) if e.len() == g.len() => {
            let mut pairs = e.iter().zip(g.iter()).enumerate();
            pairs.try_for_each(|(i, (e, g))| {
                check_values(e, g, tolerance).map_err(|e| format!("element {i}: {e}"))
            })
        }
        (Value::Optional(Some(e)), Value::Optional(Some(g))) => check_values(e, g, tolerance),
        (Value::Optional(None), Value::Optional(None)) => Ok(()),
        _ => Err(format!("expected {expected:?}, got {got:?}")),
    }
}

/// Whether every element is within the default [`Tolerance`].
pub fn allclose(expected: &Tensor, got: &Tensor) -> bool {
    check_close(expected, got, Tolerance::default()).is_ok()
}

fn difference(e: f64, g: f64) -> f64 {
    if e == g || (e.is_nan() && g.is_nan()) {
        0.0
    } else if (e - g).is_finite() {
        (e - g).abs()
    } else {
        f64::INFINITY
    }
}

fn pair(expected: &Tensor, got: &Tensor) -> Result<(Vec<f64>, Vec<f64>), Mismatch> {
    if expected.dtype() != got.dtype() || expected.dims() != got.dims() {
        return Err(Mismatch::Type {
            expected: format!("{expected:?}"),
            got: format!("{got:?}"),
        });
    }
    let no_distance = || Mismatch::NoDistance(expected.dtype());
    Ok((
        to_f64s(expected).ok_or_else(no_distance)?,
        to_f64s(got).ok_or_else(no_distance)?,
    ))
}

/// The elements of a tensor of numbers.
pub fn to_f64s(tensor: &Tensor) -> Option<Vec<f64>> {
    let elements = tensor.to_f64s().ok()?;
    Some(elements.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(values: &[f32]) -> Tensor {
        Tensor::vector(values.to_vec())
    }

    #[test]
    fn equal_tensors_are_infinitely_good() {
        let m = compare(
            &t(&[1.0, f32::NAN, f32::INFINITY]),
            &t(&[1.0, f32::NAN, f32::INFINITY]),
        );
        let perfect = Metrics {
            max_abs: 0.0,
            max_rel: 0.0,
            sqnr_db: f64::INFINITY,
            cosine: 1.0,
        };
        assert_eq!(m, Ok(perfect));
        assert_eq!(compare(&t(&[0.0]), &t(&[0.0])), Ok(perfect));
        assert_eq!(compare(&t(&[]), &t(&[])), Ok(perfect));
    }

    #[test]
    fn distances_by_hand() {
        // Signal 4 + 0 + 1, noise 0.25 + 0.25.
        let m = compare(&t(&[2.0, 0.0, -1.0]), &t(&[2.5, 0.5, -1.0])).unwrap();
        assert_eq!((m.max_abs, m.max_rel), (0.5, 0.25));
        assert!((m.sqnr_db - 10.0).abs() < 1e-12);
        assert!((m.cosine - 6.0 / (5.0f64 * 7.5).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn what_is_not_finite_on_one_side_is_infinitely_bad() {
        for got in [f32::NAN, f32::INFINITY] {
            let m = compare(&t(&[1.0, 1.0]), &t(&[got, 1.0])).unwrap();
            assert_eq!((m.max_abs, m.sqnr_db), (f64::INFINITY, f64::NEG_INFINITY));
            assert!(!allclose(&t(&[1.0, 1.0]), &t(&[got, 1.0])));
        }
        assert!(!allclose(&t(&[f32::INFINITY]), &t(&[1.0])));
        assert!(!allclose(&t(&[f32::INFINITY]), &t(&[f32::NEG_INFINITY])));
    }

    #[test]
    fn tolerance_is_relative_and_absolute() {
        assert!(allclose(&t(&[1000.0, 0.0]), &t(&[1000.09, 0.000_009])));
        assert!(!allclose(&t(&[1000.0]), &t(&[1000.2])));
        let wrong = check_close(
            &t(&[1.0, 2.0, 3.0]),
            &t(&[1.0, 2.5, 4.0]),
            Tolerance::default(),
        );
        let Err(Mismatch::Elements {
            count,
            index,
            max_abs,
            ..
        }) = wrong
        else {
            panic!("{wrong:?}")
        };
        assert_eq!((count, index, max_abs), (2, 1, 1.0));
    }

    #[test]
    fn types_and_dimensions_must_agree() {
        let column = t(&[1.0, 2.0]).reshape([2, 1].as_slice()).unwrap();
        assert!(matches!(
            compare(&t(&[1.0, 2.0]), &column),
            Err(Mismatch::Type { .. })
        ));
        let integers = Tensor::vector(vec![1i64, 2]);
        assert!(matches!(
            compare(&t(&[1.0, 2.0]), &integers),
            Err(Mismatch::Type { .. })
        ));
        assert!(allclose(&integers, &integers));
    }
}
