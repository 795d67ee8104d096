//! The oracle answers, refuses with a reason, and survives what breaks it.

use std::{fs, thread};

use onnxq_tensor::{DType, Tensor};
use onnxq_tests::{
    metrics::allclose,
    oracle::{Level, OracleError, Tensors, oracle},
    workspace_dir,
};
use serde_json::json;

const RELU: &str = r#"<ir_version: 8, opset_import: ["": 13]>
main (float[N, 2] x) => (float[N, 2] y) { y = Relu (x) }"#;

fn relu() -> Vec<u8> {
    oracle().parse_text(RELU).unwrap()
}

fn refusal<T: std::fmt::Debug>(result: Result<T, OracleError>) -> String {
    match result {
        Err(OracleError::Refused { message, .. }) => message,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn example(name: &str) -> std::path::PathBuf {
    workspace_dir().join("docs/examples/digits").join(name)
}

#[test]
fn a_good_model_passes_and_runs() {
    oracle().check(&relu()).unwrap();
    let signature = oracle().load(&relu(), Level::Basic).unwrap();
    assert_eq!(signature.inputs[0].name, "x");
    assert_eq!(signature.inputs[0].ty, "tensor(float)");
    assert_eq!(signature.outputs[0].shape, [json!("N"), json!(2)]);

    let x = Tensor::from_vec([2usize, 2].as_slice(), vec![-1f32, 2.0, 0.5, -3.0]).unwrap();
    for level in [Level::Disabled, Level::Basic, Level::Extended, Level::All] {
        let inputs = Tensors::from_iter([("x".to_owned(), x.clone())]);
        let outputs = oracle().run(&relu(), &inputs, level).unwrap();
        assert_eq!(outputs["y"].dims(), [2, 2]);
        assert_eq!(
            *outputs["y"].as_slice::<f32>().unwrap(),
            [0.0, 2.0, 0.5, 0.0]
        );
    }
}

#[test]
fn a_bad_model_is_refused_with_the_reason() {
    let text = RELU.replace("Relu (x)", "Relu (z)");
    let model = oracle().parse_text(&text).unwrap();
    assert!(refusal(oracle().check(&model)).contains("z"));
    assert!(refusal(oracle().load(&model, Level::Basic)).contains("z"));
    // Rank 2 cannot be the declared rank 3: found by the full check alone.
    let text = RELU.replace("float[N, 2] y", "float[N, 2, 1] y");
    refusal(oracle().check(&oracle().parse_text(&text).unwrap()));
    refusal(oracle().check(&b"not a model".to_vec()));
    refusal(oracle().check(&example("missing.onnx")));
    refusal(oracle().parse_text("main ("));
}

#[test]
fn every_element_type_that_models_take_goes_both_ways() {
    let values = [
        Tensor::vector(vec![1f32, f32::NAN]),
        Tensor::vector(vec![1f64, -0.0]),
        Tensor::vector(vec![1i8, -128]),
        Tensor::vector(vec![1u8, 255]),
        Tensor::vector(vec![1i16, -2]),
        Tensor::vector(vec![1u16, 65535]),
        Tensor::vector(vec![1i32, i32::MIN]),
        Tensor::vector(vec![1u32, u32::MAX]),
        Tensor::vector(vec![1i64, i64::MIN]),
        Tensor::vector(vec![1u64, u64::MAX]),
        Tensor::from_bools([2usize].as_slice(), vec![true, false]).unwrap(),
        Tensor::vector(vec![half::f16::from_f32(0.1), half::f16::INFINITY]),
        Tensor::from_strings([2usize].as_slice(), vec!["a".into(), "\u{e9}".into()]).unwrap(),
        Tensor::zeros(DType::F32, [0usize].as_slice()).unwrap(),
        Tensor::scalar(1.5f32),
    ];
    for value in values {
        let (name, rank) = (value.dtype().name(), ["", "[n]"][value.rank()]);
        let model = oracle()
            .parse_text(&format!(
                "<ir_version: 8, opset_import: [\"\": 13]>\n\
                 main ({name}{rank} x) => ({name}{rank} y) {{ y = Identity (x) }}"
            ))
            .unwrap();
        let inputs = Tensors::from_iter([("x".to_owned(), value.clone())]);
        let outputs = oracle().run(&model, &inputs, Level::Disabled).unwrap();
        assert_eq!(outputs["y"], value, "{value:?}");
    }
}

#[test]
fn npz_files_are_read_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    let tensors = Tensors::from_iter([
        ("input/x".to_owned(), Tensor::vector(vec![1i64, 2])),
        ("b".to_owned(), Tensor::scalar(2.5f32)),
    ]);
    oracle().write_npz(&path, &tensors).unwrap();
    assert_eq!(oracle().read_npz(&path).unwrap(), tensors);
}

#[test]
fn shapes_are_inferred() {
    let text = RELU.replace("y = Relu (x)", "h = Relu (x) y = Relu (h)");
    let model = oracle().parse_text(&text).unwrap();
    let inferred = oracle().infer_shapes(&model, true).unwrap();
    assert!(
        oracle()
            .print_text(&inferred)
            .unwrap()
            .contains("float[N,2] h")
    );
    let text = RELU.replace("float[N, 2] y", "float[N, 3] y");
    refusal(oracle().infer_shapes(&oracle().parse_text(&text).unwrap(), true));
}

#[test]
fn difference_sees_what_executes_and_nothing_else() {
    let model = |text: &str| oracle().parse_text(text).unwrap();
    let differ = |a: &str, b: &str, ignore: &[&str]| {
        oracle().difference(&model(a), &model(b), ignore).unwrap()
    };
    let text = r#"<ir_version: 8, opset_import: ["": 13]>
main (float[2] x) => (float[2] y) <float[1] w = {1}, float[1] v = {2}>
{ a = Add (x, w) b = Clip (x, v) y = Mul <extra = 1> (a, b) }"#;
    let reordered = text.replace(
        "a = Add (x, w) b = Clip (x, v)",
        "b = Clip (x, v,) a = Add (x, w)",
    );
    let reordered = reordered.replace(
        "float[1] w = {1}, float[1] v = {2}",
        "float[1] v = {2}, float[1] w = {1}",
    );
    assert_ne!(text, reordered);
    assert_eq!(differ(text, &reordered, &[]), None);

    for (from, to, place) in [
        ("{2}", "{3}", "/graph/initializers/v/data"),
        ("a = Add (x, w)", "a = Sub (x, w)", "/graph/nodes/a/op"),
        ("extra = 1", "extra = 2", "/graph/nodes/y/attributes/extra"),
        ("13", "14", "/opsets"),
        ("float[2] y", "float[M] y", "/graph/output types/y"),
    ] {
        let found = differ(text, &text.replace(from, to), &[]).unwrap();
        assert!(found.starts_with(place), "{found}");
    }
    let renamed = text.replace("main (", "other (");
    assert!(differ(text, &renamed, &[]).is_some());
    assert_eq!(differ(text, &renamed, &["graph_name"]), None);
}

#[test]
fn the_reference_tool_quantizes_the_example() {
    let folder = tempfile::tempdir().unwrap();
    let (pre, out) = (
        folder.path().join("pre.onnx"),
        folder.path().join("out.onnx"),
    );
    oracle()
        .preprocess(&example("digits.onnx"), &pre, json!({}))
        .unwrap();
    let data = oracle().read_npz(&example("digits_test.npz")).unwrap();
    let inputs = Tensors::from_iter([("input".to_owned(), data["input"].clone())]);
    let float = oracle()
        .run(&example("digits.onnx"), &inputs, Level::Basic)
        .unwrap();
    let folded = oracle().run(&pre, &inputs, Level::Basic).unwrap();
    assert!(allclose(&float["logits"], &folded["logits"]));

    oracle()
        .quantize_dynamic(&pre, &out, json!({ "weight_type": "QUInt8" }))
        .unwrap();
    let size = |path| fs::metadata(path).unwrap().len();
    assert!(size(&out) * 3 < size(&pre));
    oracle().check(&out).unwrap();

    let samples = [Tensors::from_iter([(
        "input".to_owned(),
        data["input"].clone(),
    )])];
    let options =
        json!({ "quant_format": "QDQ", "activation_type": "QUInt8", "per_channel": true });
    oracle()
        .quantize_static(&pre, &out, &samples, options)
        .unwrap();
    oracle().load(&out, Level::All).unwrap();
}

#[test]
fn threads_share_one_worker() {
    let model = relu();
    thread::scope(|scope| {
        for i in 0..8 {
            let model = &model;
            scope.spawn(move || {
                let x = Tensor::from_vec([1usize, 2].as_slice(), vec![i as f32, -1.0]).unwrap();
                let inputs = Tensors::from_iter([("x".to_owned(), x)]);
                let outputs = oracle().run(model, &inputs, Level::Basic).unwrap();
                assert_eq!(*outputs["y"].as_slice::<f32>().unwrap(), [i as f32, 0.0]);
            });
        }
    });
}
