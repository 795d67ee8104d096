//! Calibration: what is observed, whatever threads and shards, and what is refused.

use onnxq::{
    Calibrate, CalibrationOptions, Calibrator, RangeRequest, Shard,
    calibrate::{calibrate, float_tensors, parse_method},
    data::{Batch, Data, Sample, write_npz},
    ir::Model,
    quant::{CalibrationSpec, Method, Ranges, TensorRange, tables::RangeTable},
    tensor::Tensor,
};

const MODEL: &str = r#"<ir_version: 8, opset_import: ["": 13]>
main (float[N, 4] x) => (float[N, 3] y)
<float[4, 3] w = {1, -2, 0.5, 0.25, 3, -1, 2, 1, 0.125, -0.5, 0.75, 1.5}, float[3] b = {0.5, -0.5, 0.25}>
{
    m = MatMul (x, w)
    a = Add (m, b)
    y = Relu (a)
}"#;

fn model() -> Model {
    onnxq::parse(MODEL).unwrap()
}

fn rows(rows: usize, seed: usize) -> Tensor {
    let value = |i: usize| (((i + 1) * (seed + 7) * 2_654_435_761) % 1009) as f32 / 504.5 - 1.0;
    Tensor::from_vec([rows, 4].as_slice(), (0..rows * 4).map(value).collect()).unwrap()
}

/// Samples of one to three rows.
fn ragged(samples: usize) -> Data {
    Data::from_samples((0..samples).map(|i| vec![Some(rows(1 + i % 3, i))]))
}

fn options(method: &str) -> CalibrationOptions {
    CalibrationOptions {
        spec: parse_method(method).unwrap(),
        ..CalibrationOptions::default()
    }
}

fn run(data: &Data, options: &CalibrationOptions) -> RangeTable {
    calibrate(&model(), data, options, &mut |_, _| {}).unwrap()
}

fn range(ranges: &Ranges, tensor: &str) -> (f32, f32) {
    let range = ranges.get(tensor).unwrap().whole();
    (range.lo, range.hi)
}

const METHODS: [&str; 8] = [
    "minmax",
    "minmax{moving-average}",
    "minmax{symmetric-ranges}",
    "entropy{num-bins=64 num-quantized-bins=16}",
    "percentile{percentile=90 num-bins=64}",
    "percentile{percentile=90 symmetric-ranges=false}",
    "distribution",
    "mse{num-bins=64}",
];

#[test]
fn every_float_tensor_is_observed() {
    let samples: [Sample; 2] = [[1.0f32, 0.0, 0.0, 0.0], [0.0, -2.0, 0.0, 0.0]].map(|x| {
        vec![Some(
            Tensor::from_vec([1, 4].as_slice(), x.to_vec()).unwrap(),
        )]
    });
    let calibration = run(&Data::from_samples(samples), &options("minmax"));
    assert_eq!(calibration.samples, Some(2));
    let ranges = calibration.ranges;
    let names: Vec<&str> = ranges.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["x", "m", "a", "y"]);
    assert_eq!(range(&ranges, "x"), (-2.0, 1.0));
    assert_eq!(range(&ranges, "m"), (-6.0, 2.0));
    assert_eq!(range(&ranges, "a"), (-6.5, 2.25));
    assert_eq!(range(&ranges, "y"), (0.0, 2.25));
}

#[test]
fn ranges_do_not_depend_on_threads() {
    let data = ragged(37);
    for method in METHODS {
        let on = |threads| CalibrationOptions {
            threads: Some(threads),
            ..options(method)
        };
        let one = run(&data, &on(1)).to_json();
        for threads in [2, 4, 64] {
            let many = run(&data, &on(threads)).to_json();
            assert_eq!(one, many, "{method} on {threads} threads");
        }
    }
}

