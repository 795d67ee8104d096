//! Nodes of old opsets give the same results after they were brought to a later one.

use onnxq_ir::{Model, text};
use onnxq_ops::{Value, infer, interpret::Interpreter, upgrade};
use onnxq_tensor::{DType, Tensor};

/// Opset, signature, and node.
static NODES: &[(i64, &str, &str)] = &[
    (1, "float[2, 3] x", "Relu <consumed_inputs = [0]> (x)"),
    (1, "float[2, 3] x", "Selu <consumed_inputs = [0]> (x)"),
    (
        1,
        "float[2, 3] x",
        "Clip <max = 1.0, consumed_inputs = [0]> (x)",
    ),
    (1, "float[2, 3] x", "Cast <to = \"INT32\"> (x)"),
    (1, "float[2, 3] x", "Reshape <shape = [3, -1]> (x)"),
    (1, "float[2, 3] x, float[2, 2] z", "Concat (x, z)"),
    (
        1,
        "float[2, 3] x",
        "Pad <paddings = [0, 1, 1, 0], value = 2.0> (x)",
    ),
    (
        1,
        "float[2, 3] x",
        "Slice <starts = [0, 1], ends = [1, 3]> (x)",
    ),
    (
        1,
        "float[2, 3, 4] x, float[3] z",
        "Add <broadcast = 1, axis = 1> (x, z)",
    ),
    (
        1,
        "float[2, 3] x, float[2, 3] z",
        "Max <consumed_inputs = [0, 0]> (x, z)",
    ),
    (
        6,
        "float[2, 3, 4] x, float[3, 4] z",
        "Mul <broadcast = 1> (x, z)",
    ),
    (
        6,
        "float[2, 3, 4] x, float[2] z",
        "Sub <broadcast = 1, axis = 0> (x, z)",
    ),
    (
        6,
        "float[2, 3, 4] x, float[2, 3] z",
        "Div <broadcast = 1, axis = -3> (x, z)",
    ),
    (6, "float[2, 3] x, float[2, 3] z", "Less (x, z)"),
    (6, "float[2, 3, 4, 5] x, float[3] s", "PRelu (x, s)"),
    (6, "float[2, 3, 4, 5] x, float[1] s", "PRelu (x, s)"),
    (6, "float[2, 3] x", "Dropout <is_test = 1, ratio = 0.3> (x)"),
    (6, "float[2, 3] x", "Clip <min = -0.5, max = 0.5> (x)"),
    (6, "double[2, 3] x", "Clip <min = -0.5, max = 0.5> (x)"),
    (9, "float[2, 3] x", "Dropout <ratio = 0.3> (x)"),
    (
        9,
        "float[2, 3, 4] x",
        "Slice <starts = [1, -2], ends = [3, 100], axes = [1, 2]> (x)",
    ),
    (9, "float[1, 3, 1] x", "Squeeze <axes = [0]> (x)"),
    (9, "float[1, 3, 1] x", "Squeeze (x)"),
    (9, "float[2, 3] x", "Unsqueeze <axes = [0, 3]> (x)"),
    (9, "float[2, 3] x", "Pad <pads = [0, 1, 0, -1]> (x)"),
    (
        9,
        "float[2, 3] x",
        "Pad <pads = [0, 1, 0, 1], mode = \"reflect\"> (x)",
    ),
    (11, "float[2, 3] x", "Flatten <axis = -1> (x)"),
    (11, "float[2, 3] x, int64[2] i", "Gather <axis = 1> (x, i)"),
    (13, "float[2, 3] x", "Transpose (x)"),
];

fn model(opset: i64, inputs: &str, node: &str) -> Model {
    let source = format!(
        "<ir_version: 8, opset_import: [\"\": {opset}]>\nmain ({inputs}) => (y) {{ y = {node} }}"
    );
    let def = text::parse(&source, &()).unwrap_or_else(|e| panic!("{source}: {e}"));
    Model::from_def(def).unwrap_or_else(|e| panic!("{source}: {e}"))
}

