//! `onnxq-opt debug`: the tables, the form for programs, the page, and what is said where it fails.

use std::fs;

use onnxq::data;
use onnxq_tensor::Tensor;
use onnxq_tests::program::{Outcome, Workbench};
use serde_json::{Value, json};

/// The weight of the second product has an element that leaves few codes to the others, and is
/// multiplied by 0 where inputs are positive.
const MODEL: &str = r#"<ir_version: 8, opset_import: ["": 17]>
main (float[N, 4] x) => (float[N, 4] y)
<float[4, 4] w1 = {-1, -2, 0.5, 0.25, -3, -1, 2, 1, -0.125, -0.5, 0.75, 1.5, -1, 2, -0.25, 0.5},
 float[4, 4] w2 = {40, 0.17, -0.23, 0.11, 0.19, -0.31, 0.13, 0.07,
                   -0.29, 0.37, 0.41, -0.05, 0.02, 0.43, -0.47, 0.3}>
{
    [first] h = MatMul (x, w1)
    [act] r = Relu (h)
    ["a<b"] y = MatMul (r, w2)
}"#;

const ACTIVATIONS: &str = "layer op tensor layer adds codes add in model cosine float range \
                           codes' range saturated";
const WEIGHTS: &str = "weight node op type SQNR max abs cosine float range codes' range saturated \
                       worst channel";

/// A folder with a float model, what is made of it, and five samples.
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
    let values = (0..20u8).map(|i| f32::from(i * 7 % 20) / 10.0);
    let x = Tensor::from_vec([5, 4].as_slice(), values.collect()).unwrap();
    data::write_npz(&bench.path("x.npz"), &[("x".to_owned(), x)]).unwrap();
    bench
}

fn debug(bench: &Workbench, more: &[&str]) -> Outcome {
    let args = ["debug", "a.onnx", "q.onnx", "--data", "x.npz"];
    bench.run(args.iter().chain(more))
}

fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().unwrap().keys().map(|k| &**k).collect();
    keys.sort_unstable();
    keys
}

/// The first cells of the rows below a head of these words, up to an empty line.
fn names<'t>(text: &'t str, head: &str) -> Vec<&'t str> {
    let rows = text.lines().skip_while(|line| words(line) != head).skip(1);
    let rows = rows.take_while(|line| !line.is_empty());
    rows.filter_map(|row| row.split_whitespace().next())
        .collect()
}

#[test]
fn prints_tables() {
    let bench = bench();
    let outcome = debug(&bench, &[]);
    let text = outcome.success().unwrap().text();
    assert!(
        text.starts_with("worst layer: node 'a<b' (MatMul): "),
        "{text}"
    );
    let mut layers = names(&text, ACTIVATIONS);
    assert_eq!(layers[0], "a<b", "{text}");
    layers.sort_unstable();
    assert_eq!(layers, ["a<b", "act", "first", "x"]);
    assert_eq!(names(&text, WEIGHTS), ["w2", "w1"], "{text}");
    assert_eq!(
        text.lines().last(),
        Some("5 samples; 6 of 6 quantized tensors have a twin in the float model")
    );
    assert!(outcome.stderr.is_empty());
    // One thread or many, and as many rows as are asked for.
    assert_eq!(debug(&bench, &["--threads", "1"]).text(), text);
    assert_eq!(debug(&bench, &["--top", "0"]).text(), text);
    let short = debug(&bench, &["--top", "1"]).text();
    assert_eq!(names(&short, ACTIVATIONS), ["a<b", "3"], "{short}");
    assert_eq!(names(&short, WEIGHTS), ["w2", "1"], "{short}");
    assert!(short.contains("\n3 more: see them with `--top 0`\n"));
}

