//! Graphs that are none, and operators whose attributes or operands make no sense.

use onnxq_ir::text;

use super::{bytes_of, outcome, refuses};

#[test]
fn graphs_that_are_none() {
    let say = |text: &str| {
        let def = text::parse(text, &()).unwrap();
        refuses(&bytes_of(&def))
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
        match outcome(bytes_of(&def)) {
            Ok(is_good) => good += usize::from(is_good),
            Err(e) => wrong.push(format!("{line}: {e}")),
        }
        // The same where nothing is constant.
        let inputs = text.replace("(float[N] unused)", "(float[N] x4, w4, m, v, q)");
        if let Ok(def) = text::parse(&inputs, &()) {
            let error = outcome(bytes_of(&def)).err();
            wrong.extend(error.map(|e| format!("{line}, with inputs: {e}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(good > NONSENSE.len() / 2, "only {good} got to the passes");
}
