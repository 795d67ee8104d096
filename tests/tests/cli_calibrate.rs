//! The command line's contract: calibration, and what quantizes with its ranges.

use std::fs;

use onnxq::data::write_npz;
use onnxq_tensor::Tensor;
use onnxq_tests::program::{Outcome, Workbench};
use serde_json::Value;

const MODEL: &str = r#"<ir_version: 8, opset_import: ["": 13]>
main (float[N, 4] x) => (float[N, 3] y)
<float[4, 3] w = {1, -2, 0.5, 0.25, 3, -1, 2, 1, 0.125, -0.5, 0.75, 1.5}, float[3] b = {0.5, -0.5, 0.25}>
{
    [head] m = MatMul (x, w)
    [bias] a = Add (m, b)
    [act] y = Relu (a)
}"#;

fn values(rows: usize, columns: usize) -> Tensor {
    let value = |i: usize| ((i * 37 % 64) as f32) / 32.0 - 1.0;
    let values = (0..rows * columns).map(value).collect();
    Tensor::from_vec([rows, columns].as_slice(), values).unwrap()
}

/// A folder with `model.onnx` and `data.npz`, of ten samples.
fn bench() -> Workbench {
    let bench = Workbench::new();
    bench.write("text.txt", MODEL);
    let outcome = bench.run(["text.txt", "--passes", "", "-o", "model.onnx"]);
    outcome.success().unwrap();
    fs::remove_file(bench.path("text.txt")).unwrap();
    put(&bench, "data.npz", "x", values(10, 4));
    bench
}

fn put(bench: &Workbench, file: &str, array: &str, tensor: Tensor) {
    write_npz(&bench.path(file), &[(array.to_owned(), tensor)]).unwrap();
}

fn calibrate(bench: &Workbench, options: &[&str]) -> Outcome {
    bench.run([&["calibrate", "model.onnx"], options].concat())
}

fn json(bench: &Workbench, file: &str) -> Value {
    serde_json::from_slice(&fs::read(bench.path(file)).unwrap()).unwrap()
}

#[test]
fn ranges_go_to_a_file() {
    let bench = bench();
    calibrate(&bench, &["--data", "data.npz", "-o", "r.json"])
        .success()
        .unwrap();
    let table = json(&bench, "r.json");
    let ranges = table["ranges"].as_object().unwrap();
    let names: Vec<&str> = ranges.keys().map(String::as_str).collect();
    assert_eq!(names, ["x", "m", "a", "y"]);
    assert_eq!(ranges["x"], serde_json::json!([-1.0, 0.96875]));
    assert_eq!(table["samples"], 10);
    assert_eq!(table["model"].as_str().unwrap().len(), 64);
    assert_eq!(bench.files(), ["data.npz", "model.onnx", "r.json"]);
    for threads in ["1", "4"] {
        let options = [
            "--data",
            "data.npz",
            "-o",
            "again.json",
            "--threads",
            threads,
        ];
        calibrate(&bench, &options).success().unwrap();
        let read = |file| fs::read(bench.path(file)).unwrap();
        assert_eq!(read("again.json"), read("r.json"));
    }
}

#[test]
fn methods_have_their_options_in_braces() {
    let bench = bench();
    let range = |method: &str| {
        let options = ["--data", "data.npz", "-o", "r.json", "--method", method];
        calibrate(&bench, &options).success().unwrap();
        json(&bench, "r.json")["ranges"]["x"].clone()
    };
    assert_eq!(range("minmax"), serde_json::json!([-1.0, 0.96875]));
    assert_eq!(
        range("minmax{symmetric-ranges}"),
        serde_json::json!([-1.0, 1.0])
    );
    let kept = range("percentile{percentile=50 num-bins=32}");
    assert!(kept[1].as_f64().unwrap() < 0.75, "{kept}");
    for method in [
        "maxmin",
        "percentile{percentile=200}",
        "minmax{bins=3}",
        "entropy,mse",
    ] {
        let options = ["--data", "data.npz", "-o", "x.json", "--method", method];
        calibrate(&bench, &options).failure(2).unwrap();
    }
    assert!(!bench.path("x.json").exists());
}

#[test]
fn bad_arguments_have_status_2() {
    let bench = bench();
    for options in [
        &[][..],
        &["--data", "data.npz"],
        &["-o", "r.json"],
        &["--data", "data.npz", "-o", "r.json", "--shard", "0/2"],
        &["--data", "data.npz", "-o", "r.json", "--shard", "3/2"],
        &["--data", "data.npz", "-o", "r.json", "--shard", "2"],
        &["--data", "data.npz", "-o", "r.json", "--batch", "0"],
        &["--data", "data.npz", "-o", "r.json", "--threads", "many"],
    ] {
        let outcome = calibrate(&bench, options);
        outcome
            .failure(2)
            .unwrap_or_else(|e| panic!("{options:?}: {e}"));
    }
    assert_eq!(bench.files(), ["data.npz", "model.onnx"]);
}

