//! `onnxq-opt compare`: figures, tolerances, exit status, and the form for programs.

use onnxq::data;
use onnxq_tensor::Tensor;
use onnxq_tests::{
    oracle::{Tensors, oracle},
    program::{Outcome, Workbench},
    workspace_dir,
};
use serde_json::Value;

const HEAD: &str = r#"<ir_version: 8, opset_import: ["": 13]>"#;

/// A folder with two models whose outputs differ by 0.25 in every element, and data for them.
fn bench() -> Workbench {
    let bench = Workbench::new();
    let model = |name: &str, offset: f32| {
        let text = format!(
            "{HEAD}\nmain (float[N, 4] x) => (float[N, 4] y) <float c = {{{offset}}}> \
             {{ y = Add (x, c) }}"
        );
        let source = format!("{name}.txt");
        bench.write(&source, text);
        let output = format!("{name}.onnx");
        let outcome = bench.run([source.as_str(), "--passes", "", "-o", &output]);
        outcome.success().unwrap();
    };
    model("a", 1.0);
    model("b", 1.25);
    let values = (0..20u8).map(f32::from).collect();
    let x = Tensor::from_vec([5, 4].as_slice(), values).unwrap();
    data::write_npz(&bench.path("x.npz"), &[("x".to_owned(), x)]).unwrap();
    bench
}

fn compare(bench: &Workbench, more: &[&str]) -> Outcome {
    let args = ["compare", "a.onnx", "b.onnx", "--data", "x.npz"];
    bench.run(args.iter().chain(more))
}

#[test]
fn prints_a_table() {
    let outcome = compare(&bench(), &[]);
    let text = outcome.success().unwrap().text();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        [
            "output", "max", "abs", "mean", "abs", "SQNR", "cosine", "top-1"
        ]
    );
    let row = &lines[1];
    assert_eq!(row[..3], ["y", "2.500000e-1", "2.500000e-1"], "{text}");
    assert_eq!(row[4], "dB");
    assert_eq!(row[6..], ["100.00", "%", "of", "5"]);
    assert_eq!(text.lines().last(), Some("5 samples"));
    assert!(outcome.stderr.is_empty());
}

#[test]
fn the_form_for_programs_is_stable() {
    let outcome = compare(&bench(), &["--json"]);
    let report: Value = serde_json::from_slice(&outcome.success().unwrap().stdout).unwrap();
    let mut keys: Vec<&String> = report.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["a", "b", "outputs", "samples", "within_tolerance"]);
    assert_eq!(report["within_tolerance"], true);
    assert_eq!(
        (&report["a"], &report["samples"]),
        (&"a.onnx".into(), &5.into())
    );
    let y = &report["outputs"][0];
    let mut keys: Vec<&String> = y.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "cosine", "dtype", "elements", "max_abs", "mean_abs", "name", "sqnr_db", "top1"
        ]
    );
    assert_eq!((&y["name"], &y["elements"]), (&"y".into(), &20.into()));
    assert_eq!((&y["max_abs"], &y["top1"]), (&0.25.into(), &1.0.into()));
    assert!(y["sqnr_db"].as_f64().unwrap() > 30.0);
}

#[test]
fn tolerances_decide_on_the_exit_status() {
    let bench = bench();
    for within in [
        &["--abs-tol", "0.25"][..],
        &["--mean-tol", "0.3"],
        &["--abs-tol", "1", "--mean-tol", "1e0"],
    ] {
        compare(&bench, within).success().unwrap();
    }
    for (over, figure) in [
        (&["--abs-tol", "0.2"][..], "largest"),
        (&["--mean-tol", "0"], "mean"),
        (&["--abs-tol", "1", "--mean-tol", "0.1"], "mean"),
        (&["--json", "--abs-tol", "0"], "largest"),
    ] {
        let outcome = compare(&bench, over);
        assert_eq!(outcome.status, Some(3), "{over:?}: {}", outcome.stderr);
        let said = &outcome.stderr;
        assert!(said.starts_with("error: output 'y': "), "{said}");
        assert!(said.contains(figure) && said.lines().count() == 1, "{said}");
        // The figures are there all the same.
        assert!(outcome.text().contains('y'));
    }
    let outcome = compare(&bench, &["--json", "--abs-tol", "0"]);
    let report: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(report["within_tolerance"], false);
}

#[test]
fn a_model_equals_itself() {
    let bench = bench();
    let args = [
        "compare",
        "a.onnx",
        "a.onnx",
        "--data",
        "x.npz",
        "--abs-tol",
        "0",
    ];
    let text = bench.run(args).success().unwrap().text();
    assert!(text.contains("equal"), "{text}");
}

#[test]
fn bad_arguments_data_and_models_are_told_apart() {
    let bench = bench();
    for bad in [
        &["--abs-tol", "-1"][..],
        &["--mean-tol", "NaN"],
        &["--batch", "0"],
    ] {
        compare(&bench, bad).failure(2).unwrap();
    }
    bench
        .run(["compare", "a.onnx", "b.onnx"])
        .failure(2)
        .unwrap();
    let outcome = bench.run(["compare", "a.onnx", "no.onnx", "--data", "x.npz"]);
    assert!(outcome.failure(1).unwrap().0.contains("no.onnx"));
    let outcome = bench.run(["compare", "a.onnx", "b.onnx", "--data", "no.npz"]);
    assert!(outcome.failure(1).unwrap().0.contains("no.npz"));
    bench.write(
        "c.txt",
        format!("{HEAD}\nmain (float[N, 4] x) => (float[N, 4] z) {{ z = Neg (x) }}"),
    );
    let outcome = bench.run(["compare", "a.onnx", "c.txt", "--data", "x.npz"]);
    let (message, _) = outcome.failure(1).unwrap();
    assert!(
        message.contains("c.txt") && message.contains("output 'y'"),
        "{message}"
    );
}

#[test]
fn figures_are_those_of_the_outputs() {
    let bench = Workbench::new();
    let digits = workspace_dir().join("docs/examples/digits");
    let model = digits.join("digits.onnx");
    let quantize = [
        model.as_os_str(),
        "--passes".as_ref(),
        "preprocess,quantize{mode=dynamic},fuse".as_ref(),
        "-o".as_ref(),
        "q.onnx".as_ref(),
    ];
    bench.run(quantize).success().unwrap();
    let calib = digits.join("digits_calib.npz");
    let x = oracle().read_npz(&calib).unwrap()["input"]
        .rows(0..8)
        .unwrap();
    data::write_npz(&bench.path("x.npz"), &[("input".to_owned(), x.clone())]).unwrap();
    let compare = [
        "compare".as_ref(),
        model.as_os_str(),
        "q.onnx".as_ref(),
        "--data".as_ref(),
        "x.npz".as_ref(),
        "--json".as_ref(),
    ];
    let outcome = bench.run(compare);
    let report: Value = serde_json::from_slice(&outcome.success().unwrap().stdout).unwrap();
    let inputs = Tensors::from_iter([("input".to_owned(), x)]);
    let run = |path| oracle().run(path, &inputs, Default::default()).unwrap();
    let (float, codes) = (run(&model), run(&bench.path("q.onnx")));
    let name = report["outputs"][0]["name"].as_str().unwrap();
    let expected = onnxq_tests::metrics::compare(&float[name], &codes[name]).unwrap();
    let found = report["outputs"][0]["sqnr_db"].as_f64().unwrap();
    // ONNX Runtime takes the rows in one batch, for which one scale is computed.
    assert!(
        (found - expected.sqnr_db).abs() < 3.0,
        "{found} {expected:?}"
    );
    assert_eq!(report["samples"], 8);
}
