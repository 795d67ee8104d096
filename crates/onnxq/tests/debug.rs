//! [`onnxq::debug`] and [`onnxq::matching`] on small models: what is matched, and that what is
//! broken on purpose is named first.

use onnxq::{
    Model,
    data::{self, Batch, Data},
    debug::{DebugReport, debug},
    ir::{NodeKind, def::Literal},
    matching::{Form, Matching, Role},
    tensor::{DType, Tensor},
};

const FLOAT: &str = r#"<ir_version: 8, opset_import: ["": 17]>
    m (float[N, 16] x) => (float[N, 16] y)
    <float[16, 16] w1 = ["seed": "1"], float[16, 16] w2 = ["seed": "2"],
     float[16, 16] w3 = ["seed": "3"], float[16] b3 = ["seed": "4"]>
    {
        [fc1] h1 = MatMul (x, w1)
        [act1] r1 = Relu (h1)
        [fc2] h2 = MatMul (r1, w2)
        [act2] r2 = Sigmoid (h2)
        [fc3] y = Gemm <transB = 1> (r2, w3, b3)
    }"#;

fn float() -> Model {
    onnxq::parse(FLOAT).unwrap()
}

fn after(model: &Model, pipeline: &str) -> Model {
    let mut model = model.clone();
    onnxq::optimize(&mut model, pipeline).unwrap();
    model
}

