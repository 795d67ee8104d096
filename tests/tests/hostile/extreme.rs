//! Graphs of extreme length, width, depth, or size once they are expanded.

use onnxq_ir::{
    deep,
    def::{GraphDef, ModelDef, NodeDef, ValueDef},
    text,
};
use onnxq_tensor::DType;
use onnxq_tests::wire::{Message, model, node, value};

use super::{accepts, bytes_of, decides, refuses};

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
        let main = inner.message(11, &value("x", &[2])).message(11, &condition);
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
