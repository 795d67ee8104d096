//! Scales and zero points of ranges.

use onnxq_quant::{Error, FloatType, ParamSpec, Params, QuantType, ValueRange};
use onnxq_tensor::DType;

use QuantType::*;

use super::ints;

fn params(spec: ParamSpec, lo: f32, hi: f32) -> (f32, i32) {
    let Params { scale, zero_point } = spec
        .compute(ValueRange::new(lo, hi), FloatType::F32)
        .unwrap();
    (scale, zero_point)
}

fn asymmetric(qtype: QuantType) -> ParamSpec {
    ParamSpec::new(qtype)
}

fn symmetric(qtype: QuantType) -> ParamSpec {
    ParamSpec::new(qtype).symmetric(true)
}

fn reduced(spec: ParamSpec) -> ParamSpec {
    ParamSpec {
        reduce_range: true,
        ..spec
    }
}

#[test]
fn asymmetric_range() {
    assert_eq!(params(asymmetric(UInt8), -1.5, 3.0), (0.017_647_06, 85));
    assert_eq!(params(asymmetric(Int8), -1.5, 3.0), (0.017_647_06, -43));
}

#[test]
fn symmetric_and_reduced_range() {
    assert_eq!(params(symmetric(Int8), -1.5, 3.0), (0.023_622_047, 0));
    assert_eq!(params(symmetric(UInt8), -1.5, 3.0), (0.023_529_412, 128));
    assert_eq!(params(reduced(symmetric(Int8)), -1.5, 3.0), (0.046875, 0));
    assert_eq!(
        params(reduced(asymmetric(Int8)), -1.5, 3.0),
        (0.03515625, -21)
    );
    assert_eq!(
        params(reduced(asymmetric(UInt8)), -1.5, 3.0),
        (0.035_433_073, 42)
    );
}

#[test]
fn zero_point_ties_go_to_even() {
    assert_eq!(params(asymmetric(UInt8), -0.5, 254.5), (1.0, 0));
    assert_eq!(params(asymmetric(UInt8), -1.5, 253.5), (1.0, 2));
    assert_eq!(params(asymmetric(UInt8), -2.5, 252.5), (1.0, 2));
}

#[test]
fn one_sided_and_degenerate_ranges() {
    assert_eq!(params(asymmetric(UInt8), 0.5, 2.0), (0.007_843_138, 0));
    assert_eq!(params(asymmetric(UInt8), -4.0, -1.0), (0.015_686_275, 255));
    assert_eq!(params(asymmetric(Int8), -4.0, -1.0).1, 127);
    for qtype in [Int8, UInt8, Int16, UInt16, Int4, UInt4] {
        assert_eq!(params(asymmetric(qtype), 0.0, 0.0), (1.0, 0));
        assert_eq!(params(symmetric(qtype), 0.0, 0.0), (1.0, 0));
    }
    assert_eq!(params(asymmetric(UInt8), 0.0, 1e-37), (1.0, 0));
    assert_eq!(params(asymmetric(UInt8), 0.0, 1e-35), (3.921_568_8e-38, 0));
    let least = ParamSpec {
        min_real_range: Some(1e-4),
        ..asymmetric(UInt8)
    };
    assert_eq!(params(least, 0.0, 0.0), (3.921_568_6e-7, 0));
    assert_eq!(params(asymmetric(UInt8), -3.0e38, 3.0e38).0, 2.352_941_1e36);
}

#[test]
fn other_widths() {
    assert_eq!(params(asymmetric(Int16), -0.1, 0.3), (6.103_609e-6, -16384));
    assert_eq!(params(asymmetric(UInt16), -0.1, 0.3).1, 16384);
    assert_eq!(params(symmetric(Int16), -0.1, 0.3), (9.155_553e-6, 0));
    assert_eq!(params(symmetric(Int4), -1.0, 1.0), (0.133_333_34, 0));
    assert_eq!(params(symmetric(UInt4), -1.0, 1.0).1, 8);
    let half = asymmetric(UInt8)
        .compute(ValueRange::new(-1.0, 2.0), FloatType::F16)
        .unwrap();
    assert_eq!(
        half,
        Params {
            scale: 0.011_764_526,
            zero_point: 85
        }
    );
    let (scale, zero) = half.to_tensors(UInt8, FloatType::F16).unwrap();
    assert_eq!((scale.dtype(), scale.rank()), (DType::F16, 0));
    assert_eq!(
        (zero.dtype(), zero.rank(), ints(&zero)),
        (DType::U8, 0, vec![85])
    );
}

#[test]
fn restricted_asymmetric() {
    let spec = ParamSpec {
        restricted_asymmetric: true,
        ..asymmetric(UInt8)
    };
    assert_eq!(params(spec, -1.0, 2.0), (0.015_748_031, 128));
    assert_eq!(params(spec, 0.25, 2.55), (0.01, 0));
    assert_eq!(params(spec, 0.0, 0.0), (1.0 / 255.0, 0));
    // A range that would give a scale of 0.
    assert_eq!(params(spec, -1e-45, 1e-45), (1.0 / 255.0, 0));
}

#[test]
fn ranges_that_are_none() {
    let compute = |lo, hi| asymmetric(Int8).compute(ValueRange::new(lo, hi), FloatType::F32);
    for (lo, hi) in [
        (f32::NAN, 1.0),
        (0.0, f32::NAN),
        (f32::NEG_INFINITY, 1.0),
        (0.0, f32::INFINITY),
        (2.0, 1.0),
    ] {
        assert!(
            matches!(compute(lo, hi), Err(Error::Range { .. })),
            "[{lo}, {hi}]"
        );
    }
    let empty = asymmetric(UInt8).compute(ValueRange::EMPTY, FloatType::F32);
    assert_eq!(empty, Ok(Params::DEGENERATE));
    let range = ValueRange::new(0.0, 1.0);
    for least in [-1.0, f64::NAN, f64::INFINITY] {
        let spec = ParamSpec {
            min_real_range: Some(least),
            ..asymmetric(UInt8)
        };
        assert!(matches!(
            spec.compute(range, FloatType::F32),
            Err(Error::MinRealRange(_))
        ));
    }
    assert!(
        asymmetric(Float8E4M3FN)
            .compute(range, FloatType::F32)
            .is_err()
    );
}
