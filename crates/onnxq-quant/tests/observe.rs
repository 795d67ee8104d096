//! What observers remember, and the ranges that follow.

use std::num::NonZeroUsize;

use onnxq_quant::{
    CalibrationSpec, Error, Method, Observers, TensorObserver, TensorRange, ValueRange,
    tables::RangeTable,
};
use onnxq_tensor::Tensor;

fn spec(method: Method) -> CalibrationSpec {
    CalibrationSpec {
        method,
        symmetric: false,
    }
}

fn whole(lo: f32, hi: f32) -> Option<TensorRange> {
    Some(TensorRange::Tensor(ValueRange::new(lo, hi)))
}

fn moving(round: Option<usize>) -> CalibrationSpec {
    spec(Method::MinMax {
        moving_average: true,
        round: round.and_then(NonZeroUsize::new),
        averaging_constant: 0.01,
    })
}

#[test]
fn smallest_and_largest_of_all_samples() {
    let observer = TensorObserver::new(CalibrationSpec::MINMAX, None, 0).unwrap();
    assert_eq!(observer.range(), None);
    observer.observe(0, &[], &[0, 3]).unwrap();
    assert_eq!(observer.range(), None);
    observer.observe(1, &[1.0, -2.0], &[2]).unwrap();
    observer.observe(0, &[0.5, 4.0, 1.0], &[3, 1]).unwrap();
    assert_eq!(observer.range(), whole(-2.0, 4.0));
    let symmetric = CalibrationSpec {
        symmetric: true,
        ..CalibrationSpec::MINMAX
    };
    let observer = TensorObserver::new(symmetric, None, 0).unwrap();
    observer.observe(0, &[1.0, -2.0], &[2]).unwrap();
    assert_eq!(observer.range(), whole(-2.0, 2.0));
}

#[test]
fn every_float_type_is_observed() {
    let observer = TensorObserver::new(CalibrationSpec::MINMAX, None, 0).unwrap();
    let values = [0.5f32, -2.0, 1.0];
    observer
        .observe_tensor(0, &Tensor::vector(values.map(half::f16::from_f32).to_vec()))
        .unwrap();
    observer
        .observe_tensor(1, &Tensor::vector(vec![3.0f64]))
        .unwrap();
    assert_eq!(observer.range(), whole(-2.0, 3.0));
    assert!(observer.observe_tensor(2, &Tensor::scalar(1i32)).is_err());
}

#[test]
fn channels_have_ranges_of_their_own() {
    let observer = TensorObserver::new(CalibrationSpec::MINMAX, Some(1), 0).unwrap();
    let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    observer.observe(0, &values, &[1, 2, 3]).unwrap();
    observer.observe(1, &[-1.0, 9.0], &[1, 2, 1]).unwrap();
    let ranges = vec![ValueRange::new(-1.0, 3.0), ValueRange::new(4.0, 9.0)];
    let expected = Some(TensorRange::Channels { axis: 1, ranges });
    assert_eq!(observer.range(), expected);
    let other = observer.observe(2, &[0.0; 3], &[1, 3, 1]).unwrap_err();
    assert_eq!(other.to_string(), "expected 2 channels, found 3");
    assert!(observer.observe(2, &[0.0], &[1]).is_err());
}

#[test]
fn nan_and_infinity_are_named_and_not_observed() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for method in [Method::MINMAX, Method::ENTROPY] {
            let observer = TensorObserver::new(spec(method), None, 0).unwrap();
            observer.observe(0, &[1.0, 2.0], &[2]).unwrap();
            let before = observer.range();
            match observer.observe(1, &[-7.0, 0.0, bad, 9.0], &[4]) {
                Err(Error::NotFinite { index: 2, value }) => {
                    assert_eq!(value.to_bits(), bad.to_bits());
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(observer.range(), before);
        }
    }
}

/// Ranges of +-10, +-1 and +-2: the figures were observed in `onnxruntime.quantization`.
#[test]
fn moving_averages() {
    let run = |round, order: [usize; 3]| {
        let observer = TensorObserver::new(moving(round), None, 0).unwrap();
        for sample in order {
            let a = [10.0, 1.0, 2.0][sample];
            observer.observe(sample, &[a, -a, 0.0], &[3]).unwrap();
        }
        match observer.range() {
            Some(TensorRange::Tensor(range)) => range,
            other => panic!("{other:?}"),
        }
    };
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let mean = run(None, order);
        assert_eq!(mean, ValueRange::new(-13.0 / 3.0, 13.0 / 3.0));
        let rounds = run(Some(1), order);
        assert_eq!(rounds, ValueRange::new(-9.8309, 9.8309));
        let rounds = run(Some(2), order);
        assert_eq!(rounds, ValueRange::new(-5.465, 5.465));
    }
}

