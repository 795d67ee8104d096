//! Bad files give one error each, odd ones work: no panic, no signal, no output file on error, no
//! memory or time that only the file's own claims ask for.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use onnxq_ir::{
    Model, deep,
    def::{GraphDef, ModelDef, NodeDef, ValueDef},
    text,
};
use onnxq_pass::{Error, PassContext};
use onnxq_tensor::DType;
use onnxq_tests::{
    case::cases,
    program::Workbench,
    subject::{check_laws, from_bytes, run_passes, to_bytes},
    wire::{Message, graph, model, node},
    workspace_dir,
};

/// The three pipelines, one after the other.
const ALL: &str = "preprocess,quantize,fuse";

fn digits() -> Vec<u8> {
    fs::read(workspace_dir().join("docs/examples/digits/digits.onnx")).unwrap()
}

/// Runs all passes over a file; gives whether it is a good model, or what is wrong where it is
/// neither turned down by an error for users nor made into a good model.
fn outcome(bytes: Vec<u8>) -> Result<bool, String> {
    let Ok(def) = from_bytes(bytes) else {
        return Ok(false);
    };
    let Ok(mut model) = Model::from_def(def) else {
        return Ok(false);
    };
    if !model.verify().is_empty() {
        return Ok(false);
    }
    check_laws(&model)?;
    match run_passes(&mut model, ALL, &mut PassContext::new()) {
        Ok(_) => check_laws(&model)
            .map(|()| true)
            .map_err(|e| format!("after the passes: {e}")),
        Err(Error::Internal { pass, message, .. }) => Err(format!("in {pass}: {message}")),
        Err(_) => Ok(false),
    }
}

/// The same, where nothing may be wrong.
fn survives(what: &str, bytes: Vec<u8>) -> bool {
    outcome(bytes).unwrap_or_else(|e| panic!("{what}: {e}"))
}

/// The program on a bad file: one error line that names the file, and no output.
fn refuses(bytes: &[u8]) -> String {
    let bench = Workbench::new();
    bench.write("bad.onnx", bytes);
    let outcome = bench.run(["bad.onnx", "--passes", ALL, "-o", "out.onnx"]);
    let (message, _) = outcome.failure(1).unwrap();
    assert!(message.contains("bad.onnx"), "{message}");
    assert_eq!(bench.files(), ["bad.onnx"], "{message}");
    message.to_owned()
}

/// The program on an odd file: it works, and what it writes loads.
fn accepts(bytes: &[u8]) {
    let bench = Workbench::new();
    bench.write("odd.onnx", bytes);
    let outcome = bench.run(["odd.onnx", "--passes", ALL, "-o", "out.onnx"]);
    outcome.success().unwrap();
    let again = bench.run(["out.onnx", "--passes", "", "-o", "again.onnx"]);
    again.success().unwrap();
}

/// The program on a file that may be either.
fn decides(what: &str, bytes: &[u8]) {
    let bench = Workbench::new();
    bench.write("a.onnx", bytes);
    let outcome = bench.run(["a.onnx", "--passes", ALL, "-o", "out.onnx"]);
    let written = bench.path("out.onnx").exists();
    let contract = match outcome.status {
        Some(0) => outcome.success().map(drop),
        _ => outcome.failure(1).map(drop),
    };
    if let Err(e) = contract {
        panic!("{what}: {e}");
    }
    assert_eq!(written, outcome.status == Some(0), "{what}");
}

#[test]
fn truncated_files() {
    let bytes = digits();
    let step = bytes.len() / 300;
    for end in (0..bytes.len()).step_by(step) {
        survives(&format!("the first {end} bytes"), bytes[..end].to_vec());
    }
    let mut cuts: Vec<usize> = (0..20).collect();
    cuts.extend((0..bytes.len()).step_by(bytes.len() / 20));
    for end in cuts {
        decides(&format!("the first {end} bytes"), &bytes[..end]);
    }
}