#[test]
fn the_form_for_programs_is_stable() {
    // It has all rows.
    let outcome = debug(&bench(), &["--json", "--top", "1"]);
    let report: Value = serde_json::from_slice(&outcome.success().unwrap().stdout).unwrap();
    assert_eq!(
        keys(&report).join(" "),
        "activations float quantized quantized_tensors samples unmatched weights worst"
    );
    assert_eq!(
        (&report["float"], &report["quantized"]),
        (&json!("a.onnx"), &json!("q.onnx"))
    );
    assert_eq!(
        (&report["samples"], &report["quantized_tensors"]),
        (&json!(5), &json!(6))
    );
    assert_eq!(report["unmatched"], json!([]));
    let worst = &report["worst"];
    assert_eq!(
        keys(worst).join(" "),
        "drop_db inputs_sqnr_db node op own_sqnr_db sqnr_db tensor"
    );
    assert_eq!(
        (&worst["node"], &worst["op"], &worst["tensor"]),
        (&json!("a<b"), &json!("MatMul"), &json!("y"))
    );
    let activations = report["activations"].as_array().unwrap();
    assert_eq!(activations.len(), 4);
    for row in activations {
        assert_eq!(
            keys(row).join(" "),
            "cosine dtype inputs_sqnr_db layer_sqnr_db max_abs node op quantization_sqnr_db range \
             representable saturated sqnr_db tensor"
        );
    }
    let tensor = |name: &str| activations.iter().find(|row| row["tensor"] == name);
    let (x, y) = (tensor("x").unwrap(), tensor("y").unwrap());
    // What is computed from the codes of others is in none, and no layer adds noise to an input.
    assert_eq!(
        (&y["dtype"], &y["quantization_sqnr_db"], &y["saturated"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(
        (&x["dtype"], &x["layer_sqnr_db"], &x["inputs_sqnr_db"]),
        (&json!("uint8"), &json!(200.0), &Value::Null)
    );
    assert_eq!(x["sqnr_db"], x["quantization_sqnr_db"]);
    assert_eq!(worst["sqnr_db"], y["sqnr_db"]);
}

#[test]
fn the_form_for_programs_describes_weights() {
    let outcome = debug(&bench(), &["--json"]);
    let report: Value = serde_json::from_slice(&outcome.success().unwrap().stdout).unwrap();
    let weights = report["weights"].as_array().unwrap();
    assert_eq!(weights.len(), 2);
    let w2 = &weights[0];
    assert_eq!(
        keys(w2).join(" "),
        "codes codes_used cosine dims dtype max_abs node op range representable role saturated \
         scales sqnr_db tensor worst_channel"
    );
    for (key, value) in [
        ("tensor", json!("w2")),
        ("codes", json!("w2_quantized")),
        ("role", json!("weight")),
        ("node", json!("a<b")),
        ("op", json!("MatMul")),
        ("dtype", json!("int8")),
        ("dims", json!([4, 4])),
        ("scales", json!(1)),
        // -1, 0, 1 and 127 of the codes, the last once.
        ("codes_used", json!(4)),
        ("saturated", json!(1.0 / 16.0)),
    ] {
        assert_eq!(w2[key], value, "{key}");
    }
    // The half step is 20/127, and 0.155 of the 0.47 is lost.
    assert!((w2["max_abs"].as_f64().unwrap() - 0.155).abs() < 1e-3);
    let channel = &w2["worst_channel"];
    assert_eq!(keys(channel), ["channel", "sqnr_db"]);
    assert_ne!(channel["channel"], 0);
    assert!(channel["sqnr_db"].as_f64().unwrap() < w2["sqnr_db"].as_f64().unwrap());
}

#[test]
fn the_page_has_every_row() {
    let bench = bench();
    let table = debug(&bench, &["--top", "1"]);
    let outcome = debug(&bench, &["--top", "1", "--html", "page.html"]);
    assert_eq!(outcome.success().unwrap().text(), table.text());
    let page = fs::read_to_string(bench.path("page.html")).unwrap();
    assert!(page.starts_with("<!doctype html>\n") && page.ends_with("</html>\n"));
    assert!(page.contains("<title>q.onnx against a.onnx</title>"));
    assert!(page.contains("<p>worst layer: node 'a&lt;b' (MatMul): "));
    assert!(!page.contains("a<b"), "names are escaped");
    for layer in ["a&lt;b", "act", "first", "x", "w1", "w2"] {
        assert!(page.contains(&format!("<tr><td>{layer}</td>")), "{layer}");
    }
    assert_eq!(page.matches("<tr>").count(), 2 + 4 + 2, "{page}");
}

#[test]
fn a_tensor_without_a_twin_is_named() {
    let bench = bench();
    let other = MODEL.replace(
        "[act] r = Relu (h)",
        "[act] t = Relu (h) [more] r = Sin (t)",
    );
    bench.write("b.txt", other);
    let quantize = ["--passes", "preprocess,quantize{mode=dynamic}"];
    let arguments = [&["b.txt"][..], &quantize, &["-o", "b.onnx"]].concat();
    bench.run(arguments).success().unwrap();
    bench.write("c.txt", MODEL.replace(" r ", " s ").replace("(r,", "(s,"));
    let outcome = bench.run(["debug", "c.txt", "b.onnx", "--data", "x.npz"]);
    outcome.success().unwrap();
    let said = "warning: b.onnx: tensor 'r_QuantizeLinear_Output' has no twin in the float model";
    assert!(
        outcome.stderr.lines().any(|line| line == said),
        "{}",
        outcome.stderr
    );
}

#[test]
fn bad_arguments_data_and_models_are_told_apart() {
    let bench = bench();
    debug(&bench, &["--batch", "0"]).failure(2).unwrap();
    debug(&bench, &["--top", "-1"]).failure(2).unwrap();
    bench.run(["debug", "a.onnx", "q.onnx"]).failure(2).unwrap();
    let run = |float, quantized, data| {
        let outcome = bench.run(["debug", float, quantized, "--data", data]);
        outcome.failure(1).unwrap().0.to_owned()
    };
    assert!(run("no.onnx", "q.onnx", "x.npz").contains("no.onnx"));
    assert!(run("a.onnx", "no.onnx", "x.npz").contains("no.onnx"));
    assert!(run("a.onnx", "q.onnx", "no.npz").contains("no.npz"));
    bench.write(
        "c.txt",
        MODEL.replace("[N, 4] x", "[N, 4] z").replace("(x,", "(z,"),
    );
    let message = run("c.txt", "q.onnx", "x.npz");
    assert!(message.contains("x.npz"), "{message}");
    let nowhere = debug(&bench, &["--html", "missing/page.html"]);
    let (message, _) = nowhere.failure(1).unwrap();
    assert!(message.contains("page.html"), "{message}");
}