/// Small numbers of both signs; indices that are in range.
fn inputs(model: &Model) -> Vec<Option<Value>> {
    let input = |&n: &onnxq_ir::NodeId| {
        let ty = model.graph.ty(model.graph.result(n, 0)).expect("declared");
        let shape = ty.shape().expect("declared");
        let dims: Vec<usize> = shape
            .iter()
            .map(|d| d.as_const().unwrap_or(1) as usize)
            .collect();
        let dtype = ty.dtype().expect("declared");
        let count: usize = dims.iter().product();
        let number = |i: usize| match dtype {
            DType::I64 => (i % 2) as f32,
            _ => (i * 7 % 11) as f32 / 4.0 - 1.25,
        };
        let floats = Tensor::from_vec(dims, (0..count).map(number).collect());
        let t = floats.and_then(|t: Tensor| t.cast(dtype, true));
        Some(Value::Tensor(t.expect("the elements fit the dimensions")))
    };
    model.graph.inputs().iter().map(input).collect()
}

fn run(model: &Model, of: &str) -> Value {
    let results = Interpreter::new(model).run(&model.graph, inputs(model));
    let mut results = results.unwrap_or_else(|e| panic!("{of}: {e:?}"));
    results.remove(0)
}

#[test]
fn results_stay_the_same() {
    for &(opset, signature, node) in NODES {
        let old = model(opset, signature, node);
        let expected = run(&old, node);
        for target in [12, 13, 17, 18, 21, 24] {
            let mut new = old.clone();
            infer::annotate(&mut new);
            if target > opset {
                let upgraded = upgrade::upgrade(&mut new, target);
                upgraded.unwrap_or_else(|e| panic!("{node} to {target}: {e:?}"));
            }
            assert_eq!(run(&new, node), expected, "{node} to {target}");
        }
    }
}

#[test]
fn what_became_an_operand_is_no_attribute() {
    let gone = [
        "consumed_inputs",
        "broadcast",
        "is_test",
        "starts",
        "axes",
        "pads",
        "paddings",
    ];
    for &(opset, signature, node) in NODES.iter().filter(|n| n.0 < 13) {
        let mut new = model(opset, signature, node);
        infer::annotate(&mut new);
        upgrade::upgrade(&mut new, 21).unwrap_or_else(|e| panic!("{node}: {e:?}"));
        for op in new.graph.node_ids().filter_map(|n| new.graph.op(n)) {
            let left = op.attrs.keys().find(|k| gone.contains(&k.as_str()));
            assert_eq!(left, None, "{node} has become {op:?}");
        }
    }
}

/// Only what was given: a default that is added must be the old one.
#[test]
fn a_default_that_changed_is_written_out() {
    let mut selu = model(1, "float[2, 3] x", "Selu (x)");
    infer::annotate(&mut selu);
    upgrade::upgrade(&mut selu, 6).expect("Selu can be upgraded");
    let op = selu.graph.node_ids().find_map(|n| selu.graph.op(n));
    assert_eq!(op.map(|op| op.float("alpha", 0.0)), Some(1.6732));
}

#[test]
fn what_cannot_be_upgraded_says_so_and_stays() {
    for (opset, signature, node) in [
        (
            6,
            "float x, float z",
            "Add <broadcast = 1, axis = 0> (x, z)",
        ),
        (5, "float[2, 3] x, float[1] t, float[1] a", "Tile (x, t, a)"),
    ] {
        // Of unknown rank, or not constant.
        let mut m = model(opset, signature, node);
        for &n in &m.graph.inputs().to_vec() {
            let v = m.graph.result(n, 0);
            m.graph.set_type(v, None);
        }
        let before = m.clone();
        assert!(upgrade::upgrade(&mut m, 13).is_err(), "{node}");
        assert!(m == before, "{node} changed");
    }
}
