//! Equality, bit for bit, with what the calibrators of `onnxruntime.quantization` make of the
//! same data (`make_calibration.py`).

use onnxq_quant::{
    CalibrationSpec, Method, Moments, Ranges, TensorObserver, TensorRange, ValueRange,
    tables::{RangeTable, tensorrt_flatbuffers, tensorrt_text},
};
use serde_json::Value;

fn reference() -> Value {
    serde_json::from_str(include_str!("calibration.json")).unwrap()
}

fn pair(v: &Value) -> [f32; 2] {
    let digits = v.as_str().unwrap();
    [0, 8].map(|at| {
        let bits = u32::from_str_radix(&digits[at..at + 8], 16).unwrap();
        f32::from_bits(bits.swap_bytes())
    })
}

fn data(kind: &str, n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let uniform = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 40) as f32 / 8388608.0 - 1.0
    };
    let one = |u: f32| match kind {
        "uniform" => u,
        "heavy" => u / (1.001 - u * u),
        "one-sided" => u.max(0.0) * 5.0,
        "peaked" => u * u * u + 0.01,
        "offset" => u * 0.01 + 3.0,
        "negative" => u * u * -4.0 - 0.5,
        "tiny" => u * u * u * 1e-30,
        "constant" => u * 0.0 + 0.1,
        "zero" => u * 0.0,
        other => panic!("{other}"),
    };
    std::iter::repeat_with(uniform).take(n).map(one).collect()
}

fn method(case: &Value) -> Method {
    let int = |key: &str| case[key].as_u64().unwrap() as usize;
    let bins = int("num_bins");
    match case["method"].as_str().unwrap() {
        "percentile" => Method::Percentile {
            percentile: case["percentile"].as_f64().unwrap(),
            bins,
            magnitudes: case["symmetric"].as_bool().unwrap(),
        },
        "entropy" => Method::Entropy {
            bins,
            quantized_bins: int("num_quantized_bins"),
        },
        "distribution" => Method::Distribution { bins },
        other => panic!("{other}"),
    }
}

fn observe(method: Method, keep: usize, data: &[f32]) -> (ValueRange, Option<Moments>) {
    let spec = CalibrationSpec {
        method,
        symmetric: false,
    };
    let observer = TensorObserver::new(spec, None, keep).unwrap();
    observer.observe(0, data, &[data.len()]).unwrap();
    match observer.range() {
        Some(TensorRange::Tensor(range)) => (range, observer.moments()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn thresholds_and_moments() {
    let reference = reference();
    let cases = reference["cases"].as_array().unwrap();
    assert!(cases.len() > 200);
    for case in cases {
        let kind = case["kind"].as_str().unwrap();
        let [n, seed] = ["n", "seed"].map(|key| case[key].as_u64().unwrap());
        let data = data(kind, n as usize, seed);
        let (range, moments) = observe(method(case), data.len(), &data);
        let [lo, hi] = pair(&case["range"]);
        assert_eq!(range, expected(lo, hi), "{case}");
        if let Some(Moments { mean, deviation }) = moments {
            let [their_mean, theirs] = pair(&case["moments"]);
            assert_eq!(mean, their_mean, "{case}");
            // Theirs is NaN or 0 where rounding leaves no difference of squares, or the squares
            // of tiny values are no `f32`s.
            match kind == "tiny" || theirs.is_nan() {
                true => assert!((0.0..=hi).contains(&deviation), "{case}"),
                false => assert_eq!(deviation, theirs, "{case}"),
            }
        }
    }
}

/// The reference lets the ends of a range without 0 cross by the rounding of an edge; the end
/// that decides the scale is the one kept.
fn expected(lo: f32, hi: f32) -> ValueRange {
    match lo <= hi {
        true => ValueRange::new(lo, hi),
        false if hi > 0.0 => ValueRange::new(hi, hi),
        false => ValueRange::new(lo, lo),
    }
}

#[test]
fn percentiles_of_few_values() {
    let (range, _) = observe(Method::PERCENTILE, 100, &[-1.0, 0.5, 2.0, 4.0]);
    assert_eq!(range, ValueRange::new(-1.0, 0.5 + 3.5 * 2047.0 / 2048.0));
    let (range, _) = observe(Method::PERCENTILE, 100, &[0.0, 0.5, 2.0, 4.0]);
    assert_eq!(range, ValueRange::new(0.0, 4.0 * 2047.0 / 2048.0));
}

#[test]
fn entropy_by_hand() {
    let values = [
        (0.1, 10),
        (-0.1, 10),
        (0.3, 4),
        (-0.3, 4),
        (0.9, 1),
        (1.0, 1),
    ];
    let data: Vec<f32> = values
        .iter()
        .flat_map(|&(v, n)| std::iter::repeat_n(v, n))
        .collect();
    let entropy = Method::Entropy {
        bins: 8,
        quantized_bins: 4,
    };
    let (range, _) = observe(entropy, 100, &data);
    assert_eq!(range, ValueRange::new(-0.3, 1.0));
}

/// With the reference's default of as many bins as quantized bins there is nothing to choose.
#[test]
fn entropy_of_equal_bins_is_the_full_range() {
    let data = data("heavy", 5000, 3);
    let (full, _) = observe(Method::MINMAX, 0, &data);
    let equal = Method::Entropy {
        bins: 128,
        quantized_bins: 128,
    };
    assert_eq!(observe(equal, 5000, &data).0, full);
    let (chosen, _) = observe(Method::ENTROPY, 5000, &data);
    assert!(chosen.hi < full.hi / 2.0, "{chosen:?} {full:?}");
}

fn named(reference: &Value) -> Ranges {
    let all = reference["tables"]["ranges"].as_array().unwrap();
    let one = |entry: &Value| {
        let [lo, hi] = pair(&entry[1]);
        let name = entry[0].as_str().unwrap().to_owned();
        (name, TensorRange::Tensor(ValueRange::new(lo, hi)))
    };
    all.iter().map(one).collect()
}

#[test]
fn tables_for_tensorrt() {
    let reference = reference();
    let (ranges, tables) = (named(&reference), &reference["tables"]);
    assert_eq!(tensorrt_text(&ranges), tables["text"].as_str().unwrap());
    let bytes = tensorrt_flatbuffers(&ranges);
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, tables["flatbuffers"].as_str().unwrap());
    assert!(!tensorrt_flatbuffers(&Ranges::default()).is_empty());
}

#[test]
fn caches_of_the_reference_are_read() {
    let reference = reference();
    let tables = &reference["tables"];
    let read = |key: &str| {
        let text = tables[key].as_str().unwrap();
        RangeTable::from_json(text.as_bytes()).unwrap().ranges
    };
    assert_eq!(read("cache"), named(&reference));
    let [lo, hi] = pair(&tables["entropy range"]);
    let expected = TensorRange::Tensor(ValueRange::new(lo, hi));
    assert_eq!(read("entropy cache").get("x"), Some(&expected));
}
