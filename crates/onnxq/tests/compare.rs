//! [`onnxq::compare`] as a library user sees it.

use onnxq::{
    Model,
    compare::{Agreement, Comparison, compare},
    data::{self, Batch, Data},
    tensor::Tensor,
};

fn model(body: &str) -> Model {
    let head = r#"<ir_version: 8, opset_import: ["": 13]>"#;
    onnxq::parse(&format!("{head}\n{body}")).unwrap()
}

const TWICE: &str = "m (float[N, 3] x) => (float[N, 3] y) { y = Add (x, x) }";

/// Adds 0.5 to the last column, and has its input under the same name at another place.
const NEAR: &str = "m (float[N, 3] x) => (float[N, 3] y)
    <float[3] b = {0, 0, 0.5}>
    { s = Add (x, x)
      y = Add (s, b) }";

fn rows(values: &[[f32; 3]]) -> Tensor {
    Tensor::from_vec([values.len(), 3].as_slice(), values.concat()).unwrap()
}

fn on(arrays: &[(&str, Tensor)], a: &Model, batch: Batch) -> Data {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.npz");
    let arrays: Vec<(String, Tensor)> = arrays
        .iter()
        .map(|(name, t)| ((*name).to_owned(), t.clone()))
        .collect();
    data::write_npz(&path, &arrays).unwrap();
    Data::open(&path, &a.graph, batch).unwrap()
}

fn run(a: &str, b: &str, x: Tensor) -> Result<Comparison, String> {
    let (a, b) = (model(a), model(b));
    let data = on(&[("x", x)], &a, Batch::Auto);
    compare(&a, &b, &data, None, &|| {}).map_err(|e| e.to_string())
}

#[test]
fn figures_are_those_of_all_samples_together() {
    // The largest element moves in the second row only.
    let x = rows(&[[0.0, 0.0, 1.0], [1.0, 0.0, 0.9], [2.0, 0.0, 0.0]]);
    let comparison = run(TWICE, NEAR, x).unwrap();
    assert_eq!(comparison.samples, 3);
    let [y] = comparison.outputs.as_slice() else {
        panic!("{comparison:?}")
    };
    assert_eq!((y.name.as_str(), y.distance.elements), ("y", 9));
    assert!((y.distance.max_abs - 0.5).abs() < 1e-6);
    assert!((y.distance.mean_abs() - 0.5 / 3.0).abs() < 1e-6);
    let signal = 4.0 * (1.0 + 1.0 + 0.81 + 4.0);
    let expected = 10.0 * f64::log10(signal / (3.0 * 0.25));
    assert!((y.distance.sqnr_db() - expected).abs() < 1e-5);
    let top1 = Agreement {
        agreeing: 2,
        rows: 3,
    };
    assert_eq!(y.top1, Some(top1));
}

#[test]
fn neither_threads_nor_batch_show() {
    let (a, b) = (model(TWICE), model(NEAR));
    let x: Vec<[f32; 3]> = (0..40u8)
        .map(|i| [0.1, 0.37, 1.1].map(|v| v * f32::from(i)))
        .collect();
    let x = rows(&x);
    let run = |threads, batch| {
        let data = on(&[("x", x.clone())], &a, batch);
        compare(&a, &b, &data, Some(threads), &|| {}).unwrap()
    };
    assert_eq!(run(1, Batch::Auto), run(4, Batch::Auto));
    let (one, many) = (run(1, Batch::All), run(2, Batch::Rows(5)));
    let db = |c: &Comparison| c.outputs[0].distance.sqnr_db();
    assert!((db(&one) - db(&many)).abs() < 1e-9);
    assert_eq!((one.samples, many.samples), (1, 8));
    assert_eq!(one.outputs[0].top1, many.outputs[0].top1);
}

#[test]
fn inputs_go_by_name() {
    let a = model("m (float[2] p, float[2] q) => (float[2] y) { y = Sub (p, q) }");
    let b = model("m (float[2] q, float[2] p) => (float[2] y) { y = Sub (p, q) }");
    let pair = |a: f32, b: f32| Tensor::vector(vec![a, b]);
    let data = on(
        &[("p", pair(1.0, 2.0)), ("q", pair(5.0, 7.0))],
        &a,
        Batch::All,
    );
    let comparison = compare(&a, &b, &data, None, &|| {}).unwrap();
    assert_eq!(comparison.outputs[0].distance.max_abs, 0.0);
    assert_eq!(comparison.outputs[0].top1, None);
}

#[test]
fn models_that_differ_are_refused_by_name() {
    let x = || rows(&[[1.0, 2.0, 3.0]]);
    let refused = |b: &str, words: &[&str]| {
        let message = run(TWICE, b, x()).unwrap_err();
        assert!(words.iter().all(|w| message.contains(w)), "{message}");
    };
    refused(
        "m (float[N, 3] x) => (float[N, 3] z) { z = Add (x, x) }",
        &["output 'y'", "first model only"],
    );
    refused(
        "m (float[N, 3] x) => (float[N, 3] y, float[N, 3] z) { y = Add (x, x) z = Neg (x) }",
        &["output 'z'", "second model only"],
    );
    refused(
        "m (float[N, 3] x, float c) => (float[N, 3] y) { y = Add (x, c) }",
        &["input 'c'", "required"],
    );
    refused(
        "m (float[N, 3] x) => (float[3, N] y) { y = Transpose (x) }",
        &["sample 0", "output 'y'"],
    );
    refused(
        "m (float[N, 3] x) => (int64[N, 3] y) { y = Cast <to = 7> (x) }",
        &["output 'y'", "int64"],
    );
    refused(
        "m (float[N, 4] x) => (float[N, 4] y) { y = Add (x, x) }",
        &["second model", "sample 0", "'x'"],
    );
}

#[test]
fn what_is_not_finite_is_far() {
    let a = "m (float[N, 3] x) => (float[N, 3] y) { y = Log (x) }";
    let comparison = run(a, TWICE, rows(&[[1.0, -1.0, 0.5]])).unwrap();
    let d = &comparison.outputs[0].distance;
    assert_eq!((d.max_abs, d.sqnr_db()), (f64::INFINITY, f64::NEG_INFINITY));
}