#[test]
fn every_prefix_and_every_flipped_bit_of_small_files() {
    let mut good = 0;
    for (name, source) in cases().unwrap() {
        let case = onnxq_tests::case::Case::parse(&source).unwrap();
        if !name.starts_with("ir/") {
            continue;
        }
        let def = text::parse(&case.model, &()).unwrap();
        let bytes = to_bytes(&Model::from_def(def).unwrap()).unwrap();
        for end in 0..bytes.len() {
            survives(&format!("{name}, {end} bytes"), bytes[..end].to_vec());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            good += usize::from(survives(&format!("{name}, bit {bit}"), flipped));
        }
    }
    assert!(
        good > 100,
        "only {good} are still models: is anything tested?"
    );
}

#[test]
fn flipped_bits_of_a_real_file() {
    let bytes = digits();
    let mut random = Random(7);
    for round in 0..300 {
        let mut flipped = bytes.clone();
        for _ in 0..=round % 4 {
            let bit = random.below(bytes.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
        }
        let what = format!("round {round}");
        if round % 20 == 0 {
            decides(&what, &flipped);
        }
        survives(&what, flipped);
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

#[test]
fn files_that_are_no_models() {
    refuses(b"");
    refuses(b"{\"not\": \"onnx\"}");
    refuses(&[0xff; 64]);
    refuses(b"\x89PNG\r\n\x1a\n0123456789");
    refuses(&[0; 1000]);
}

#[test]
fn lengths_that_lie() {
    for len in [3, 1 << 20, 1 << 32, 1 << 62, u64::MAX] {
        refuses(&Message::new().int(1, 8).length(7, len).finish());
        let lying = Message::new().bytes(2, "g").length(5, len);
        refuses(&model(&lying));
    }
}

fn add(initializer: &Message) -> Vec<u8> {
    model(&graph(&node("Add", &["x", "w"], &["y"]), Some(initializer)))
}

/// A `TensorProto` named `w`.
fn tensor(dtype: i64, dims: &[i64]) -> Message {
    let dims = dims
        .iter()
        .fold(Message::new(), |tensor, &dim| tensor.int(1, dim));
    dims.int(2, dtype).bytes(8, "w")
}

#[test]
fn tensors_whose_size_is_not_that_of_their_data() {
    let zeros = [0u8; 8];
    accepts(&add(&tensor(1, &[2]).bytes(9, zeros)));
    for dims in [
        &[3i64][..],
        &[1],
        &[i64::MAX],
        &[1 << 40],
        &[-2],
        &[1 << 32, 1 << 32],
        &[i64::MAX, 2, 2],
    ] {
        let message = refuses(&add(&tensor(1, dims).bytes(9, zeros)));
        assert!(message.contains("`w`"), "{message}");
        refuses(&add(&tensor(1, dims)));
    }
    for dtype in [-1, 0, 99, i64::MAX] {
        refuses(&add(&tensor(dtype, &[2]).bytes(9, zeros)));
    }
    // The data of two types at once, and a tensor twice.
    decides(
        "two fields",
        &add(&tensor(1, &[2]).bytes(9, zeros).bytes(4, zeros)),
    );
    let w = tensor(1, &[2]).bytes(9, zeros);
    let twice = graph(&node("Add", &["x", "w"], &["y"]), Some(&w)).message(5, &w);
    decides("an initializer twice", &model(&twice));
}

#[test]
fn external_data_stays_beside_the_model() {
    let external = |location: &str, entries: &[(&str, &str)]| {
        let mut entries = entries.to_vec();
        entries.push(("location", location));
        let tensor = entries
            .iter()
            .fold(tensor(1, &[2]), |tensor, (key, value)| {
                tensor.message(13, &Message::new().bytes(1, key).bytes(2, value))
            });
        add(&tensor.int(14, 1))
    };
    let bench = Workbench::new();
    bench.write("weights", [0u8; 16]);
    fs::create_dir(bench.path("sub")).unwrap();
    let run = |bytes: &[u8]| {
        bench.write("sub/a.onnx", bytes);
        bench.run(["sub/a.onnx", "--passes", "preprocess", "-o", "sub/out.onnx"])
    };
    let outside = bench.path("weights");
    for location in [
        "../weights",
        "./../weights",
        "x/../../weights",
        outside.to_str().unwrap(),
        "/etc/hostname",
        "/dev/zero",
        "",
        "missing",
        ".",
        "a\0b",
    ] {
        let outcome = run(&external(location, &[]));
        outcome
            .failure(1)
            .unwrap_or_else(|e| panic!("{location}: {e}"));
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(bench.path("weights"), bench.path("sub/link")).unwrap();
        run(&external("link", &[])).failure(1).unwrap();
    }
    bench.write("sub/weights", [0u8; 16]);
    run(&external("weights", &[("offset", "8"), ("length", "8")]))
        .success()
        .unwrap();
    fs::remove_file(bench.path("sub/out.onnx")).unwrap();
    for (offset, length) in [
        ("12", "8"),
        ("8", "9"),
        ("0", "4"),
        ("-1", "8"),
        ("18446744073709551615", "8"),
        ("8", "18446744073709551615"),
        ("one", "8"),
    ] {
        let entries = [("offset", offset), ("length", length)];
        let outcome = run(&external("weights", &entries));
        outcome
            .failure(1)
            .unwrap_or_else(|e| panic!("{entries:?}: {e}"));
    }
    assert!(!bench.path("sub/out.onnx").exists());
}

#[test]
fn graphs_that_are_none() {
    let say = |text: &str| {
        let def = text::parse(text, &()).unwrap();
        let mut bytes = Vec::new();
        onnxq_onnx::write_to(&def, &mut bytes).unwrap();
        refuses(&bytes)
    };
    let cycle = say("g (float[2] x) => (float[2] y) { a = Add (x, b) b = Neg (a) y = Relu (b) }");
    assert!(cycle.contains("depends on its own result"), "{cycle}");
    assert!(say("g (float[2] x) => (float[2] y) { y = Add (x, nowhere) }").contains("'nowhere'"));
    assert!(say("g (float[2] x) => (float[2] y) { y = Relu (x) y = Neg (x) }").contains("'y'"));
    assert!(say("g (float[2] x) => (float[2] y) { z = Relu (x) }").contains("'y'"));
    say("g (float[2] x, float[2] x) => (float[2] y) { y = Relu (x) }");
    say("g (float[2] x) => (float[2] y) { y = other.Thing (x) }");
    // A function that calls itself.
    say("<ir_version: 10, opset_import: [\"\": 21, \"f\": 1]>\n\
         g (float[2] x) => (float[2] y) { y = f.F (x) }\n\
         <domain: \"f\", opset_import: [\"\": 21, \"f\": 1]> F (a) => (b) { b = f.F (a) }");
}

/// A graph of one operator whose attributes or operands make no sense. Everything is constant, so
/// that constants are folded as well.
const NONSENSE: &[&str] = &[
    "y = Conv <kernel_shape = \"three\"> (x4, w4)",
    "y = Conv <strides = [0, 0]> (x4, w4)",
    "y = Conv <strides = [-1, 1]> (x4, w4)",
    "y = Conv <dilations = [9223372036854775807, 1]> (x4, w4)",
    "y = Conv <group = 0> (x4, w4)",
    "y = Conv <group = -3> (x4, w4)",
    "y = Conv <group = 7> (x4, w4)",
    "y = Conv <pads = [1]> (x4, w4)",
    "y = Conv <pads = [-9, -9, -9, -9]> (x4, w4)",
    "y = Conv <pads = [9223372036854775807, 0, 9223372036854775807, 0]> (x4, w4)",
    "y = Conv <auto_pad = \"SIDEWAYS\"> (x4, w4)",
    "y = Conv (x4)",
    "y = Conv (x4, v)",
    "y = Conv (s, s)",
    "y = ConvTranspose <output_padding = [9223372036854775807, 5], strides = [4294967296, 4294967296]> (x4, w4)",
    "y = MaxPool <kernel_shape = [0, 0]> (x4)",
    "y = MaxPool <kernel_shape = [3]> (x4)",
    "y = MaxPool (x4)",
    "y = AveragePool <kernel_shape = [1000000000, 1000000000]> (x4)",
    "y = Gemm <transA = 7, transB = -1> (m, m, v, v)",
    "y = Gemm (x4, m)",
    "y = Gemm (m)",
    "y = Gemm <alpha = nan> (m, m)",
    "y = MatMul (s, v)",
    "y = MatMul (v, m2)",
    "y = MatMul (m)",
    "y = MatMul ()",
    "y = Add (v)",
    "y = Add (v, text)",
    "y = Add (v, m2)",
    "y = Relu (text)",
    "y = Reshape (m, minus)",
    "y = Reshape (m, huge)",
    "y = Reshape (m, m)",
    "y = Reshape (m)",
    "y = Transpose <perm = [0, 0]> (m)",
    "y = Transpose <perm = [5, -1]> (m)",
    "y = Transpose <perm = [0]> (m)",
    "y = Concat <axis = 99> (m, m)",
    "y = Concat <axis = -9223372036854775807> (m, m)",
    "y = Concat (m, m)",
    "y = Concat <axis = 0> ()",
    "y = Split <axis = 5> (m)",
    "y, z = Split (m, minus)",
    "y = Squeeze (m, huge)",
    "y = Unsqueeze (m, huge)",
    "y = Unsqueeze (m, minus)",
    "y = Gather (m, huge)",
    "y = Gather <axis = -7> (m, one)",
    "y = GatherElements (m, huge)",
    "y = GatherND <batch_dims = 12> (m, huge)",
    "y = Slice (m, huge, minus)",
    "y = Slice (m, minus, huge, huge, huge)",
    "y = Slice (m, one, one, one, zero)",
    "y = Pad (m, huge)",
    "y = Pad (m, minus)",
    "y = Tile (m, huge)",
    "y = Tile (m, minus)",
    "y = Expand (m, huge)",
    "y = ConstantOfShape (huge)",
    "y = ConstantOfShape (minus)",
    "y = ConstantOfShape <value = float[2] {1, 2}> (one)",
    "y = Range (zero1, big1, one1)",
    "y = Range (zero1, one1, zero1)",
    "y = OneHot (one, big1, v)",
    "y = EyeLike <k = -9223372036854775807> (m)",
    "y = Cast <to = 99> (m)",
    "y = Cast (m)",
    "y = Cast <to = 1> (text)",
    "y = Div (zero, zero)",
    "y = Mod (one, zero)",
    "y = Div (least, minus1)",
    "y = BitShift <direction = \"UP\"> (one, one)",
    "y = Softmax <axis = 12> (m)",
    "y = LayerNormalization <axis = -12> (m, v)",
    "y = BatchNormalization (x4, v, v, v, v)",
    "y = BatchNormalization <epsilon = nan> (x4, w4, w4, w4, w4)",
    "y = InstanceNormalization (v, v, v)",
    "y = ReduceSum <keepdims = 3> (m, huge)",
    "y = ReduceMean (s, huge)",
    "y = ArgMax <axis = 44> (m)",
    "y = TopK (m, huge)",
    "y = TopK (m, minus1)",
    "y = CumSum (m, huge)",
    "y = Resize (x4, , , huge)",
    "y = Resize (x4, , v)",
    "y = Resize (x4)",
    "y = LSTM <hidden_size = -4> (x3, x3, x3)",
    "y = LSTM (x3, x3, x3)",
    "y = LSTM <hidden_size = 9223372036854775807, direction = \"up\"> (x3, x3, x3)",
    "y = GRU <hidden_size = 1, activations = [\"Nothing\"]> (x3, x3, x3)",
    "y = QuantizeLinear (m, zero)",
    "y = QuantizeLinear <axis = 9> (m, v)",
    "y = QuantizeLinear <axis = 0, block_size = -1> (m, m)",
    "y = DequantizeLinear (m, v)",
    "y = DequantizeLinear <axis = -9> (q, v)",
    "y = DynamicQuantizeLinear (one)",
    "y = MatMulInteger (q, m)",
    "y = QLinearMatMul (q, s, q)",
    "y = QLinearConv (q, s, q, q, s, q, s, q)",
    "y = Einsum <equation = \"ij,jk->zz\"> (m, m)",
    "y = Einsum <equation = \"......\"> (m, m)",
    "y = Einsum (m)",
    "y = DepthToSpace <blocksize = 0> (x4)",
    "y = SpaceToDepth <blocksize = -2> (x4)",
    "y = If (m) <then_branch = 3>",
    "y = If (yes)",
    "y = If (yes) <then_branch = a () => (float p) { p = Identity (s) }, else_branch = b () => () {}>",
    "y = Loop (huge, yes)",
    "y = Loop (least, yes, s) <body = b () => () {}>",
    "y = Scan <num_scan_inputs = -5> (m)",
    "y = SequenceAt (m, one)",
    "y = SplitToSequence (m, huge)",
    "y = Constant ()",
    "y = Constant <value_float = 1.0, value_int = 3> ()",
    "y = Constant <value = \"text\"> ()",
    "y = Clip (m, x4, v)",
    "y = Clip (m, v, v)",
    "y = Flatten <axis = 1000> (m)",
    "y = Shape <start = -100, end = 9223372036854775807> (m)",
    "y = Identity ()",
    "y = Dropout <seed = 1> ()",
    "y = Where (yes, m, x4)",
    "y = NonMaxSuppression (m, m)",
    "y = Upsample (x4, v)",
    "y = Sum ()",
    "y = Attention (m, m)",
];

#[test]
fn attributes_and_operands_that_make_no_sense() {
    let (mut good, mut wrong) = (0, Vec::new());
    for line in NONSENSE {
        let text = format!(
            r#"<ir_version: 10, opset_import: ["": 21]>
            g (float[N] unused) => (y)
            <
                float s = {{0.5}}, float[4] v = {{1, 2, 3, 4}}, float[4, 4] m = ["seed": "1"],
                float[3, 5] m2 = ["seed": "2"], float[1, 4, 6] x3 = ["seed": "3"],
                float[1, 4, 8, 8] x4 = ["seed": "4"], float[4, 4, 3, 3] w4 = ["seed": "5"],
                uint8[4, 4] q = ["seed": "6"], string[2] text = {{"a", "b"}}, bool yes = {{1}},
                int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] minus1 = {{-1}},
                int64[3] minus = {{-1, -1, -5}}, int64[1] least = {{-9223372036854775808}},
                int64[3] huge = {{9223372036854775807, 4294967296, 4611686018427387904}},
                int64 zero1 = {{0}}, int64 one1 = {{1}}, int64 big1 = {{9223372036854775807}}
            >
            {{ {line} }}"#
        );
        let def = text::parse(&text, &()).unwrap_or_else(|e| panic!("{line}: {e}"));
        let mut bytes = Vec::new();
        onnxq_onnx::write_to(&def, &mut bytes).unwrap();
        let start = Instant::now();
        match outcome(bytes) {
            Ok(is_good) => good += usize::from(is_good),
            Err(e) => wrong.push(format!("{line}: {e}")),
        }
        // The same where nothing is constant.
        let inputs = text.replace("(float[N] unused)", "(float[N] x4, w4, m, v, q)");
        if let Ok(def) = text::parse(&inputs, &()) {
            let mut bytes = Vec::new();
            onnxq_onnx::write_to(&def, &mut bytes).unwrap();
            wrong.extend(
                outcome(bytes)
                    .err()
                    .map(|e| format!("{line}, with inputs: {e}")),
            );
        }
        if start.elapsed() > Duration::from_secs(20) {
            wrong.push(format!("{line}: it takes {:?}", start.elapsed()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(good > NONSENSE.len() / 2, "only {good} got to the passes");
}

fn chain(len: usize) -> ModelDef {
    let ops = ["Relu", "Neg", "Abs", "Sigmoid"];
    let nodes = (0..len).map(|i| NodeDef {
        op_type: ops[i % ops.len()].to_owned(),
        inputs: vec![format!("v{i}")],
        outputs: vec![format!("v{}", i + 1)],
        ..NodeDef::default()
    });
    model_def(GraphDef {
        name: "chain".to_owned(),
        inputs: vec![port("v0")],
        outputs: vec![port(&format!("v{len}"))],
        nodes: nodes.collect(),
        ..GraphDef::default()
    })
}

fn port(name: &str) -> ValueDef {
    ValueDef::new(name, Some(onnxq_ir::Type::dense(DType::F32, &[2])))
}

fn model_def(graph: GraphDef) -> ModelDef {
    ModelDef {
        ir_version: 8,
        opsets: [(String::new(), 13)].into_iter().collect(),
        graph,
        ..ModelDef::default()
    }
}

fn bytes_of(def: &ModelDef) -> Vec<u8> {
    let mut bytes = Vec::new();
    onnxq_onnx::write_to(def, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_chain_of_100_000_nodes() {
    accepts(&bytes_of(&chain(100_000)));
}

#[test]
fn one_value_with_100_000_users() {
    let count = 100_000;
    let mut nodes: Vec<NodeDef> = (0..count)
        .map(|i| NodeDef {
            op_type: "Neg".to_owned(),
            inputs: vec!["x".to_owned()],
            outputs: vec![format!("v{i}")],
            ..NodeDef::default()
        })
        .collect();
    nodes.push(NodeDef {
        op_type: "Sum".to_owned(),
        inputs: (0..count).map(|i| format!("v{i}")).collect(),
        outputs: vec!["y".to_owned()],
        ..NodeDef::default()
    });
    accepts(&bytes_of(&model_def(GraphDef {
        name: "fan".to_owned(),
        inputs: vec![port("x")],
        outputs: vec![port("y")],
        nodes,
        ..GraphDef::default()
    })));
}

/// `If` in `If`, so many deep; each level uses the value before it.
fn nested(levels: usize) -> Vec<u8> {
    deep(|| {
        let mut inner = Message::new()
            .message(1, &node("Relu", &["x"], &["r0"]))
            .bytes(2, "g0")
            .message(12, &Message::new().bytes(1, "r0"));
        for level in 1..=levels {
            let result = format!("r{level}");
            let branch = |name: &str| Message::new().bytes(1, name).message(6, &inner).int(20, 5);
            let other = Message::new()
                .message(1, &node("Neg", &["x"], &["o"]))
                .bytes(2, "other")
                .message(12, &Message::new().bytes(1, "o"));
            let other = Message::new()
                .bytes(1, "else_branch")
                .message(6, &other)
                .int(20, 5);
            let branching = node("If", &["c"], &[&result])
                .message(5, &branch("then_branch"))
                .message(5, &other);
            inner = Message::new()
                .message(1, &branching)
                .bytes(2, format!("g{level}"))
                .message(12, &Message::new().bytes(1, &result));
        }
        let boolean = Message::new().int(1, 9).message(2, &Message::new());
        let condition = Message::new()
            .bytes(1, "c")
            .message(2, &Message::new().message(1, &boolean));
        let main = inner
            .message(11, &onnxq_tests::wire::value("x", &[2]))
            .message(11, &condition);
        model(&main)
    })
}

#[test]
fn if_nested_500_deep() {
    accepts(&nested(500));
}

#[test]
fn if_nested_too_deep_is_an_error() {
    let message = refuses(&nested(3000));
    assert!(message.contains("deep"), "{message}");
}

#[test]
fn functions_that_double_each_time_stay_small() {
    // Inlined, the last would have 2^60 nodes.
    let mut text = String::from(
        "<ir_version: 10, opset_import: [\"\": 21, \"f\": 1]>\n\
         g (float[2] x) => (float[2] y) { y = f.F59 (x) }\n",
    );
    for i in 0..60 {
        let body = match i {
            0 => "b = Relu (a)".to_owned(),
            _ => format!("t = f.F{} (a) b = f.F{} (t)", i - 1, i - 1),
        };
        text.push_str(&format!(
            "<domain: \"f\", opset_import: [\"\": 21, \"f\": 1]> F{i} (a) => (b) {{ {body} }}\n"
        ));
    }
    let def = text::parse(&text, &()).unwrap();
    decides("functions", &bytes_of(&def));
}

#[test]
fn files_that_cannot_be_read_or_written() {
    let bench = Workbench::new();
    bench.write("good.onnx", digits());
    fs::create_dir(bench.path("folder.onnx")).unwrap();
    let passes = ["--passes", "preprocess", "-o"];
    for (model, out) in [
        ("missing.onnx", "out.onnx"),
        ("folder.onnx", "out.onnx"),
        ("good.onnx", "folder.onnx"),
        ("good.onnx", "missing/out.onnx"),
    ] {
        let outcome = bench.run([model].into_iter().chain(passes).chain([out]));
        outcome
            .failure(1)
            .unwrap_or_else(|e| panic!("{model} {out}: {e}"));
    }
    assert_eq!(bench.files(), ["folder.onnx", "good.onnx"]);
    if Path::new("/dev/full").exists() {
        let outcome = bench.run(["good.onnx", "--passes", "preprocess", "-o", "/dev/full"]);
        assert_ne!(outcome.status, None);
        assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    }
}
