//! Damaged and malicious files: errors, never a panic, never memory that the file does not back.

use proptest::prelude::*;

use super::*;
use crate::{
    MAX_NESTING,
    proto::{AttributeProto, ElementTypeProto, TypeProto, TypeValue, ValueInfoProto},
    rope::Rope,
};

/// A model of nothing but `depth` graphs in nodes in each other.
fn deep_file(depth: usize) -> Bytes {
    let mut rope = Rope::default();
    let end = rope.mark();
    for _ in 0..depth {
        rope.close(6, end);
        rope.int(20, 5);
        rope.required_text(1, "then_branch");
        rope.close(5, end);
        rope.close(1, end);
    }
    rope.close(7, end);
    rope.int(1, 8);
    let mut bytes = Vec::new();
    rope.write_to(&mut bytes).unwrap();
    bytes.into()
}

#[test]
fn deep_nesting_goes_both_ways() {
    for depth in [500, MAX_NESTING] {
        let model = ModelDef {
            ir_version: 8,
            graph: samples::nested(depth),
            ..ModelDef::default()
        };
        assert_eq!(read(written(&model).into()).unwrap(), model);
    }
}

#[test]
fn deeper_nesting_is_an_error() {
    assert!(read(deep_file(MAX_NESTING)).is_ok());
    for depth in [MAX_NESTING + 1, 1_000_000] {
        let error = read(deep_file(depth)).unwrap_err().to_string();
        assert!(
            error.ends_with("nesting deeper than 1000 graphs is not supported"),
            "{error}"
        );
    }
}

#[test]
fn nested_types() {
    let nested = |depth| {
        let mut bytes = Bytes::new();
        for _ in 0..depth {
            let element = ElementTypeProto {
                elem_type: Some(bytes),
            };
            bytes = encoded(&TypeProto {
                value: Some(TypeValue::Sequence(element)),
            });
        }
        let value = ValueInfoProto {
            name: text("v"),
            r#type: Some(bytes),
            ..Default::default()
        };
        read_graph(&GraphProto {
            input: vec![value],
            ..Default::default()
        })
    };
    assert!(nested(MAX_NESTING).is_ok());
    let error = nested(MAX_NESTING + 1).unwrap_err().to_string();
    assert!(
        error.contains("input 0: `v`: type: a type nested more than 1000"),
        "{error}"
    );
}

#[test]
fn lengths_that_lie() {
    // Field 7 of four exabytes, and a packed `int32_data` longer than the file.
    assert!(
        read(Bytes::from_static(
            b"\x08\x08\x3a\xff\xff\xff\xff\xff\xff\xff\x3f"
        ))
        .is_err()
    );
    let tensor = Bytes::from_static(b"\x10\x06\x2a\xff\xff\xff\xff\x0f\x01");
    let graph = GraphProto {
        initializer: vec![tensor],
        ..Default::default()
    };
    assert!(refused(&graph).contains("not an ONNX model"));
}

#[test]
fn unknown_groups_do_not_exhaust_the_stack() {
    // Field 100 opens a group, a million times.
    let groups: Vec<u8> = [0xa3, 0x06].repeat(1_000_000);
    assert!(read(groups.into()).is_err());
}

fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let mut model = samples::full_model();
    model.graph.initializers.retain(|i| i.name != "w");
    for node in &mut model.graph.nodes {
        node.attrs.shift_remove("tensor");
    }
    let file = written(&model);
    let len = file.len();
    let flips = prop::collection::vec((0..len, any::<u8>()), 0..8);
    (flips, 0..=len, any::<bool>()).prop_map(move |(flips, end, cut)| {
        let mut bytes = file.clone();
        for (at, value) in flips {
            bytes[at] = value;
        }
        bytes.truncate(if cut { end } else { len });
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// What damage leaves readable is written and read again as it is.
    #[test]
    fn damage_never_panics(bytes in damaged()) {
        if let Ok(model) = read(bytes.into()) {
            prop_assert_eq!(read(written(&model).into()).unwrap(), model);
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let attribute = AttributeProto { t: None, ..AttributeProto::default() };
        let graph = GraphProto { node: vec![bytes.clone().into(), encoded(&attribute)], ..Default::default() };
        let _ = read_graph(&graph);
        let _ = crate::tensor_from_bytes(&Buffer::from(bytes.clone()), "t.pb");
        let _ = read(bytes.into());
    }
}