#[test]
fn shards_merge_into_what_one_run_gives() {
    let data = ragged(23);
    for method in METHODS {
        let whole = run(&data, &options(method));
        let shard = |index| {
            let shard = Shard { index, count: 3 };
            let part = run(
                &data,
                &CalibrationOptions {
                    shard,
                    ..options(method)
                },
            );
            RangeTable::from_json(part.to_json().as_bytes()).unwrap()
        };
        let merged = shard(2).merge(shard(3)).unwrap();
        assert_eq!(merged.samples, Some(15));
        let merged = merged.merge(shard(1)).unwrap();
        assert_eq!(merged.samples, whole.samples);
        assert_eq!(merged.ranges, whole.ranges, "{method}");
    }
}

#[test]
fn what_does_not_belong_together_is_not_merged() {
    let data = ragged(4);
    let shard = |model: &Model, method: &str, index| {
        let shard = Shard { index, count: 2 };
        let options = CalibrationOptions {
            shard,
            ..options(method)
        };
        calibrate(model, &data, &options, &mut |_, _| {}).unwrap()
    };
    let refused = |other| {
        let first = shard(&model(), "minmax", 1);
        first.merge(other).unwrap_err().to_string()
    };
    assert!(refused(shard(&model(), "minmax", 1)).contains("sample 0"));
    refused(shard(&model(), "minmax{moving-average}", 2));
    refused(run(&data, &options("minmax")));
    let other = onnxq::parse(&MODEL.replace("0.75", "0.5")).unwrap();
    assert!(refused(shard(&other, "minmax", 2)).contains("different models"));
    let error = |index, count| {
        let shard = Shard { index, count };
        let options = CalibrationOptions {
            shard,
            ..options("minmax")
        };
        calibrate(&model(), &data, &options, &mut |_, _| {})
            .unwrap_err()
            .to_string()
    };
    assert!(error(0, 2).contains("from 1 to 2"));
    assert!(error(9, 9).contains("4 samples"));
}

#[test]
fn no_data_is_left_out() {
    // The reference tool keeps the last samples only when it limits what it holds in memory.
    let one = |x: f32| {
        vec![Some(
            Tensor::from_vec([1, 4].as_slice(), vec![x, -x, x, -x]).unwrap(),
        )]
    };
    let data = Data::from_samples([10.0, 1.0, 2.0].map(one));
    let ranges = run(&data, &options("minmax")).ranges;
    assert_eq!(range(&ranges, "x"), (-10.0, 10.0));
    let ranges = run(&data, &options("minmax{moving-average}")).ranges;
    let mean = 13.0f32 / 3.0;
    assert_eq!(range(&ranges, "x"), (-mean, mean));
}

#[test]
fn what_is_not_finite_is_named() {
    let with = |value: f32, at: usize| {
        let mut samples: Vec<Vec<f32>> = vec![vec![0.5; 4]; 6];
        samples[at][2] = value;
        Data::from_samples(
            samples
                .into_iter()
                .map(|x| vec![Some(Tensor::from_vec([1, 4].as_slice(), x).unwrap())]),
        )
    };
    let error = |model: &Model, data: &Data| {
        calibrate(model, data, &options("minmax"), &mut |_, _| {})
            .unwrap_err()
            .to_string()
    };
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let message = error(&model(), &with(value, 4));
        assert!(
            message.contains("array 'x'") && message.contains("element 2 of sample 4"),
            "{message}"
        );
    }
    let model = onnxq::parse(
        r#"<ir_version: 8, opset_import: ["": 13]>
        main (float[N, 4] x) => (float[N, 4] y)
        { root = Sqrt (x)
          y = Relu (root) }"#,
    )
    .unwrap();
    let message = error(&model, &with(-1.0, 3));
    assert!(
        message.contains("sample 3") && message.contains("'root'") && message.contains("NaN"),
        "{message}"
    );
}

#[test]
fn the_first_sample_that_fails_is_named() {
    let mut samples: Vec<Sample> = (0..40).map(|i| vec![Some(rows(1, i))]).collect();
    for bad in [9, 10, 30] {
        samples[bad] = vec![Some(
            Tensor::zeros(onnxq::tensor::DType::F32, [1, 5].as_slice()).unwrap(),
        )];
    }
    let data = Data::from_samples(samples);
    for _ in 0..5 {
        let options = CalibrationOptions {
            threads: Some(4),
            ..options("minmax")
        };
        let error = calibrate(&model(), &data, &options, &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("sample 9: input 'x'"), "{error}");
    }
}

