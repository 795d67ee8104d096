//! `onnxq-opt run` on kernels: the same bytes on every tier and for every number of threads.

use std::fs;

use onnxq::{Cpu, data};
use onnxq_tensor::Tensor;
use onnxq_tests::program::{Outcome, Workbench};

/// Convolutions with and without residual, a pooling, a product.
const MODEL: &str = r#"<ir_version: 8, opset_import: ["": 17]>
main (float[N, 3, 9, 9] x) => (float[N, 10] y)
<float[20, 3, 3, 3] w1 = ["seed": "1"], float[20] b1 = ["seed": "2"],
 float[20, 20, 3, 3] w2 = ["seed": "3"], float[20] b2 = ["seed": "4"],
 float[20, 10] w3 = ["seed": "5"]>
{
    a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    b = Relu (a)
    c = Conv <pads = [1, 1, 1, 1]> (b, w2, b2)
    d = Add (b, c)
    e = Relu (d)
    f = GlobalAveragePool (e)
    g = Flatten (f)
    y = MatMul (g, w3)
}"#;

const SAMPLES: usize = 3;

/// A folder with `x.npz`, the float model, and what quantization makes of it: QDQ, static in the
/// operator form, dynamic.
fn bench() -> Workbench {
    let bench = Workbench::new();
    bench.write("m.txt", MODEL);
    let dims = [SAMPLES, 3, 9, 9];
    let len: usize = dims.iter().product();
    let values = (0..len).map(|i| ((i * 7919) % 1001) as f32 / 500.0 - 1.0);
    let x = Tensor::from_vec(dims.as_slice(), values.collect()).unwrap();
    data::write_npz(&bench.path("x.npz"), &[("x".to_owned(), x)]).unwrap();
    for (passes, output) in [
        ("", "float.onnx"),
        ("preprocess,quantize{per-channel}", "qdq.onnx"),
        ("preprocess,quantize{per-channel},fuse", "static.onnx"),
        ("preprocess,quantize{mode=dynamic},fuse", "dynamic.onnx"),
    ] {
        let mut args = vec!["m.txt", "--passes", passes, "-o", output];
        if passes.contains("per-channel") {
            args.extend(["--calibration-data", "x.npz"]);
        }
        bench.run(args).success().unwrap();
    }
    bench
}

const MODELS: [&str; 4] = ["float.onnx", "qdq.onnx", "static.onnx", "dynamic.onnx"];

fn run(bench: &Workbench, model: &str, more: &[&str]) -> Outcome {
    let args = ["run", model, "--inputs", "x.npz", "--outputs", "out.npz"];
    bench.run(args.iter().chain(more))
}

/// The file with the outputs.
fn outputs(bench: &Workbench, model: &str, more: &[&str]) -> Vec<u8> {
    let outcome = run(bench, model, more);
    let said = &outcome
        .success()
        .unwrap_or_else(|e| panic!("{model} {more:?}: {e}"))
        .stderr;
    assert!(said.is_empty(), "{said}");
    fs::read(bench.path("out.npz")).unwrap()
}

#[test]
fn every_tier_gives_the_same_bytes() {
    let bench = bench();
    for model in MODELS {
        let expected = outputs(&bench, model, &[]);
        for cpu in Cpu::available() {
            let isa = cpu.isa().name();
            let found = outputs(&bench, model, &["--isa", isa]);
            assert!(found == expected, "{model} on {isa}");
        }
    }
}

#[test]
fn neither_threads_nor_batches_change_a_byte() {
    let bench = bench();
    for model in MODELS {
        let expected = outputs(&bench, model, &["--threads", "1"]);
        assert!(
            outputs(&bench, model, &["--threads", "2"]) == expected,
            "{model}: samples side by side"
        );
        let whole = outputs(&bench, model, &["--threads", "1", "--batch", "all"]);
        assert!(
            outputs(&bench, model, &["--threads", "3", "--batch", "all"]) == whole,
            "{model}: one sample on threads"
        );
        // What static quantization computes of a row does not depend on the other rows.
        assert!(model != "static.onnx" || whole == expected, "{model}");
    }
}

#[test]
fn shapes_that_depend_on_data_run_with_a_note() {
    let bench = Workbench::new();
    bench.write(
        "m.txt",
        r#"<ir_version: 8, opset_import: ["": 17]>
        main (float[3] x) => (uint8[2] y)
        <float s = {0.5}, uint8 z = {3}>
        { at = NonZero (x) rows = Squeeze (at) kept = Gather (x, rows) y = QuantizeLinear (kept, s, z) }"#,
    );
    let x = Tensor::from_vec([2, 3].as_slice(), vec![1f32, 0., 2., 0., 3., 4.]).unwrap();
    data::write_npz(
        &bench.path("x.npz"),
        &[("x".to_owned(), x.reshape([6].as_slice()).unwrap())],
    )
    .unwrap();
    let outcome = run(&bench, "m.txt", &[]);
    let said = &outcome.success().unwrap().stderr;
    assert!(
        said.starts_with("note: m.txt: runs without 8-bit kernels: ") && said.lines().count() == 1,
        "{said}"
    );
    assert!(bench.path("out.npz").exists());
    let quiet = run(&bench, "m.txt", &["--quiet"]);
    assert!(quiet.success().unwrap().stderr.is_empty());
}

#[test]
fn values_take_the_place_of_defaults() {
    let bench = Workbench::new();
    bench.write(
        "m.txt",
        r#"<ir_version: 8, opset_import: ["": 17]>
        main (float[2] x, float s, uint8 z) => (uint8[2] y)
        <float s = {0.5}, uint8 z = {5}>
        { y = QuantizeLinear (x, s, z) }"#,
    );
    let x = ("x".to_owned(), Tensor::vector(vec![1f32, 2.0]));
    let s = ("s".to_owned(), Tensor::scalar(0.25f32));
    let codes = |given: &[(String, Tensor)]| {
        data::write_npz(&bench.path("x.npz"), given).unwrap();
        let outcome = run(&bench, "m.txt", &[]);
        let said = outcome.success().unwrap().stderr.clone();
        (fs::read(bench.path("out.npz")).unwrap(), said)
    };
    let (default, said) = codes(std::slice::from_ref(&x));
    assert_eq!(said, "");
    let (given, said) = codes(&[x, s]);
    assert!(given != default);
    assert!(said.contains("'s' has a default"), "{said}");
}

#[test]
fn instructions_that_the_machine_lacks_are_an_error_that_says_what_it_has() {
    let bench = bench();
    let missing = ["neon", "avx2"]
        .map(|isa| run(&bench, "float.onnx", &["--isa", isa]))
        .into_iter()
        .find(|outcome| outcome.status != Some(0))
        .unwrap();
    let (message, help) = missing.failure(2).unwrap();
    assert!(
        message.starts_with("this machine does not have "),
        "{message}"
    );
    assert!(help.unwrap().starts_with("it has portable"), "{help:?}");
    run(&bench, "float.onnx", &["--isa", "mmx"])
        .failure(2)
        .unwrap();
}
