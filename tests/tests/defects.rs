//! Where the reference tool is wrong and we are right: D1 to D17 of the semantics, a test each.
//!
//! Each was reproduced with `onnxruntime.quantization` 1.31.1; the comments say what it makes of
//! the model. A model is quantized with the ranges it has on its inputs, and ONNX Runtime computes
//! the same before and after, as it is written and optimized, in the QDQ and the operator form.

use std::time::Instant;

use onnxq::{
    CalibrationOptions, calibrate,
    data::Data,
    quant::{CalibrationSpec, Method, Ranges, TensorRange, ValueRange},
};
use onnxq_ir::{Model, text};
use onnxq_pass::{Config, Instrumentation, PassContext, PassManager, Pipeline};
use onnxq_passes::RangeSource;
use onnxq_tensor::Tensor;
use onnxq_tests::{
    case::{Allowed, Case},
    inputs::generate,
    oracle::{Level, oracle},
    subject::{check_laws, check_outputs, run_passes, to_bytes},
};

/// Eight bits lose this much at most, in graphs of two nodes.
const EIGHT_BITS: Allowed = Allowed::Noise(28.0);

/// Quantizes `case`, whose `passes` are options of `quantize`, with its ranges, and checks what
/// ONNX Runtime computes.
fn holds(case: &str) -> (Model, Model) {
    try_holds(case).unwrap_or_else(|e| panic!("{e}"))
}

fn try_holds(case: &str) -> Result<(Model, Model), String> {
    let case = Case::parse(case)?;
    let def = text::parse(&case.model, &()).map_err(|e| e.to_string())?;
    let float = Model::from_def(def).map_err(|e| e.to_string())?;
    let inputs = generate(&float.graph, &case)?;
    let run = |model: &Model, level| {
        let bytes = to_bytes(model)?;
        oracle().check(&bytes).map_err(|e| e.to_string())?;
        let outputs = oracle().run(&bytes, &inputs, level);
        outputs.map_err(|e| e.to_string())
    };
    let expected = run(&float, Level::Disabled)?;
    let quantize = format!("quantize{{mode=static {}}}", case.passes);
    let made = [quantize.clone(), format!("{quantize},fuse")].map(|pipeline| {
        let mut model = float.clone();
        run_passes(&mut model, &pipeline, &mut context(&case)).map_err(|e| e.to_string())?;
        check_laws(&model)?;
        for level in [Level::Disabled, Level::All] {
            let outputs = run(&model, level).map_err(|e| format!("{pipeline}: {e}"))?;
            check_outputs(&expected, &outputs, case.tolerance.unwrap_or(EIGHT_BITS)).map_err(
                |e| {
                    format!(
                        "{pipeline}, {level:?}: {e}\n{}",
                        text::print(&model.to_def())
                    )
                },
            )?;
        }
        Ok::<Model, String>(model)
    });
    let [qdq, fused] = made;
    Ok((qdq?, fused?))
}

fn context(case: &Case) -> PassContext {
    let range = |(name, &[lo, hi]): (&String, &[f32; 2])| {
        let range = TensorRange::Tensor(ValueRange::new(lo, hi));
        (name.clone(), range)
    };
    let mut context = PassContext::new();
    context.provide(RangeSource::Table(case.ranges.iter().map(range).collect()));
    context
}

fn count(model: &Model, op_type: &str) -> usize {
    let graph = &model.graph;
    let ops = graph.node_ids().filter_map(|n| graph.op(n));
    ops.filter(|op| op.op_type == op_type).count()
}

fn opset(model: &Model) -> i64 {
    model.to_def().opsets.get("").copied().unwrap_or(0)
}

