//! `onnxq-opt bench`: the table, the form for programs, profiles, made-up dimensions, errors. What it
//! measures depends on the machine; no test looks at that.

use onnxq::Cpu;
use onnxq_tests::program::{Outcome, Workbench};
use serde_json::Value;

/// A product and what makes bytes and floats around it.
const MODEL: &str = r#"<ir_version: 8, opset_import: ["": 17]>
main (float[N, 8] x) => (float[N, 4] y)
<float[8, 4] w = ["seed": "1"], float[4] b = ["seed": "2"]>
{
    [product] h = MatMul (x, w)
    [sum] y = Add (h, b)
}"#;

/// The shape of the result depends on data.
const DATA_DEPENDENT: &str = r#"<ir_version: 8, opset_import: ["": 17]>
main (float[N] x) => (uint8[M] y)
<float s = {0.5}, uint8 z = {3}>
{ at = NonZero (x) rows = Squeeze (at) kept = Gather (x, rows) y = QuantizeLinear (kept, s, z) }"#;

/// A folder with a float model and what dynamic quantization makes of it.
fn bench() -> Workbench {
    let bench = Workbench::new();
    bench.write("a.txt", MODEL);
    for (passes, output) in [
        ("", "a.onnx"),
        ("preprocess,quantize{mode=dynamic},fuse", "q.onnx"),
    ] {
        let outcome = bench.run(["a.txt", "--passes", passes, "-o", output]);
        outcome.success().unwrap();
    }
    bench
}

fn run(bench: &Workbench, args: &[&str]) -> Outcome {
    bench.run(["bench", "--runs", "7"].iter().chain(args))
}