#[test]
fn merged_shards_are_the_single_run() {
    for spec in [CalibrationSpec::MINMAX, moving(None), moving(Some(2))] {
        let samples: Vec<[f32; 3]> = (0..7u16)
            .map(|i| [0.1, 0.7, 0.3].map(|v| v * f32::from(i * i % 5) - f32::from(i)))
            .collect();
        let observe = |which: &mut dyn Iterator<Item = usize>| {
            let observer = TensorObserver::new(spec, None, 0).unwrap();
            for i in which {
                observer.observe(i, &samples[i], &[3]).unwrap();
            }
            observer
        };
        let single = observe(&mut (0..7)).range();
        for shards in 2..5 {
            let merged = observe(&mut (0..0));
            for shard in (0..shards).rev() {
                let part = observe(&mut (0..7).rev().filter(|i| i % shards == shard));
                merged.merge(part).unwrap();
            }
            assert_eq!(merged.range(), single, "{spec:?} {shards}");
        }
    }
    let other = TensorObserver::new(moving(None), None, 0).unwrap();
    let observer = TensorObserver::new(CalibrationSpec::MINMAX, None, 0).unwrap();
    let axis = TensorObserver::new(CalibrationSpec::MINMAX, Some(0), 0).unwrap();
    assert!(observer.merge(other).is_err());
    assert!(observer.merge(axis).is_err());
}

#[test]
fn observers_of_a_model() {
    let observers = |names: &[&'static str]| {
        let tensors = names.iter().map(|&n| (n, None));
        Observers::new(CalibrationSpec::MINMAX, tensors, Observers::MEMORY).unwrap()
    };
    let see = |on: &Observers, sample: usize, v: f32| {
        on.get("x").unwrap().observe(sample, &[v], &[1]).unwrap();
        on.sample_done(sample);
    };
    let (a, b) = (observers(&["x", "unseen"]), observers(&["x", "unseen"]));
    see(&a, 0, 1.0);
    see(&b, 1, 2.0);
    a.merge(b).unwrap();
    assert_eq!(a.samples(), 2);
    let ranges = a.ranges();
    assert_eq!(ranges.get("x").cloned(), whole(1.0, 2.0));
    assert_eq!(ranges.len(), 1);
    let c = observers(&["x", "unseen"]);
    see(&c, 1, 7.0);
    assert_eq!(a.merge(c).unwrap_err().to_string(), "sample 1 is in both");
    for other in [&["x"][..], &["x", "unseen", "y"]] {
        assert!(a.merge(observers(other)).is_err());
    }
}

fn table() -> RangeTable {
    RangeTable {
        ranges: [
            ("x", TensorRange::Tensor(ValueRange::new(-0.1, 3.5e-7))),
            (
                "wéird \"name\"",
                TensorRange::Channels {
                    axis: -1,
                    ranges: vec![ValueRange::new(0.0, 1.0), ValueRange::new(-3.4e38, 2.5)],
                },
            ),
        ]
        .into_iter()
        .collect(),
        spec: Some(moving(Some(7))),
        samples: Some(64),
        model: Some("00ff".to_owned()),
        observers: None,
    }
}

#[test]
fn tables_are_read_back() {
    let table = table();
    let text = table.to_json();
    let read = RangeTable::from_json(text.as_bytes()).unwrap();
    assert_eq!(read.ranges, table.ranges);
    assert_eq!(read.spec, table.spec);
    assert_eq!((read.samples, &read.model), (table.samples, &table.model));
    assert_eq!(read.to_json(), text);
    assert!(text.contains("\n  \"x\": [-0.1, 3.5e-7],\n"), "{text}");
}

/// Two samples of each of two shards, by every method.
fn shards(keep: usize) -> impl Iterator<Item = (Observers, [RangeTable; 2])> {
    let methods = [
        Method::MINMAX,
        moving(Some(2)).method,
        Method::PERCENTILE,
        Method::ENTROPY,
        Method::DISTRIBUTION,
        Method::MSE,
    ];
    methods.into_iter().map(move |method| {
        let observers = || {
            let tensors = [("x", None), ("channels", Some(-1)), ("unseen", Some(0))];
            Observers::new(spec(method), tensors, 3 * 4 * keep).unwrap()
        };
        let see = |on: &Observers, sample: usize| {
            let a = sample as f32;
            let values = [0.0, a, -0.3 * a * a, 1e-3, 1.0, -0.0];
            on.get("x").unwrap().observe(sample, &values, &[6]).unwrap();
            let channels = on.get("channels").unwrap();
            channels.observe(sample, &values, &[3, 2]).unwrap();
            on.sample_done(sample);
        };
        let single = observers();
        (0..4).for_each(|sample| see(&single, sample));
        let shards = [0, 1].map(|shard| {
            let observers = observers();
            [1, 0].iter().for_each(|i| see(&observers, 2 * i + shard));
            RangeTable::of(observers, Some("00ff".to_owned()), true)
        });
        (single, shards)
    })
}