#[test]
fn bad_data_is_named_and_has_status_1() {
    let bench = bench();
    let mut bad = vec![0.5f32; 12];
    bad[6] = f32::NAN;
    put(
        &bench,
        "nan.npz",
        "x",
        Tensor::from_vec([3, 4].as_slice(), bad).unwrap(),
    );
    put(&bench, "name.npz", "input", values(2, 4));
    put(&bench, "shape.npz", "x", values(2, 5));
    put(
        &bench,
        "type.npz",
        "x",
        Tensor::from_vec([1, 4].as_slice(), vec![1i64; 4]).unwrap(),
    );
    bench.write("text.npz", "no archive");
    for (file, expected) in [
        ("nan.npz", "array 'x' is NaN at element 2 of sample 1"),
        (
            "name.npz",
            "array 'x' is missing: the model needs float[N, 4]",
        ),
        ("shape.npz", "expected float[N, 4]"),
        ("type.npz", "expected float[N, 4]"),
        ("text.npz", "is no .npz file"),
        ("none.npz", "none.npz"),
    ] {
        let outcome = calibrate(&bench, &["--data", file, "-o", "r.json"]);
        let (message, _) = outcome.failure(1).unwrap();
        assert!(
            message.contains(file) && message.contains(expected),
            "{message}"
        );
        let outcome = bench.run([
            "model.onnx",
            "--passes",
            "quantize",
            "--calibration-data",
            file,
            "-o",
            "q.onnx",
        ]);
        let (message, _) = outcome.failure(1).unwrap();
        assert!(
            message.contains(file) && message.contains(expected),
            "{message}"
        );
    }
    let options = ["--data", "data.npz", "-o", "r.json", "--shard", "11/11"];
    calibrate(&bench, &options).failure(1).unwrap();
    assert!(!bench.path("r.json").exists() && !bench.path("q.onnx").exists());
}

#[test]
fn data_may_be_several_files_in_batches() {
    let bench = bench();
    put(&bench, "more.npz", "x", values(4, 4));
    let samples = |options: &[&str]| {
        let options = [&["--data", "data.npz", "-o", "r.json"], options].concat();
        calibrate(&bench, &options).success().unwrap();
        json(&bench, "r.json")["samples"].as_u64().unwrap()
    };
    assert_eq!(samples(&["--data", "more.npz"]), 14);
    assert_eq!(samples(&["--data", "more.npz", "--batch", "2"]), 7);
    assert_eq!(samples(&["--batch", "all"]), 1);
    assert_eq!(samples(&["--shard", "2/3"]), 3);
}

#[test]
fn merged_shards_are_one_run() {
    let bench = bench();
    for method in ["minmax", "minmax{moving-average}", "entropy", "percentile"] {
        let run = |options: &[&str]| {
            let options = [&["--data", "data.npz", "--method", method], options].concat();
            calibrate(&bench, &options).success().unwrap();
        };
        run(&["-o", "whole.json"]);
        run(&["-o", "a.json", "--shard", "1/3"]);
        run(&["-o", "b.json", "--shard", "2/3"]);
        run(&["-o", "c.json", "--shard", "3/3"]);
        let merge = [
            "calibrate",
            "merge",
            "c.json",
            "a.json",
            "b.json",
            "-o",
            "merged.json",
        ];
        bench.run(merge).success().unwrap();
        let ranges = |file| json(&bench, file)["ranges"].to_string();
        assert_eq!(ranges("merged.json"), ranges("whole.json"), "{method}");
        assert_eq!(json(&bench, "merged.json")["samples"], 10);
    }
}

#[test]
fn what_does_not_belong_together_is_not_merged() {
    let bench = bench();
    let run = |model: &str, options: &[&str]| {
        let options = [&["calibrate", model, "--data", "data.npz"], options].concat();
        bench.run(options).success().unwrap();
    };
    bench.write("other.txt", MODEL.replace("0.75", "0.5"));
    run("model.onnx", &["-o", "a.json", "--shard", "1/2"]);
    run("model.onnx", &["-o", "whole.json"]);
    run(
        "model.onnx",
        &[
            "-o",
            "mean.json",
            "--shard",
            "2/2",
            "--method",
            "minmax{moving-average}",
        ],
    );
    run("other.txt", &["-o", "other.json", "--shard", "2/2"]);
    bench.write("bad.json", "{");
    for (file, expected) in [
        ("a.json", "sample 0 is in both"),
        ("whole.json", "ranges alone"),
        ("mean.json", "different"),
        ("other.json", "different models"),
        ("bad.json", "not JSON"),
        ("none.json", "none.json"),
    ] {
        let outcome = bench.run(["calibrate", "merge", "a.json", file, "-o", "m.json"]);
        let (message, _) = outcome.failure(1).unwrap();
        assert!(
            message.contains(file) && message.contains(expected),
            "{message}"
        );
    }
    for args in [
        &["calibrate", "merge", "-o", "m.json"][..],
        &["calibrate", "merge", "a.json"],
        &[
            "calibrate",
            "model.onnx",
            "--data",
            "data.npz",
            "-o",
            "m.json",
            "--shard",
            "1/2",
            "--format",
            "trt-text",
        ],
    ] {
        bench.run(args).failure(2).unwrap();
    }
    assert!(!bench.path("m.json").exists());
}

#[test]
fn tables_for_tensorrt() {
    let bench = bench();
    for (format, file) in [("trt-text", "t.txt"), ("trt-flatbuffers", "t.flatbuffers")] {
        let options = ["--data", "data.npz", "-o", file, "--format", format];
        calibrate(&bench, &options).success().unwrap();
        let table = fs::read(bench.path(file)).unwrap();
        let has = |name: &str| table.windows(name.len()).any(|w| w == name.as_bytes());
        assert!(has("x") && has("a") && has("y"), "{format}");
    }
}
