//! Attributes, with and without their type.

use indexmap::IndexMap;
use onnxq_ir::{Attr, AttrKind};

use super::*;
use crate::proto::AttributeProto;

fn node(attributes: &[AttributeProto]) -> GraphProto {
    graph_of_node(&NodeProto {
        name: text("n"),
        op_type: text("Op"),
        attribute: attributes.iter().map(encoded).collect(),
        ..NodeProto::default()
    })
}

fn read_attrs(attributes: &[AttributeProto]) -> IndexMap<String, Attr<GraphDef>> {
    read_graph(&node(attributes)).unwrap().nodes.remove(0).attrs
}

fn named(name: &str) -> AttributeProto {
    AttributeProto {
        name: text(name),
        ..AttributeProto::default()
    }
}

fn of_kind(kind: AttrKind) -> AttributeProto {
    AttributeProto {
        r#type: Some(kind.onnx()),
        ..named("a")
    }
}

#[test]
fn old_files_without_types() {
    // What IR version 1 wrote: the value alone.
    let mut model = samples::full_model();
    let node = &mut model.graph.nodes[0];
    node.attrs
        .retain(|_, a| !matches!(a, Attr::Ref { .. }) && a != &Attr::Floats(vec![]));
    node.attrs.retain(|_, a| a != &Attr::Ints(vec![]));
    let proto = ModelProto::decode(Bytes::from(written(&model))).unwrap();
    let graph = GraphProto::decode(proto.graph.unwrap()).unwrap();
    let typed = NodeProto::decode(graph.node[0].clone()).unwrap();
    let untyped = typed.attribute.iter().map(|a| {
        let a = AttributeProto::decode(a.clone()).unwrap();
        encoded(&AttributeProto { r#type: None, ..a })
    });
    let untyped = NodeProto {
        attribute: untyped.collect(),
        ..NodeProto::default()
    };
    let read = read_graph(&graph_of_node(&untyped)).unwrap();
    assert_eq!(read.nodes[0].attrs, model.graph.nodes[0].attrs);
}

#[test]
fn zeros_may_be_left_out() {
    let read = |kind| read_attrs(&[of_kind(kind)])["a"].clone();
    assert_eq!(read(AttrKind::Float), Attr::Float(0.0));
    assert_eq!(read(AttrKind::Int), Attr::Int(0));
    assert_eq!(read(AttrKind::String), Attr::String(Bytes::new()));
    assert_eq!(read(AttrKind::Ints), Attr::Ints(vec![]));
    assert_eq!(read(AttrKind::Graphs), Attr::Graphs(vec![]));
}

#[test]
fn a_value_of_another_type_is_refused() {
    let wrong = AttributeProto {
        i: Some(1),
        ..of_kind(AttrKind::Float)
    };
    assert_eq!(
        refused(&node(&[wrong])),
        "m.onnx: graph `g`: node 0 `n` (Op): attribute `a`: it is of type float but has a int"
    );
    let error = |proto| refused(&node(&[proto]));
    for kind in [
        AttrKind::Tensor,
        AttrKind::Graph,
        AttrKind::SparseTensor,
        AttrKind::Type,
    ] {
        let message = error(of_kind(kind));
        assert!(message.ends_with(&format!("of type {} but has no value", kind.name())));
    }
    assert!(error(named("a")).ends_with("it has neither a type nor a value"));
    let future = AttributeProto {
        r#type: Some(77),
        ..named("a")
    };
    assert!(error(future).ends_with("attribute type 77 is not supported"));
    let empty = AttributeProto {
        tp: Some(Bytes::new()),
        ..of_kind(AttrKind::Type)
    };
    assert!(error(empty).ends_with("the type is empty"));
}

#[test]
fn of_a_repeated_attribute_the_last_counts() {
    let inner = encoded(&GraphProto {
        name: text("inner"),
        ..GraphProto::default()
    });
    let graph = AttributeProto {
        g: Some(inner),
        ..named("a")
    };
    let int = AttributeProto {
        i: Some(1),
        ..named("a")
    };
    let other = AttributeProto {
        i: Some(2),
        ..named("b")
    };
    let attrs = read_attrs(&[graph.clone(), other.clone(), int.clone()]);
    assert_eq!(attrs["a"], Attr::Int(1));
    assert_eq!(attrs.len(), 2);
    let attrs = read_attrs(&[int, other, graph]);
    assert_eq!(attrs["a"].as_graph().unwrap().name, "inner");
}

#[test]
fn references_and_documentation() {
    let reference = AttributeProto {
        ref_attr_name: text("outer"),
        doc_string: text("why"),
        ..of_kind(AttrKind::Ints)
    };
    let graph = read_graph(&node(&[
        reference,
        AttributeProto {
            i: Some(1),
            ..named("b")
        },
    ]));
    let node = &graph.unwrap().nodes[0];
    let expected = Attr::Ref {
        name: "outer".to_owned(),
        kind: AttrKind::Ints,
    };
    assert_eq!(node.attrs["a"], expected);
    assert_eq!(node.attr_docs, samples::metadata(&[("a", "why")]));
}