/// A table serves static quantization as data does: it tells features apart whose ranges differ.
#[test]
fn inputs_of_features_have_ranges_for_each() {
    let table = run(&ragged(3), &options("minmax"));
    let x = table.ranges.get("x").unwrap();
    assert!(matches!(x, TensorRange::Channels { axis: 1, ranges } if ranges.len() == 4));
    let m = table.ranges.get("m").unwrap();
    assert!(matches!(m, TensorRange::Tensor(_)));
    // Thresholds of features are not those of the tensor.
    let table = run(&ragged(3), &options("percentile"));
    let x = table.ranges.get("x").unwrap();
    assert!(matches!(x, TensorRange::Tensor(_)));
}

/// Rows of different lengths have no features.
#[test]
fn inputs_of_any_length_have_one_range() {
    let model = onnxq::parse(
        r#"<ir_version: 8, opset_import: ["": 13]>
        main (float[N, T] x) => (float[N, T] y) { y = Relu (x) }"#,
    )
    .unwrap();
    let sample = |len: usize| {
        let x = Tensor::from_vec([1, len].as_slice(), vec![len as f32; len]).unwrap();
        vec![Some(x)]
    };
    let data = Data::from_samples([3, 5].map(sample));
    let table = calibrate(&model, &data, &options("minmax"), &mut |_, _| {}).unwrap();
    assert_eq!(range(&table.ranges, "x"), (3.0, 5.0));
}

#[test]
fn bodies_are_observed() {
    let model = onnxq::parse(
        r#"<ir_version: 8, opset_import: ["": 13]>
        main (float[2] x, bool c) => (float[2] y)
        {
            h = Relu (x)
            y = If (c) <
                then_branch = then () => (float[2] t) { i = Neg (h)  t = Exp (i) },
                else_branch = otherwise () => (float[2] e) { e = Abs (h) }
            >
        }"#,
    )
    .unwrap();
    let tensors = float_tensors(&model, &Method::MINMAX);
    assert!(tensors.keys().eq(["x", "h", "i", "t", "e", "y"]));
    assert!(tensors.values().all(Option::is_none));
    let sample = |x: [f32; 2], c| {
        let c = Tensor::from_bools([].as_slice(), vec![c]).unwrap();
        vec![Some(Tensor::vector(x.to_vec())), Some(c)]
    };
    let data = Data::from_samples([sample([1.0, -3.0], true), sample([0.0, 2.0], true)]);
    let calibration = calibrate(&model, &data, &options("minmax"), &mut |_, _| {}).unwrap();
    let ranges = calibration.ranges;
    assert_eq!(range(&ranges, "i"), (-2.0, 0.0));
    assert!(ranges.get("e").is_none());
    assert_eq!(range(&ranges, "y"), (range(&ranges, "t")));
}

#[test]
fn a_calibrator_gives_what_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calib.npz");
    write_npz(&path, &[("x".to_owned(), rows(8, 3))]).unwrap();
    let request = RangeRequest {
        tensors: [("m".to_owned(), Some(1)), ("y".to_owned(), None)]
            .into_iter()
            .collect(),
        spec: CalibrationSpec::MINMAX,
    };
    let mut seen = Vec::new();
    let ranges = Calibrator::files([&path], Batch::Rows(2))
        .threads(2)
        .calibrate(&model(), &request, &mut |done, total| {
            seen.push((done, total))
        })
        .unwrap();
    assert_eq!(seen, [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]);
    assert_eq!(ranges.len(), 2);
    match ranges.get("m").unwrap() {
        TensorRange::Channels { axis: 1, ranges } => assert_eq!(ranges.len(), 3),
        other => panic!("{other:?}"),
    }
    let missing = Calibrator::files([folder.path().join("none.npz")], Batch::Auto);
    let message = missing
        .calibrate(&model(), &request, &mut |_, _| {})
        .unwrap_err();
    assert!(message.contains("none.npz"), "{message}");
}
