//! ONNX Runtime's own operators, and those of `ai.onnx.ml` without node tests, on small random
//! operands: we compute what ONNX Runtime does, and it accepts the types that we infer.

use onnxq_ir::{Model, text};
use onnxq_ops::infer;
use onnxq_tests::{
    case::{Allowed, Case},
    inferred::strip,
    inputs::generate,
    metrics::Tolerance,
    oracle::{Level, oracle},
    subject::{check_outputs, interpret, to_bytes},
};

/// Inputs, what those of integers hold if not the default, and constants.
type Operands = (&'static str, &'static str, &'static str);

/// Operator and attributes, operands, results, and the node's operands by name.
struct Row(&'static str, Operands, &'static str, &'static str);

const CODES: &str = "uniform(0, 255)";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // Activations.
    Row("com.microsoft.Gelu", ("float[2, 7] x", "", ""), "y", "x"),
    Row("com.microsoft.BiasGelu", ("float[2, 7] x", "", "float[7] b = [\"seed\": \"5\"]"), "y", "x, b"),
    Row("com.microsoft.FastGelu", ("float[2, 7] x", "", "float[7] b = [\"seed\": \"5\"]"), "y", "x, b"),
    Row("com.microsoft.FastGelu", ("float[2, 7] x", "", ""), "y", "x"),
    Row("com.microsoft.QuickGelu", ("float[2, 7] x", "", ""), "y", "x"),
    // Products.
    Row("com.microsoft.FusedMatMul <alpha = 0.5, transA = 1, transB = 1>", ("float[2, 4, 3] a, float[2, 5, 4] b", "", ""), "y", "a, b"),
    Row("com.microsoft.FusedConv <activation = \"Relu\", pads = [1, 1, 0, 0]>", ("float[1, 2, 5, 5] x", "", "float[3, 2, 2, 2] w = [\"seed\": \"3\"], float[3] b = [\"seed\": \"4\"]"), "y", "x, w, b"),
    Row("com.microsoft.FusedConv <activation = \"LeakyRelu\", activation_params = [0.2], group = 2>", ("float[1, 2, 5, 5] x", "", "float[4, 1, 3, 3] w = [\"seed\": \"3\"]"), "y", "x, w"),
    Row("com.microsoft.FusedConv <activation = \"Clip\", activation_params = [-0.2, 0.3]>", ("float[1, 2, 5, 5] x", "", "float[4, 2, 3, 3] w = [\"seed\": \"3\"]"), "y", "x, w"),
    Row("com.microsoft.FusedConv <activation = \"HardSigmoid\", activation_params = [0.2, 0.5]>", ("float[1, 2, 5, 5] x", "", "float[4, 2, 3, 3] w = [\"seed\": \"3\"]"), "y", "x, w"),
    Row("com.microsoft.FusedConv <activation = \"Tanh\">", ("float[1, 2, 5, 5] x, float[1, 4, 3, 3] z", "", "float[4, 2, 3, 3] w = [\"seed\": \"3\"], float[4] b = [\"seed\": \"4\"]"), "y", "x, w, b, z"),
    Row("com.microsoft.MatMulNBits <K = 40, N = 6, bits = 4, block_size = 16>", ("float[2, 3, 40] a", "", "uint8[6, 3, 8] b = [\"seed\": \"3\", \"lo\": \"0\", \"hi\": \"255\"], float[18] s = [\"seed\": \"4\"]"), "y", "a, b, s"),
    Row("com.microsoft.MatMulNBits <K = 48, N = 5, bits = 4, block_size = 16>", ("float[3, 48] a", "", "uint8[5, 3, 8] b = [\"seed\": \"3\", \"lo\": \"0\", \"hi\": \"255\"], float[15] s = [\"seed\": \"4\"], uint8[10] z = [\"seed\": \"6\", \"lo\": \"0\", \"hi\": \"255\"]"), "y", "a, b, s, z"),
    Row("com.microsoft.MatMulNBits <K = 32, N = 4, bits = 8, block_size = 32>", ("float[3, 32] a", "", "uint8[4, 1, 32] b = [\"seed\": \"3\", \"lo\": \"0\", \"hi\": \"255\"], float[4] s = [\"seed\": \"4\"], uint8[4] z = [\"seed\": \"6\", \"lo\": \"0\", \"hi\": \"255\"], float[4] c = [\"seed\": \"8\"]"), "y", "a, b, s, z, , c"),
    Row("com.microsoft.GatherBlockQuantized <gather_axis = 0, quantize_axis = 1, block_size = 16>", ("int64[2, 2] i", "", "uint4[5, 32] t = [\"seed\": \"3\", \"lo\": \"0\", \"hi\": \"15\"], float[5, 2] s = [\"seed\": \"4\"], uint4[5, 2] z = [\"seed\": \"6\", \"lo\": \"0\", \"hi\": \"15\"]"), "y", "t, i, s, z"),
    Row("com.microsoft.GatherBlockQuantized <gather_axis = 0, quantize_axis = 1, block_size = 16, bits = 4>", ("int64[3] i", "", "uint8[5, 16] t = [\"seed\": \"3\", \"lo\": \"0\", \"hi\": \"255\"], float[5, 2] s = [\"seed\": \"4\"]"), "y", "t, i, s"),
    Row("com.microsoft.GatherBlockQuantized <gather_axis = 0, quantize_axis = 1, block_size = 16, bits = 8>", ("int64[3] i", "", "uint8[5, 32] t = [\"seed\": \"3\", \"lo\": \"0\", \"hi\": \"255\"], float[5, 2] s = [\"seed\": \"4\"]"), "y", "t, i, s"),
    Row("com.microsoft.MatMulIntegerToFloat", ("uint8[3, 4] a", CODES, "int8[4, 5] b = [\"seed\": \"3\", \"lo\": \"-128\", \"hi\": \"127\"], float t = {0.03}, float[5] s = [\"seed\": \"4\"], uint8 m = {120}, int8[5] n = [\"seed\": \"5\", \"lo\": \"-9\", \"hi\": \"9\"], float[5] c = [\"seed\": \"8\"]"), "y", "a, b, t, s, m, n, c"),
    Row("com.microsoft.DynamicQuantizeMatMul", ("float[3, 4] a", "", "int8[4, 5] b = [\"seed\": \"3\", \"lo\": \"-128\", \"hi\": \"127\"], float[5] s = [\"seed\": \"4\"], int8[5] n = [\"seed\": \"5\", \"lo\": \"-9\", \"hi\": \"9\"], float[5] c = [\"seed\": \"8\"]"), "y", "a, b, s, n, c"),
    Row("com.microsoft.QGemm <transB = 1>", ("uint8[3, 4] a", CODES, "uint8[5, 4] b = [\"seed\": \"3\", \"lo\": \"0\", \"hi\": \"255\"], float t = {0.03}, uint8 m = {120}, float s = {0.02}, uint8 n = {9}, int32[5] c = [\"seed\": \"8\", \"lo\": \"-500\", \"hi\": \"500\"], float r = {0.2}, uint8 o = {7}"), "y", "a, t, m, b, s, n, c, r, o"),
    // Quantization.
    Row("com.microsoft.QuantizeLinear", ("float[3, 4] x", "", "float t = {0.03}, uint8 m = {120}"), "y", "x, t, m"),
    Row("com.microsoft.DequantizeLinear <axis = 1>", ("uint8[3, 4] x", CODES, "float[4] t = {0.03, 0.1, 0.2, 0.5}, uint8[4] m = {120, 3, 0, 255}"), "y", "x, t, m"),
    Row("com.microsoft.QLinearAdd", ("uint8[3, 4] x, uint8[4] y", CODES, "float s = {0.03}, uint8 z = {120}, float r = {0.05}, uint8 o = {30}"), "c", "x, s, z, y, r, o, r, z"),
    Row("com.microsoft.QLinearMul", ("uint8[3, 4] x, uint8[4] y", CODES, "float s = {0.03}, uint8 z = {120}, float r = {0.05}, uint8 o = {30}"), "c", "x, s, z, y, r, o, r, z"),
    Row("com.microsoft.QLinearSigmoid", ("uint8[3, 4] x", CODES, "float s = {0.03}, uint8 z = {120}, float r = {0.004}, uint8 o = {0}"), "c", "x, s, z, r, o"),
    Row("com.microsoft.QLinearLeakyRelu <alpha = 0.2>", ("uint8[3, 4] x", CODES, "float s = {0.03}, uint8 z = {120}, float r = {0.04}, uint8 o = {60}"), "c", "x, s, z, r, o"),
    Row("com.microsoft.QLinearSoftmax <opset = 13, axis = 1>", ("uint8[3, 4] x", CODES, "float s = {0.03}, uint8 z = {120}, float r = {0.004}, uint8 o = {0}"), "c", "x, s, z, r, o"),
    Row("com.microsoft.QLinearConcat <axis = 1>", ("uint8[3, 4] x, uint8[3, 2] y", CODES, "float s = {0.03}, uint8 z = {120}, float r = {0.05}, uint8 o = {30}"), "c", "r, z, x, s, z, y, r, o"),
    Row("com.microsoft.QLinearWhere", ("bool[3, 4] b, uint8[3, 4] x, uint8[3, 4] y", "", "float s = {0.03}, uint8 z = {120}, float r = {0.05}, uint8 o = {30}"), "c", "b, x, s, z, y, r, o, r, z"),
    Row("com.microsoft.QLinearAveragePool <kernel_shape = [2, 2], pads = [1, 0, 0, 1]>", ("uint8[1, 2, 4, 4] x", CODES, "float s = {0.03}, uint8 z = {120}, float r = {0.05}, uint8 o = {30}"), "c", "x, s, z, r, o"),
    Row("com.microsoft.QLinearGlobalAveragePool", ("uint8[1, 2, 4, 4] x", CODES, "float s = {0.03}, uint8 z = {120}, float r = {0.02}, uint8 o = {100}"), "c", "x, s, z, r, o"),
    Row("com.microsoft.DynamicQuantizeLSTM <hidden_size = 3>", ("float[4, 2, 5] x", "", "int8[1, 5, 12] w = [\"seed\": \"3\", \"lo\": \"-128\", \"hi\": \"127\"], int8[1, 3, 12] v = [\"seed\": \"4\", \"lo\": \"-128\", \"hi\": \"127\"], float[1, 24] b = [\"seed\": \"5\"], float[1] s = {0.01}, int8[1] z = {0}"), "y, h, c", "x, w, v, b, , , , , s, z, s, z"),
    // Normalizations.
    Row("SimplifiedLayerNormalization <axis = -1, epsilon = 0.01>", ("float[2, 3, 8] x", "", "float[8] s = [\"seed\": \"4\"]"), "y", "x, s"),
    Row("SimplifiedLayerNormalization <axis = -1>", ("float[2, 3, 8] x", "", "float[8] s = [\"seed\": \"4\"]"), "y, i", "x, s"),
    Row("com.microsoft.SkipLayerNormalization <epsilon = 0.01>", ("float[2, 3, 8] x, float[2, 3, 8] k", "", "float[8] g = [\"seed\": \"4\"], float[8] b = [\"seed\": \"5\"], float[8] c = [\"seed\": \"6\"]"), "y, , , s", "x, k, g, b, c"),
    Row("com.microsoft.SkipSimplifiedLayerNormalization", ("float[2, 3, 8] x, float[2, 3, 8] k", "", "float[8] g = [\"seed\": \"4\"]"), "y", "x, k, g"),
    Row("com.microsoft.EmbedLayerNormalization", ("int32[2, 3] i, int32[2, 3] j", "uniform(0, 1)", "float[4, 8] w = [\"seed\": \"1\"], float[5, 8] p = [\"seed\": \"2\"], float[2, 8] t = [\"seed\": \"3\"], float[8] g = [\"seed\": \"4\"], float[8] b = [\"seed\": \"5\"]"), "y, m", "i, j, w, p, t, g, b"),
    // Attention.
    Row("com.microsoft.Attention <num_heads = 2>", ("float[2, 3, 8] x", "", "float[8, 24] w = [\"seed\": \"4\"], float[24] b = [\"seed\": \"5\"], int32[2] m = {3, 2}"), "y", "x, w, b, m"),
    Row("com.microsoft.Attention <num_heads = 2, unidirectional = 1>", ("float[2, 3, 8] x", "", "float[8, 24] w = [\"seed\": \"4\"], float[24] b = [\"seed\": \"5\"]"), "y", "x, w, b"),
    Row("com.microsoft.Attention <num_heads = 2, unidirectional = 1>", ("float[2, 3, 8] x, float[2, 2, 2, 5, 4] p", "", "float[8, 24] w = [\"seed\": \"4\"], float[24] b = [\"seed\": \"5\"]"), "y, q", "x, w, b, , p"),
    Row("com.microsoft.Attention <num_heads = 2>", ("float[2, 3, 8] x, float[2, 2, 2, 2, 4] p", "", "float[8, 24] w = [\"seed\": \"4\"], float[24] b = [\"seed\": \"5\"], int32[2, 5] m = {1, 1, 1, 1, 0, 0, 1, 1, 1, 1}"), "y, q", "x, w, b, m, p"),
    Row("com.microsoft.Attention <num_heads = 2>", ("float[2, 3, 8] x", "", "float[8, 24] w = [\"seed\": \"4\"], float[24] b = [\"seed\": \"5\"]"), "y, q", "x, w, b"),
    Row("com.microsoft.QAttention <num_heads = 2>", ("uint8[2, 3, 8] x", CODES, "int8[8, 24] w = [\"seed\": \"4\", \"lo\": \"-128\", \"hi\": \"127\"], float[24] b = [\"seed\": \"5\"], float s = {0.02}, float t = {0.01}, uint8 z = {120}, int8 o = {3}"), "y", "x, w, b, s, t, , z, o"),
    Row("com.microsoft.QAttention <num_heads = 2, unidirectional = 1>", ("uint8[2, 3, 8] x, float[2, 2, 2, 5, 4] p", CODES, "int8[8, 24] w = [\"seed\": \"4\", \"lo\": \"-128\", \"hi\": \"127\"], float[24] b = [\"seed\": \"5\"], float s = {0.02}, float t = {0.01}, uint8 z = {120}, int8 o = {3}"), "y, q", "x, w, b, s, t, , z, o, p"),
    Row("com.microsoft.MultiHeadAttention <num_heads = 2>", ("float[2, 3, 8] q, float[2, 5, 8] k, float[2, 5, 6] v", "", ""), "y", "q, k, v"),
    Row("com.microsoft.MultiHeadAttention <num_heads = 2, unidirectional = 1, scale = 0.3>", ("float[2, 3, 8] q, float[2, 3, 8] k, float[2, 3, 8] v", "", "float[24] b = [\"seed\": \"5\"]"), "y, p, r", "q, k, v, b"),
    Row("com.microsoft.MultiHeadAttention <num_heads = 2>", ("float[2, 3, 8] q, float[2, 5, 8] k, float[2, 5, 8] v", "", "int32[2] m = {5, 2}, float[1, 2, 3, 5] e = [\"seed\": \"5\"]"), "y", "q, k, v, , m, e"),
    Row("com.microsoft.MultiHeadAttention <num_heads = 2>", ("float[2, 3, 8] q, float[2, 3, 8] k, float[2, 3, 8] v, float[2, 2, 4, 4] a, float[2, 2, 4, 4] b", "", "int32[2, 7] m = {1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1}"), "y, p, r", "q, k, v, , m, , a, b"),
    Row("com.microsoft.MultiHeadAttention <num_heads = 2>", ("float[2, 3, 8] q, float[2, 2, 5, 4] k, float[2, 2, 5, 4] v", "", ""), "y", "q, k, v"),
    Row("com.microsoft.RotaryEmbedding", ("float[2, 3, 4, 8] x", "", "int64[1] p = {2}, float[9, 4] c = [\"seed\": \"5\"], float[9, 4] s = [\"seed\": \"6\"]"), "y", "x, p, c, s"),
    Row("com.microsoft.RotaryEmbedding <interleaved = 1>", ("float[2, 3, 16] x", "", "int64[2, 3] p = {2, 3, 4, 0, 1, 2}, float[9, 4] c = [\"seed\": \"5\"], float[9, 4] s = [\"seed\": \"6\"]"), "y", "x, p, c, s"),
    Row("com.microsoft.RotaryEmbedding <num_heads = 2, rotary_embedding_dim = 4>", ("float[2, 3, 16] x", "", "int64[2, 3] p = {2, 3, 4, 0, 1, 2}, float[9, 2] c = [\"seed\": \"5\"], float[9, 2] s = [\"seed\": \"6\"]"), "y", "x, p, c, s"),
    Row("com.microsoft.GroupQueryAttention <num_heads = 4, kv_num_heads = 2>", ("float[2, 3, 32] q, float[2, 3, 16] k, float[2, 3, 16] v", "", "int32[2] l = {2, 2}, int32 t = {3}"), "y, p, r", "q, k, v, , , l, t"),
    Row("com.microsoft.GroupQueryAttention <num_heads = 4, kv_num_heads = 2, local_window_size = 2>", ("float[1, 6, 32] q, float[1, 6, 16] k, float[1, 6, 16] v", "", "int32[1] l = {5}, int32 t = {6}"), "y, p, r", "q, k, v, , , l, t"),
    Row("com.microsoft.GroupQueryAttention <num_heads = 4, kv_num_heads = 2, softcap = 1.5>", ("float[2, 1, 64] q, float[2, 2, 4, 8] a, float[2, 2, 4, 8] b", "", "int32[2] l = {4, 4}, int32 t = {5}"), "y, p, r", "q, , , a, b, l, t"),
    Row("com.microsoft.GroupQueryAttention <num_heads = 4, kv_num_heads = 2, do_rotary = 1>", ("float[2, 3, 64] q, float[2, 3, 32] k, float[2, 3, 32] v", "", "int32[2] l = {2, 2}, int32 t = {3}, float[9, 8] c = [\"seed\": \"5\"], float[9, 8] s = [\"seed\": \"6\"]"), "y, p, r", "q, k, v, , , l, t, c, s"),
    Row("com.microsoft.GroupQueryAttention <num_heads = 4, kv_num_heads = 2, do_rotary = 1, rotary_interleaved = 1>", ("float[1, 1, 64] q, float[1, 1, 32] k, float[1, 1, 32] v, float[1, 2, 4, 16] a, float[1, 2, 4, 16] b", "", "int32[1] l = {4}, int32 t = {5}, float[9, 8] c = [\"seed\": \"5\"], float[9, 8] s = [\"seed\": \"6\"]"), "y, p, r", "q, k, v, a, b, l, t, c, s"),
    Row("com.microsoft.GroupQueryAttention <num_heads = 4, kv_num_heads = 2, smooth_softmax = 1>", ("float[2, 1, 32] q, float[2, 1, 16] k, float[2, 1, 16] v, float[2, 2, 6, 8] a, float[2, 2, 6, 8] b", "", "int32[2] l = {5, 3}, int32 t = {6}, float[1, 4, 1, 6] e = [\"seed\": \"5\"]"), "y, p, r", "q, k, v, a, b, l, t, , , , e"),
    Row("MaxRoiPool <pooled_shape = [2, 3], spatial_scale = 0.5>", ("float[2, 3, 6, 7] x", "", "float[3, 5] r = {0, 0, 0, 9, 9, 1, 2, 3, 12, 11, 0, 5, 5, 4, 4}"), "y", "x, r"),
    // ai.onnx.ml
    Row("ai.onnx.ml.Scaler <offset = [0.1, 0.2, 0.3], scale = [1.5, 2.5, 3.5]>", ("float[4, 3] x", "", ""), "y", "x"),
    Row("ai.onnx.ml.Normalizer <norm = \"L1\">", ("float[4, 3] x", "", ""), "y", "x"),
    Row("ai.onnx.ml.Normalizer <norm = \"L2\">", ("float[4, 3] x", "", ""), "y", "x"),
    Row("ai.onnx.ml.Normalizer <norm = \"MAX\">", ("float[4, 3] x", "", ""), "y", "x"),
    Row("ai.onnx.ml.Imputer <imputed_value_int64s = [7, 8, 9], replaced_value_int64 = 2>", ("int64[4, 3] x", "", ""), "y", "x"),
    Row("ai.onnx.ml.FeatureVectorizer <inputdimensions = [3, 2]>", ("float[4, 3] x, float[4, 2] z", "", ""), "y", "x, z"),
    Row("ai.onnx.ml.CategoryMapper <cats_int64s = [2, 0], cats_strings = [\"two\", \"none\"], default_string = \"many\">", ("int64[4, 3] x", "", ""), "y", "x"),
    Row("ai.onnx.ml.LabelEncoder <keys_int64s = [2, 0], values_floats = [0.5, 1.5], default_float = 9.5>", ("int64[4, 3] x", "", ""), "y", "x"),
    Row("ai.onnx.ml.OneHotEncoder <cats_int64s = [2, 0, 1]>", ("int64[4, 3] x", "", ""), "y", "x"),
    Row("ai.onnx.ml.LinearRegressor <targets = 2, coefficients = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], intercepts = [1.0, 2.0], post_transform = \"SOFTMAX\">", ("float[4, 3] x", "", ""), "y", "x"),
    Row("ai.onnx.ml.TreeEnsembleRegressor <n_targets = 1, aggregate_function = \"AVERAGE\", nodes_treeids = [0, 0, 0, 1, 1, 1], nodes_nodeids = [0, 1, 2, 0, 1, 2], nodes_featureids = [0, 0, 0, 1, 0, 0], nodes_values = [0.1, 0.0, 0.0, -0.2, 0.0, 0.0], nodes_modes = [\"BRANCH_LEQ\", \"LEAF\", \"LEAF\", \"BRANCH_LEQ\", \"LEAF\", \"LEAF\"], nodes_truenodeids = [1, 0, 0, 1, 0, 0], nodes_falsenodeids = [2, 0, 0, 2, 0, 0], target_treeids = [0, 0, 1, 1], target_nodeids = [1, 2, 1, 2], target_ids = [0, 0, 0, 0], target_weights = [1.0, 2.0, 4.0, 8.0]>", ("float[6, 2] x", "", ""), "y", "x"),
];

/// Where we are not as ONNX Runtime, and why.
fn tolerance(node: &str) -> Tolerance {
    match node.contains("QLinear") || node.contains("QGemm") {
        // Codes: the same.
        true => Tolerance {
            rtol: 0.0,
            atol: 0.0,
        },
        false => Tolerance {
            rtol: 1e-4,
            atol: 2e-5,
        },
    }
}

fn check(row: &Row) -> Result<(), String> {
    let &Row(node, (inputs, fill, constants), results, operands) = row;
    let signature: Vec<String> = results
        .split(", ")
        .filter(|r| !r.is_empty())
        .map(|r| format!("float[] {r}"))
        .collect();
    let (name, attributes) = node.split_once(' ').unwrap_or((node, ""));
    let constants = match constants {
        "" => String::new(),
        constants => format!("<{constants}>"),
    };
    let source = format!(
        r#"<ir_version: 8, opset_import: ["": 21, "com.microsoft": 1, "ai.onnx.ml": 3]>
        g ({inputs}) => ({}) {constants} {{ {results} = {name} {attributes} ({operands}) }}"#,
        signature.join(", "),
    );
    let def = text::parse(&source, &()).map_err(|e| format!("{e}\n{source}"))?;
    let mut model = Model::from_def(def).map_err(|e| e.to_string())?;
    let mut case = Case::default();
    for &n in model.graph.inputs() {
        let value = model.graph.value(model.graph.result(n, 0));
        let is_float = value
            .ty
            .as_ref()
            .and_then(|t| t.dtype())
            .is_some_and(|d| d.is_float());
        if !fill.is_empty() && !is_float {
            case.inputs.push((value.name.clone(), fill.to_owned()));
        }
    }
    let inputs = generate(&model.graph, &case)?;
    strip(&mut model);
    for output in &mut model.graph.outputs {
        output.ty = None;
    }
    let report = infer::annotate(&mut model);
    if let Some(note) = report.notes.first() {
        return Err(format!("{note:?}"));
    }
    if let Some(o) = model
        .graph
        .outputs
        .iter()
        .find(|o| o.ty.as_ref().is_none_or(|t| t.shape().is_none()))
    {
        return Err(format!("the type of '{}' is not inferred", o.name));
    }
    let got = interpret(&model, &inputs).map_err(|e| e.to_string())?;
    let expected = oracle()
        .run(&to_bytes(&model)?, &inputs, Level::Disabled)
        .map_err(|e| e.to_string())?;
    check_outputs(&expected, &got, Allowed::Elements(tolerance(name)))
}

#[test]
fn what_is_computed_is_what_onnx_runtime_computes() {
    let mut wrong = String::new();
    for row in ROWS {
        if let Err(e) = check(row) {
            wrong.push_str(&format!("{} ({}): {e}\n", row.0, row.3));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