#[test]
fn shards_are_written_read_and_merged() {
    for keep in [0, 15, 30] {
        for (single, shards) in shards(keep) {
            let [a, b] = shards.map(|shard| {
                let text = shard.to_json();
                let read = RangeTable::from_json(text.as_bytes()).unwrap();
                assert_eq!(read.to_json(), text);
                read
            });
            let merged = a.merge(b).unwrap();
            let single = RangeTable::of(single, Some("00ff".to_owned()), true);
            assert_eq!(merged.ranges, single.ranges);
            assert_eq!(merged.samples, Some(4));
            assert_eq!(merged.to_json(), single.to_json());
        }
    }
}

#[test]
fn what_does_not_fit_is_not_merged() {
    let merge = |a: RangeTable, b: RangeTable| a.merge(b).unwrap_err().to_string();
    let [a, b] = shards(0).next().unwrap().1;
    let other_model = RangeTable { model: None, ..b };
    assert!(merge(a, other_model).contains("different models"));
    let [a, b] = shards(0).next().unwrap().1;
    let ranges = RangeTable {
        observers: None,
        ..b
    };
    assert!(merge(a, ranges).contains("ranges alone"));
    let [[a, _], [again, _]] = [0, 0].map(|_| shards(0).next().unwrap().1);
    assert!(merge(a, again).contains("sample 0 is in both"));
    let [a, _] = shards(0).nth(2).unwrap().1;
    let [_, b] = shards(0).nth(3).unwrap().1;
    assert!(merge(a, b).contains("different methods"));
}

#[test]
fn damaged_observations_are_errors() {
    for keep in [0, 30] {
        for (_, [table, _]) in shards(keep) {
            let text = table.to_json();
            // One byte at a time; what is still read is still consistent.
            for at in 0..text.len() {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = if bytes[at] == b'1' { b'9' } else { b'1' };
                let read = RangeTable::from_json(&bytes);
                if at % 199 == 0 {
                    _ = read.map(|table| table.observers.map(|o| o.ranges()));
                }
            }
        }
    }
    let read = |from: &str, to: &str| {
        let [table, _] = shards(30).nth(2).unwrap().1;
        let text = table.to_json();
        assert!(text.contains(from), "{text}");
        RangeTable::from_json(text.replace(from, to).as_bytes())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        read(r#""count": 12"#, r#""count": 13"#),
        "the observations of `x` are not valid"
    );
    assert_eq!(
        read(r#"[0, 0]"#, r#"[0, 18446744073709551615]"#),
        "the numbers of samples are not valid"
    );
    assert!(read(r#""bins": 2048"#, r#""bins": 0"#).contains("number of bins"));
    assert!(read(r#""keep""#, r#""kept""#).contains("missing field `keep`"));
}

#[test]
fn other_forms_of_tables_are_read() {
    let x = |text: &str| {
        let table = RangeTable::from_json(text.as_bytes()).unwrap();
        table.ranges.get("x").cloned()
    };
    assert_eq!(x(r#"{"x": [-1, 2.5], "y": [0, 0]}"#), whole(-1.0, 2.5));
    let cache = r#"{"CLS": "TensorsData", "smooth_quant": false,
        "calibration_method": {"CLS": "CalibrationMethod", "value": "CalibrationMethod.MinMax"},
        "data": {
            "x": {"lowest": {"data": [-0.5], "dtype": "float32", "CLS": "numpy.array"},
                  "highest": {"data": 1.5, "dtype": "float32", "CLS": "numpy.array"},
                  "CLS": "TensorData"},
            "y": {"lowest": -1.0, "highest": 1.0, "CLS": "TensorData"}}}"#;
    assert_eq!(x(cache), whole(-0.5, 1.5));
}

#[test]
fn bad_tables_are_errors_that_name_the_tensor() {
    let error = |text: &str| {
        RangeTable::from_json(text.as_bytes())
            .unwrap_err()
            .to_string()
    };
    assert!(error("").starts_with("this is not JSON"));
    assert!(error(&"[".repeat(100_000)).starts_with("this is not JSON"));
    assert!(error("[]").starts_with("expected an object"));
    for bad in [
        r#"{"x": [2, 1]}"#,
        r#"{"x": [1]}"#,
        r#"{"x": [0, 1e39]}"#,
        r#"{"x": ["0", 1]}"#,
        r#"{"x": {"axis": 1, "lo": [0, 1], "hi": [1]}}"#,
        r#"{"ranges": {"x": null}}"#,
        r#"{"CLS": "TensorsData", "data": {"x": {"lowest": 1}}}"#,
    ] {
        assert!(
            error(bad).starts_with("the range of `x`: expected"),
            "{bad}"
        );
    }
    assert!(error(r#"{"CLS": "TensorsData"}"#).contains("no `data`"));
}
