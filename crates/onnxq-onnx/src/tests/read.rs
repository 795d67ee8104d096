//! What reading makes of models.

use crate::proto::{FunctionProto, OperatorSetIdProto, StringStringEntryProto, ValueInfoProto};

use super::*;

#[test]
fn what_is_not_a_model() {
    let error = |bytes: &'static [u8]| read(Bytes::from_static(bytes)).unwrap_err().to_string();
    let missing = "m.onnx: not an ONNX model: it has no graph or no `ir_version`";
    assert_eq!(error(b""), missing);
    assert_eq!(
        read(encoded(&ModelProto {
            graph: None,
            ir_version: Some(8),
            ..Default::default()
        }))
        .unwrap_err()
        .to_string(),
        missing
    );
    assert_eq!(error(b"\x3a\x00"), missing);
    assert!(error(b"PK\x03\x04 zip").starts_with("m.onnx: not an ONNX model, or a damaged one: "));
}

#[test]
fn a_file_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let error = crate::load(&dir.path().join("absent.onnx"))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot read ") && error.contains("absent.onnx: "),
        "{error}"
    );
    assert!(
        crate::load(dir.path())
            .unwrap_err()
            .to_string()
            .starts_with("cannot read ")
    );
}

#[test]
fn the_standard_domain_has_one_name() {
    let opset = |domain, version| OperatorSetIdProto {
        domain: text(domain),
        version,
    };
    let node = NodeProto {
        op_type: text("Relu"),
        domain: text("ai.onnx"),
        ..Default::default()
    };
    let model = read(encoded(&ModelProto {
        ir_version: Some(8),
        graph: Some(encoded(&graph_of_node(&node))),
        opset_import: vec![
            opset("ai.onnx", 13),
            opset("ai.onnx.ml", 3),
            opset("", 17),
            opset("", 9),
        ],
        ..Default::default()
    }))
    .unwrap();
    assert_eq!(
        model.opsets,
        [(String::new(), 17), ("ai.onnx.ml".to_owned(), 3)].into()
    );
    assert_eq!(model.graph.nodes[0].domain, "");
}

#[test]
fn names_must_be_utf8_and_documentation_is_mended() {
    let broken = Bytes::from_static(b"a\xffb");
    let entry = StringStringEntryProto {
        key: text("k"),
        value: broken.clone(),
    };
    let node = NodeProto {
        doc_string: broken.clone(),
        metadata_props: vec![entry],
        op_type: text("Op"),
        ..Default::default()
    };
    let graph = read_graph(&graph_of_node(&node)).unwrap();
    assert_eq!(graph.nodes[0].doc, "a\u{fffd}b");
    assert_eq!(graph.nodes[0].metadata["k"], "a\u{fffd}b");
    let node = NodeProto {
        input: vec![text("x"), broken.clone()],
        ..node
    };
    assert_eq!(
        refused(&graph_of_node(&node)),
        "m.onnx: graph `g`: node 0: input `a\u{fffd}b` is not UTF-8"
    );
    let value = ValueInfoProto {
        name: broken,
        ..Default::default()
    };
    let graph = GraphProto {
        name: text("g"),
        output: vec![value],
        ..Default::default()
    };
    assert!(refused(&graph).starts_with("m.onnx: graph `g`: output 0: name `a"));
}

#[test]
fn damage_is_reported_with_its_place() {
    let graph = GraphProto {
        name: text("g"),
        node: vec![text("\x0a\x09ab")],
        ..Default::default()
    };
    let error = refused(&graph);
    assert!(
        error.starts_with("m.onnx: graph `g`: node 0: not an ONNX model, or a dam"),
        "{error}"
    );
    let function = FunctionProto {
        name: text("f"),
        node: vec![text("\x0a\x09")],
        ..Default::default()
    };
    let model = ModelProto {
        ir_version: Some(8),
        graph: Some(encoded(&GraphProto::default())),
        functions: vec![encoded(&function)],
        ..Default::default()
    };
    let error = read(encoded(&model)).unwrap_err().to_string();
    assert!(
        error.starts_with("m.onnx: function 0: `f`: node 0: "),
        "{error}"
    );
}

#[test]
fn unknown_fields_are_skipped() {
    let mut bytes = model_of(&GraphProto {
        name: text("g"),
        ..Default::default()
    })
    .to_vec();
    // Field 100: a varint, eight bytes, a string, four bytes.
    bytes.extend(b"\xa0\x06\x05\xa1\x0612345678\xa2\x06\x03abc\xa5\x061234");
    assert_eq!(read(bytes.into()).unwrap().graph.name, "g");
}