fn cells(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn the_table_has_a_row_for_each_model() {
    let bench = bench();
    let outcome = run(&bench, &["a.onnx", "q.onnx", "--threads", "2"]);
    let text = outcome.success().unwrap().text();
    let lines: Vec<Vec<&str>> = text.lines().map(cells).collect();
    let [head, a, q] = &lines[..] else {
        panic!("{text}");
    };
    assert_eq!(
        head.join(" "),
        "model threads isa runs first run min p90 median ratio"
    );
    let isa = Cpu::detect().isa().name();
    // Floats are computed on one thread.
    assert_eq!(a[..4], ["a.onnx", "1", isa, "7"]);
    assert_eq!(q[..4], ["q.onnx", "2", isa, "7"]);
    // Times with their unit, the median the last of them: that is what programs look for.
    for row in [a, q] {
        let [first, "ms", min, "ms", p90, "ms", median, "ms", ratio] = row[4..] else {
            panic!("{text}");
        };
        let [first, min, p90, median, ratio] =
            [first, min, p90, median, ratio].map(|x| x.parse::<f64>().unwrap());
        assert!(min <= median && median <= p90 && first > 0.0, "{text}");
        assert!(ratio > 0.0, "{text}");
    }
    assert_eq!(a.last(), Some(&"1.000"));
}

#[test]
fn the_form_for_programs_is_as_the_contract_says() {
    let bench = bench();
    let args = ["q.onnx", "a.onnx", "--json", "--isa", "portable"];
    let outcome = run(&bench, &[&args[..], &["--threads", "1"]].concat());
    let report: Value = serde_json::from_slice(&outcome.success().unwrap().stdout).unwrap();
    let object = report.as_object().unwrap();
    assert_eq!(object.keys().collect::<Vec<_>>(), ["models"]);
    let models = object["models"].as_array().unwrap();
    for (model, name) in models.iter().zip(["q.onnx", "a.onnx"]) {
        let keys: Vec<&str> = model.as_object().unwrap().keys().map(|k| &**k).collect();
        assert_eq!(
            keys.join(" "),
            "model threads isa runs median_ms p90_ms min_ms first_run_ms"
        );
        assert_eq!(model["model"], name);
        assert_eq!(model["threads"], 1);
        assert_eq!(model["isa"], "portable");
        assert_eq!(model["runs"], 7);
        let times = ["min_ms", "median_ms", "p90_ms"].map(|key| model[key].as_f64().unwrap());
        assert!(times[0] > 0.0 && times.is_sorted(), "{model}");
        assert!(model["first_run_ms"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(models.len(), 2);
}

#[test]
fn a_profile_has_every_step_and_their_sums() {
    let bench = bench();
    let outcome = run(&bench, &["q.onnx", "--profile", "--threads", "1"]);
    let text = outcome.success().unwrap().text();
    let parts: Vec<&str> = text.split("\n\n").collect();
    let [title, steps, kernels, ends, result] = parts[..] else {
        panic!("{text}");
    };
    let count: usize = title.strip_prefix("q.onnx: ").unwrap()[..1]
        .parse()
        .unwrap();
    let words = |line: &str| cells(line).join(" ");
    let mut steps = steps.lines();
    assert_eq!(
        words(steps.next().unwrap()),
        "step kernel ms share GOP/s of peak"
    );
    assert_eq!(steps.clone().count(), count);
    let isa = Cpu::detect().isa().name();
    let product = steps.find(|line| line.contains("product")).unwrap();
    assert!(
        product.contains(isa) && product.ends_with(" %"),
        "{product}"
    );
    let mut kernels = kernels.lines();
    assert_eq!(
        words(kernels.next().unwrap()),
        "kernel steps ms share GOP/s of peak"
    );
    assert!(kernels.any(|line| line.contains(isa)), "{text}");
    let ends: Vec<&str> = ends.lines().collect();
    assert_eq!(ends[0], "no step is evaluated by the reference");
    let peak = format!("the peak of {isa} on 1 thread is ");
    assert!(ends[1].starts_with(&peak), "{text}");
    // The median is still the last figure in ms.
    let times: Vec<&str> = result.lines().last().unwrap().split(" ms").collect();
    assert_eq!(times.len(), 5, "{text}");
    assert!(times[4].trim().parse::<f64>().is_ok(), "{text}");
}

#[test]
fn a_profile_marks_what_the_reference_evaluates() {
    let bench = Workbench::new();
    bench.write(
        "m.txt",
        r#"<ir_version: 8, opset_import: ["": 17]>
        main (float[2, 8] x) => (uint8[2, 8] y)
        <int64 axis = {1}, float s = {0.1}, uint8 z = {7}>
        { [relu] h = Relu (x) [odd] c = CumSum (h, axis) [out] y = QuantizeLinear (c, s, z) }"#,
    );
    let outcome = run(&bench, &["m.txt", "--profile"]);
    let text = outcome.success().unwrap().text();
    let marked: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with('!'))
        .map(cells)
        .collect();
    assert_eq!(marked[0][1..4], ["odd", "reference", "CumSum"], "{text}");
    assert_eq!(marked[1][1..4], ["reference", "CumSum", "1"], "{text}");
    assert_eq!(marked.len(), 2);
    assert!(text.contains("\n1 step, marked with !, is evaluated by the reference\n"));

    let outcome = run(&bench, &["m.txt", "--profile", "--json"]);
    let report: Value = serde_json::from_slice(&outcome.success().unwrap().stdout).unwrap();
    let profile = &report["models"][0]["profile"];
    assert!(profile["peak_gops"].as_f64().unwrap() > 0.0);
    let steps = profile["steps"].as_array().unwrap();
    let of = |key: &str| steps.iter().map(|s| s[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("name"), ["relu", "odd", "out"]);
    assert_eq!(of("by_reference"), [false, true, false]);
}

#[test]
fn dimensions_that_nobody_says_are_made_up_and_said() {
    let bench = Workbench::new();
    bench.write(
        "m.txt",
        r#"<ir_version: 8, opset_import: ["": 17]>
        main (int64[batch, seq_len] ids, int64[batch, seq_len] mask) => (int64[batch, seq_len] y)
        { y = Mul (ids, mask) }"#,
    );
    let notes = |args: &[&str]| {
        let outcome = run(&bench, &[&["m.txt"], args].concat());
        outcome.success().unwrap().stderr.clone()
    };
    assert_eq!(
        notes(&[]),
        "note: m.txt: batch = 1, seq_len = 128, unless `--shape` says otherwise\n"
    );
    // What is given for one input holds for the symbols of the others.
    assert_eq!(notes(&["--shape", "ids=2x5"]), "");
    assert_eq!(notes(&["--quiet"]), "");
}

#[test]
fn a_shape_that_depends_on_data_is_no_obstacle() {
    let bench = Workbench::new();
    bench.write("m.txt", DATA_DEPENDENT);
    let outcome = run(&bench, &["m.txt", "--shape", "x=9", "--profile"]);
    let text = outcome.success().unwrap().text();
    assert!(
        outcome
            .stderr
            .starts_with("note: m.txt: runs without 8-bit kernels: the shape of ")
            && outcome.stderr.contains("there is no profile"),
        "{}",
        outcome.stderr
    );
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn inputs_with_defaults_keep_them() {
    let bench = Workbench::new();
    bench.write(
        "m.txt",
        r#"<ir_version: 8, opset_import: ["": 17]>
        main (float[2, 4] x, float s, uint8 z) => (uint8[2, 4] y)
        <float s = {0.5}, uint8 z = {5}>
        { y = QuantizeLinear (x, s, z) }"#,
    );
    let outcome = run(&bench, &["m.txt", "--profile"]);
    assert!(outcome.success().unwrap().stderr.is_empty());
    assert!(outcome.text().contains("quantize"), "{}", outcome.text());
}

#[test]
fn arguments_that_make_no_sense_have_status_2() {
    let bench = bench();
    let refused = |args: &[&str]| {
        let outcome = bench.run(["bench"].iter().chain(args));
        let (message, help) = outcome
            .failure(2)
            .unwrap_or_else(|e| panic!("{args:?}: {e}"));
        format!("{message}; {}", help.unwrap_or_default())
    };
    refused(&[]);
    refused(&["a.onnx", "--runs", "0"]);
    refused(&["a.onnx", "--threads", "0"]);
    refused(&["a.onnx", "--threads", "1000000"]);
    refused(&["a.onnx", "--shape", "x"]);
    refused(&["a.onnx", "--shape", "x=1xa"]);
    assert!(refused(&["a.onnx", "--shape", "z=1x8"]).contains("the inputs are x"));
    let misfit = refused(&["a.onnx", "--shape", "x=1x9"]);
    assert!(
        misfit.contains("'x'") && misfit.contains("[N, 8]"),
        "{misfit}"
    );
    assert!(refused(&["a.onnx", "--isa", "mmx"]).contains("avx2"));
    // No machine has the instructions of two architectures.
    let [one, other] = ["neon", "avx2"].map(|isa| {
        bench.run([
            "bench", "a.onnx", "--runs", "1", "--isa", isa, "--shape", "x=1x8",
        ])
    });
    let missing = match one.status {
        Some(0) => &other,
        _ => &one,
    };
    let (message, help) = missing.failure(2).unwrap();
    assert!(
        message.starts_with("this machine does not have "),
        "{message}"
    );
    assert!(help.unwrap().starts_with("it has portable"), "{help:?}");
}

#[test]
fn what_is_wrong_with_a_model_has_status_1() {
    let bench = bench();
    bench.write("bad.onnx", b"no model");
    for args in [&["missing.onnx"][..], &["a.onnx", "bad.onnx"]] {
        let outcome = run(&bench, args);
        let (message, _) = outcome.failure(1).unwrap();
        assert!(message.contains(args[args.len() - 1]), "{message}");
    }
}