/// The forms that a model quantized while it runs takes.
fn dynamic() -> [(&'static str, Model); 4] {
    let quantized = |pipeline| (pipeline, after(&float(), pipeline));
    [
        quantized("preprocess,quantize{mode=dynamic}"),
        quantized("preprocess,quantize{mode=dynamic per-channel}"),
        quantized("preprocess,quantize{mode=dynamic per-channel},fuse"),
        quantized("preprocess,quantize{mode=dynamic},fuse{compat}"),
    ]
}

/// With constant scales instead of computed ones.
fn fixed() -> Model {
    let mut model = after(&float(), "preprocess,quantize{mode=dynamic}");
    let graph = &mut model.graph;
    for n in graph.node_ids().collect::<Vec<_>>() {
        let computed = |i| graph.operand(n, i).filter(|v| graph.op(v.node).is_some());
        let qdq = graph.is(n, "QuantizeLinear") || graph.is(n, "DequantizeLinear");
        let (true, Some(scale), Some(zero_point)) = (qdq, computed(1), computed(2)) else {
            continue;
        };
        let name = |v| graph.value(v).name.clone();
        let (scale, zero_point) = (name(scale), name(zero_point));
        let scale = graph.add_constant(scale, Tensor::scalar(0.08f32));
        let zero_point = graph.add_constant(zero_point, Tensor::scalar(128u8));
        graph.set_operand(n, 1, Some(scale));
        graph.set_operand(n, 2, Some(zero_point));
    }
    model.sweep();
    model
}

fn data(rows: usize) -> Data {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npz");
    let values = (0..rows * 16).map(|i| ((i * 37 % 101) as f32) / 50.0 - 1.0);
    let x = Tensor::from_vec([rows, 16].as_slice(), values.collect()).unwrap();
    data::write_npz(&path, &[("x".to_owned(), x)]).unwrap();
    Data::open(&path, &float().graph, Batch::Auto).unwrap()
}

fn run(quantized: &Model) -> DebugReport {
    debug(&float(), quantized, &data(6), None, &|| {}).unwrap()
}

/// Changes the constants of this name.
fn change(model: &Model, name: &str, change: impl Fn(&Tensor) -> Tensor) -> Model {
    let mut model = model.clone();
    let graph = &mut model.graph;
    let mut changed = false;
    for n in graph.node_ids().collect::<Vec<_>>() {
        let (Some(tensor), true) = (
            graph.node(n).tensor().cloned(),
            graph
                .node(n)
                .results
                .first()
                .is_some_and(|v| v.name == name),
        ) else {
            continue;
        };
        if let NodeKind::Constant(c) = &mut graph.node_mut(n).kind {
            c.value = Literal::Dense(change(&tensor));
            changed = true;
        }
    }
    assert!(changed, "there is no constant '{name}'");
    model
}

/// Codes with the other sign.
fn negated(codes: &Tensor) -> Tensor {
    assert_eq!(codes.dtype(), DType::I8);
    let bytes: Vec<u8> = codes.bytes().iter().map(|b| b.wrapping_neg()).collect();
    Tensor::new(DType::I8, codes.dims(), bytes).unwrap()
}

fn times(factor: f32) -> impl Fn(&Tensor) -> Tensor {
    move |scale| {
        let scales = scale.to_f32s().unwrap();
        Tensor::from_vec(scale.dims(), scales.iter().map(|s| s * factor).collect()).unwrap()
    }
}

#[test]
fn every_quantized_tensor_has_its_twin() {
    let float = float();
    for (form, quantized) in dynamic() {
        let report = run(&quantized);
        assert!(
            report.unmatched.is_empty(),
            "{form}: {:?}",
            report.unmatched
        );
        let mut weights: Vec<&str> = report.weights.iter().map(|w| &*w.name).collect();
        weights.sort_unstable();
        assert_eq!(weights, ["w1", "w2", "w3"], "{form}");
        for w in &report.weights {
            assert_eq!(w.role, Role::Weight);
            assert!(w.figures.distance.sqnr_db() > 35.0, "{form}: {w:?}");
            assert!(w.figures.codes_used.unwrap() > 50);
        }
        let matching = Matching::new(&[&float], &quantized);
        let (quantized, matched) = matching.quantized_count();
        assert!(quantized == matched && matched >= 9, "{form}: {matched}");
    }
}

#[test]
fn forms_are_told_apart() {
    let float = float();
    let (_, lowered) = &dynamic()[2];
    let matching = Matching::new(&[&float], lowered);
    let forms = |name: &str| {
        let find = |a: &&onnxq::matching::MatchedActivation| matching.float_name(a.float) == name;
        let forms = &matching.activations.iter().find(find).unwrap().forms;
        let kind = |form: &Form| match form {
            Form::Float => "float",
            Form::Dequantized => "dequantized",
            Form::Codes(_) => "codes",
            Form::Partial => "partial",
        };
        forms.iter().map(|(_, form)| kind(form)).collect::<Vec<_>>()
    };
    assert_eq!(forms("x"), ["float", "codes"]);
    assert_eq!(forms("h1"), ["partial", "float"]);
    // The product without the bias, in codes and in floats, and the sum.
    assert_eq!(forms("y"), ["partial", "partial", "float"]);
}

#[test]
fn a_good_model_has_good_figures() {
    for (form, quantized) in dynamic() {
        let report = run(&quantized);
        assert_eq!(report.samples, 6);
        for row in &report.activations {
            let f = &row.figures;
            assert!(f.layer.sqnr_db() > 30.0, "{form}: {row:?}");
            assert!(f.model.sqnr_db() > 28.0, "{form}: {row:?}");
            assert!(
                f.quantization.is_none_or(|q| q.sqnr_db() > 35.0),
                "{form}: {row:?}"
            );
        }
        let of = |name: &str| report.activations.iter().find(|a| a.name == name).unwrap();
        // What is computed in floats from what the float model has is the same.
        assert_eq!(of("r1").figures.layer.sqnr_db(), f64::INFINITY, "{form}");
        assert_eq!(
            (of("h1").node.as_str(), of("h1").op.as_str()),
            ("fc1", "MatMul")
        );
        assert_eq!(of("y").layer(), "fc3");
        assert!(of("x").op.is_empty());
        assert_eq!(of("x").dtype(), Some(DType::U8));
        // Each sample has its own scale, whose ends are used.
        let x = &of("x").figures;
        assert!(x.codes == 96 && x.saturated >= 6, "{x:?}");
    }
}

#[test]
fn broken_weights_are_named_first() {
    for (form, quantized) in dynamic() {
        for (weight, layer) in [("w1", "fc1"), ("w2", "fc2"), ("w3", "fc3")] {
            let codes = format!("{weight}_quantized");
            let report = run(&change(&quantized, &codes, negated));
            let worst = report.worst().unwrap();
            assert_eq!(worst.node, layer, "{form}: {worst:?}");
            assert!(worst.own_db < 0.0);
            assert_eq!(report.weights[0].name, weight, "{form}");
        }
    }
}

#[test]
fn broken_scales_are_named_first() {
    // Scales of the operator form are constants of their own only where they are not folded.
    for (form, quantized) in &dynamic()[..2] {
        for (weight, layer) in [("w1", "fc1"), ("w2", "fc2"), ("w3", "fc3")] {
            let broken = change(quantized, &format!("{weight}_scale"), times(8.0));
            let report = run(&broken);
            assert_eq!(report.worst().unwrap().node, layer, "{form}");
            assert_eq!(report.weights[0].name, weight, "{form}");
        }
    }
}

#[test]
fn broken_parameters_of_activations_are_named_first() {
    let good = run(&fixed());
    assert!(good.worst().unwrap().own_db > 20.0, "{:?}", good.worst());
    for tensor in ["x", "r1", "r2"] {
        let report = run(&change(&fixed(), &format!("{tensor}_scale"), times(0.02)));
        let worst = report.worst().unwrap();
        assert_eq!(worst.name, tensor, "{worst:?}");
        let f = &worst.figures;
        assert!(f.quantization.unwrap().sqnr_db() < f.layer.sqnr_db());
        let (range, codes) = (f.range.unwrap(), f.representable.unwrap());
        assert!(range.1 > codes.1 && 4 * f.saturated > f.codes, "{f:?}");
    }
}

#[test]
fn folded_weights_are_found_after_preprocess() {
    let float = onnxq::parse(
        r#"<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 3, 6, 6] x) => (float[N, 4, 6, 6] y)
        <float[4, 3, 1, 1] W = ["seed": "1"], float[4] gamma = {1, 2, 3, 4}, float[4] beta = {0, 1, 0, 1},
         float[4] mean = {0, 0.5, 0, 0}, float[4] var = {1, 2, 0.5, 1}>
        {
            [conv] c = Conv (x, W)
            [bn] n = BatchNormalization (c, gamma, beta, mean, var)
            [act] y = Relu (n)
        }"#,
    )
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy.npz");
    let values = (0..216u8).map(|i| f32::from(i % 17) / 17.0).collect();
    let x = Tensor::from_vec([2, 3, 6, 6].as_slice(), values).unwrap();
    data::write_npz(&path, &[("x".to_owned(), x)]).unwrap();
    let data = Data::open(&path, &float.graph, Batch::Auto).unwrap();
    for pipeline in [
        "preprocess,quantize{mode=dynamic}",
        "preprocess,quantize{mode=dynamic},fuse",
        // Not folded: the weight is that of the file.
        "quantize{mode=dynamic}",
    ] {
        let quantized = after(&float, pipeline);
        let report = debug(&float, &quantized, &data, None, &|| {}).unwrap();
        assert!(
            report.unmatched.is_empty(),
            "{pipeline}: {:?}",
            report.unmatched
        );
        assert_eq!(report.weights.len(), 1);
        let w = &report.weights[0];
        assert!(w.figures.distance.sqnr_db() > 30.0, "{pipeline}: {w:?}");
        let worst = report.worst().unwrap();
        assert_eq!(
            (worst.node.as_str(), worst.op.as_str()),
            ("conv", "Conv"),
            "{pipeline}"
        );
    }
}

#[test]
fn threads_do_not_show() {
    let (_, quantized) = &dynamic()[2];
    let run = |threads| debug(&float(), quantized, &data(70), Some(threads), &|| {}).unwrap();
    assert_eq!(run(1), run(3));
}

#[test]
fn models_without_anything_in_common_are_refused() {
    let other = onnxq::parse(
        r#"<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 16] x) => (float[N, 16] y) { y = Relu (x) }"#,
    )
    .unwrap();
    let refused = debug(&float(), &other, &data(1), None, &|| {});
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("made from this float model")
    );
}