/// The tool scales the bias by beta and drops beta: 3.008 where the float model has 0.503.
#[test]
fn d1_beta_of_gemm() {
    for beta in ["0.5", "4.0"] {
        holds(&format!(
            "passes:\nranges: x = [-1, 1], y = [-9, 9]
            <ir_version: 8, opset_import: [\"\": 17]>
            main (float[4, 4] x) => (float[4, 3] y)
            <float[4, 3] W = [\"seed\": \"1\"], float[3] b = {{1.5, -2, 0.75}}>
            {{
                y = Gemm <beta = {beta}> (x, W, b)
            }}"
        ));
    }
}

/// The tool removes a Clip whose lower bound is above zero, which saturation cannot express: 0
/// where the float model has 0.5.
#[test]
fn d2_clip_that_saturation_cannot_express() {
    for (lo, hi) in [(0.5, 2.0), (-2.0, -0.5)] {
        let model = holds(&format!(
            "passes: activation-type=uint8\nranges: x = [-1, 1], c = [-3, 3], y = [{lo}, {hi}]
            <ir_version: 8, opset_import: [\"\": 17]>
            main (float[4, 4] x) => (float[4, 3] y)
            <float[4, 3] W = [\"seed\": \"1\", \"lo\": \"-2\", \"hi\": \"2\"], float lo = {{{lo}}}, float hi = {{{hi}}}>
            {{
                c = MatMul (x, W)
                y = Clip (c, lo, hi)
            }}"
        ));
        assert_eq!(count(&model.0, "Clip"), 1);
    }
}

/// The tool's operator form reads the input of a Relu for its output even where others read it
/// too: -1 where the float model has 0.
#[test]
fn d3_relu_of_a_value_with_other_uses() {
    holds(
        r#"passes: activation-type=uint8
ranges: x = [-1, 1], c = [-2, 2], r = [0, 2], y = [-2, 4]
        <ir_version: 8, opset_import: ["": 17]>
        main (float[4, 4] x) => (float[4, 3] y)
        <float[4, 3] W = ["seed": "1"]>
        {
            c = MatMul (x, W)
            r = Relu (c)
            y = Add (c, r)
        }"#,
    );
}

/// The tool's QGemm has a bias scale without alpha: 10.44 where the float model has 9.22.
#[test]
fn d4_alpha_of_gemm() {
    for alpha in ["2.0", "0.25"] {
        holds(&format!(
            "passes:\nranges: x = [-1, 1], y = [-6, 6]
            <ir_version: 8, opset_import: [\"\": 17]>
            main (float[4, 4] x) => (float[4, 3] y)
            <float[4, 3] W = [\"seed\": \"1\"], float[3] b = {{1.5, -2, 0.75}}>
            {{
                y = Gemm <alpha = {alpha}> (x, W, b)
            }}"
        ));
    }
}

/// The tool writes the attribute `axis`, which DequantizeLinear has not before opset 13: the model
/// does not load.
#[test]
fn d7_per_channel_before_opset_13() {
    for version in [10, 11, 12] {
        let (qdq, _) = holds(&format!(
            "passes: per-channel\nranges: x = [-1, 1], y = [-4, 4]
            <ir_version: 5, opset_import: [\"\": {version}]>
            main (float[1, 2, 5, 5] x) => (float[1, 3, 3, 3] y)
            <float[3, 2, 3, 3] W = [\"seed\": \"1\"]>
            {{
                y = Conv (x, W)
            }}"
        ));
        assert!(opset(&qdq) >= 13);
    }
}

/// The tool writes float16 scales, which only opset 19 allows: the model does not load.
#[test]
fn d8_float16_before_opset_19() {
    let (qdq, _) = holds(
        r#"passes:
ranges: x = [-1, 1], y = [-4, 4]
        <ir_version: 8, opset_import: ["": 13]>
        main (float16[4, 4] x) => (float16[4, 3] y)
        <float16[4, 3] W = ["seed": "1"]>
        {
            y = MatMul (x, W)
        }"#,
    );
    assert!(opset(&qdq) >= 19);
}

/// The tool raises an internal error.
#[test]
fn d9_per_channel_gemm_with_a_bias_of_another_rank() {
    for bias in [
        "[1, 3] b = {1.5, -2, 0.75}",
        "[1, 1] b = {1.5}",
        " b = {1.5}",
        "[4, 1] b = {1, -1, 0.5, 2}",
    ] {
        holds(&format!(
            "passes: per-channel\nranges: x = [-1, 1], y = [-6, 6]
            <ir_version: 8, opset_import: [\"\": 17]>
            main (float[4, 4] x) => (float[4, 3] y)
            <float[4, 3] W = [\"seed\": \"1\"], float{bias}>
            {{
                y = Gemm (x, W, b)
            }}"
        ));
    }
}

/// The tool raises an internal error: scales of one group, a bias of all.
#[test]
fn d10_per_channel_grouped_transposed_convolution() {
    holds(
        r#"passes: per-channel
ranges: x = [-1, 1], y = [-6, 6]
        <ir_version: 8, opset_import: ["": 17]>
        main (float[1, 4, 5, 5] x) => (float[1, 6, 7, 7] y)
        <float[4, 3, 3, 3] W = ["seed": "1"], float[6] b = {1, -1, 0.5, 2, -2, 0.25}>
        {
            y = ConvTranspose <group = 2> (x, W, b)
        }"#,
    );
}

/// The tool puts the scales along the axis that is summed over; the runtime refuses the model.
#[test]
fn d11_per_channel_matmul_with_a_weight_of_rank_3() {
    for (x, dims, y) in [
        ("2, 4, 3", "2, 3, 4", "2, 4, 4"),
        ("4, 3", "2, 3, 4", "2, 4, 4"),
    ] {
        holds(&format!(
            "passes: per-channel\nranges: x = [-1, 1], y = [-3, 3]
            <ir_version: 8, opset_import: [\"\": 17]>
            main (float[{x}] x) => (float[{y}] y)
            <float[{dims}] W = [\"seed\": \"1\"]>
            {{
                y = MatMul (x, W)
            }}"
        ));
    }
}

/// The tool rewires by the name of nodes, and these have none: both read the copy with the scales
/// of the second.
#[test]
fn d12_bias_shared_by_unnamed_nodes() {
    holds(
        r#"passes:
ranges: x = [-1, 1], y = [-6, 6], z = [-6, 6]
        <ir_version: 8, opset_import: ["": 17]>
        main (float[1, 2, 5, 5] x) => (float[1, 3, 3, 3] y, float[1, 3, 3, 3] z)
        <float[3, 2, 3, 3] W = ["seed": "1"], float[3, 2, 3, 3] V = ["seed": "2", "lo": "-0.01", "hi": "0.01"],
         float[3] b = {1.5, -2, 0.75}>
        {
            y = Conv (x, W, b)
            z = Conv (x, V, b)
        }"#,
    );
}

/// The tool takes a weight that a Constant node holds for an activation.
#[test]
fn d15_weight_in_a_constant_node() {
    let case = r#"passes: activation-type=uint8
ranges: x = [-1, 1], y = [-4, 4]
        <ir_version: 8, opset_import: ["": 17]>
        main (float[4, 2] x) => (float[4, 3] y)
        {
            W = Constant <value = float[2, 3] {1, -0.5, 0.25, 0.1, 0.2, -1.27}> ()
            y = MatMul (x, W)
        }"#;
    let parsed = Case::parse(case).unwrap();
    let def = text::parse(&parsed.model, &()).unwrap();
    let mut model = Model::from_def(def).unwrap();
    let pipeline = "preprocess,quantize{mode=static activation-type=uint8}";
    run_passes(&mut model, pipeline, &mut context(&parsed)).unwrap();
    let graph = &model.graph;
    let mut constants = graph.node_ids().filter(|&n| graph.node(n).is_constant());
    let codes = constants.find(|&n| graph.node(n).results[0].name == "W_quantized");
    let codes = graph
        .node(codes.expect("the weight is quantized"))
        .tensor()
        .unwrap();
    assert_eq!(codes.dtype(), onnxq_tensor::DType::I8);
    assert_eq!(codes.to_i64s().unwrap(), [100, -50, 25, 10, 20, -127]);
    holds(&case.replace("passes:", "passes: "));
}

/// The tool leaves operator sets that nothing uses: ai.onnx.ml, com.microsoft.nchwc and others.
#[test]
fn d16_no_operator_sets_without_a_use() {
    let (qdq, _) = holds(
        r#"passes:
ranges: x = [-1, 1], y = [-4, 4]
        <ir_version: 8, opset_import: ["": 17]>
        main (float[4, 4] x) => (float[4, 3] y)
        <float[4, 3] W = ["seed": "1"]>
        {
            y = MatMul (x, W)
        }"#,
    );
    assert_eq!(qdq.to_def().opsets.keys().collect::<Vec<_>>(), [""]);
    let mut model = qdq;
    run_passes(&mut model, "preprocess", &mut PassContext::new()).unwrap();
    assert_eq!(model.to_def().opsets.len(), 1);
}

/// A model of which the range of `x` is that of the data.
fn identity_of_x() -> Model {
    let text = "<ir_version: 8, opset_import: [\"\": 17]>
        main (float[N] x) => (float[N] y) { y = Sigmoid (x) }";
    Model::from_def(text::parse(text, &()).unwrap()).unwrap()
}

/// Calibrates `x` on samples of it.
fn range_of_x(samples: &[Vec<f32>], method: Method) -> Result<ValueRange, String> {
    let samples = samples
        .iter()
        .map(|s| vec![Some(Tensor::vector(s.clone()))]);
    let options = CalibrationOptions {
        spec: CalibrationSpec {
            method,
            symmetric: false,
        },
        ..CalibrationOptions::default()
    };
    let data = Data::from_samples(samples);
    let table = calibrate(&identity_of_x(), &data, &options, &mut |_, _| {});
    let table = table.map_err(|e| e.to_string())?;
    Ok(table.ranges.get("x").ok_or("no range")?.whole())
}

/// The tool with `CalibMaxIntermediateOutputs` forgets samples or says that there are none.
#[test]
fn d5_every_sample_counts() {
    let samples = [10.0, 1.0, 2.0].map(|a| vec![-a, a]);
    assert_eq!(
        range_of_x(&samples, Method::MINMAX),
        Ok(ValueRange::new(-10.0, 10.0))
    );
}

/// The tool's entropy has one candidate by default, the range of all values.
#[test]
fn d6_entropy_leaves_outliers_out() {
    let mut values: Vec<f32> = (0..20_000)
        .map(|i| (i % 200) as f32 / 100.0 - 1.0)
        .collect();
    values.push(32.0);
    let range = range_of_x(&[values], Method::ENTROPY).unwrap();
    assert!(range.hi < 16.0, "{range:?}");
}

/// The tool's ranges end where a NaN is, or leave it out.
#[test]
fn d13_nan_in_calibration_data() {
    for method in [Method::MINMAX, Method::PERCENTILE, Method::ENTROPY] {
        for bad in [f32::NAN, f32::INFINITY] {
            let samples = [vec![1.0, 2.0], vec![1.0, bad, -2.0, 5.0]];
            let error = range_of_x(&samples, method).unwrap_err();
            assert!(error.contains("`x`") || error.contains("'x'"), "{error}");
            assert!(error.contains("sample 1"), "{error}");
        }
    }
}

/// The tool's histograms need samples of one shape.
#[test]
fn d14_samples_of_different_shapes() {
    let samples: Vec<Vec<f32>> = (1..9)
        .map(|n| (0..100 * n).map(|i| (i % 97) as f32 - 48.0).collect())
        .collect();
    let joined = vec![samples.concat()];
    for method in [Method::PERCENTILE, Method::ENTROPY] {
        assert_eq!(
            range_of_x(&samples, method).unwrap(),
            range_of_x(&joined, method).unwrap()
        );
    }
}

/// The tool takes 3.8 times as long for twice the layers.
#[test]
fn d17_time_is_linear() {
    let time = |layers: usize| {
        let mut text = String::from(
            "<ir_version: 8, opset_import: [\"\": 17]>
            main (float[1, 4, 8, 8] x0) => (float[1, 4, 8, 8] y) <",
        );
        let weights: Vec<String> = (0..layers)
            .map(|i| format!("float[4, 4, 1, 1] W{i} = [\"seed\": \"{i}\"]"))
            .collect();
        text.push_str(&weights.join(", "));
        text.push_str("> {\n");
        let mut ranges = Ranges::default();
        for i in 0..layers {
            let j = i + 1;
            text.push_str(&format!(
                "c{j} = Conv (x{i}, W{i})\nx{j} = Sigmoid (c{j})\n"
            ));
            for name in [format!("x{i}"), format!("c{j}"), format!("x{j}")] {
                ranges.insert(name, TensorRange::Tensor(ValueRange::new(-1.0, 1.0)));
            }
        }
        text.push_str(&format!("y = Relu (x{layers})\n}}"));
        let model = Model::from_def(text::parse(&text, &()).unwrap()).unwrap();
        let once = || {
            let mut context = PassContext::new();
            context.provide(RangeSource::Table(ranges.clone()));
            let mut model = model.clone();
            let start = Instant::now();
            let pipeline = "quantize{mode=static per-channel},fuse";
            let pipeline = Pipeline::parse(pipeline).unwrap();
            let registry = onnxq::registry();
            let mut manager = PassManager::new(&registry, &pipeline, &Config::default()).unwrap();
            manager
                .run(&mut model, &mut context, &mut Instrumentation::default())
                .unwrap();
            start.elapsed()
        };
        (0..3).map(|_| once()).min().unwrap_or_default()
    };
    let (short, long) = (time(100), time(800));
    assert!(
        long < 24 * short,
        "100 layers take {short:?}, 800 take {long:?}"
    );
}
