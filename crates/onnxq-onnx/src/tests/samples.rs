//! A model with something in every field.

use indexmap::IndexMap;
use onnxq_ir::{
    Attr, AttrKind, SparseTensor, TensorType, Type,
    def::{FunctionDef, GraphDef, InitializerDef, Literal, Metadata, ModelDef, NodeDef, ValueDef},
};
use onnxq_tensor::{Bytes, DType, Dim, Tensor};

pub(super) fn metadata(pairs: &[(&str, &str)]) -> Metadata {
    pairs
        .iter()
        .map(|&(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

pub(super) fn initializer(name: &str, tensor: Tensor) -> InitializerDef {
    InitializerDef {
        name: name.to_owned(),
        value: Literal::Dense(tensor),
        doc: String::new(),
        metadata: Metadata::new(),
    }
}

/// A tensor of `len` floats that counts from `from`.
pub(super) fn weights(from: usize, len: usize) -> Tensor {
    Tensor::vector((from..from + len).map(|v| v as f32).collect())
}

fn strings(values: &[&'static [u8]]) -> Tensor {
    let values: Vec<_> = values.iter().map(|v| Bytes::from_static(v)).collect();
    Tensor::from_strings([values.len()].as_slice(), values).unwrap()
}

fn sparse() -> SparseTensor {
    SparseTensor {
        values: Tensor::vector(vec![1.5f32, 2.5]),
        indices: Tensor::vector(vec![3i64, 700]),
        dims: vec![30, 40],
    }
}

fn types() -> Vec<Type> {
    let boxed = |t: &Type| Some(Box::new(t.clone()));
    let shape = [
        Dim::known(0),
        Dim::parse("batch"),
        Dim::UNKNOWN,
        Dim::known(7),
    ];
    let tensor = Type::tensor(DType::F32, Some(shape.into_iter().collect()));
    let sequence = Type::Sequence(boxed(&tensor));
    vec![
        tensor.clone(),
        Type::Tensor(TensorType::default()),
        Type::dense(DType::I64, &[]),
        Type::SparseTensor(TensorType {
            dtype: Some(DType::F16),
            shape: None,
        }),
        Type::Optional(boxed(&sequence)),
        Type::Map {
            key: DType::String,
            value: boxed(&sequence),
        },
        Type::Map {
            key: DType::I64,
            value: None,
        },
        Type::Sequence(boxed(&Type::Map {
            key: DType::I64,
            value: boxed(&tensor),
        })),
        Type::Sequence(None),
        Type::Optional(None),
        Type::Opaque {
            domain: "d".to_owned(),
            name: "n".to_owned(),
        },
    ]
}

/// Attributes of every kind, and the awkward values of each.
pub(super) fn attributes() -> IndexMap<String, Attr<GraphDef>> {
    let inner = |name: &str| GraphDef {
        name: name.to_owned(),
        ..GraphDef::default()
    };
    let reference = |kind| Attr::Ref {
        name: "outer".to_owned(),
        kind,
    };
    let list = [
        ("float", Attr::Float(-0.0)),
        ("nan", Attr::Float(f32::from_bits(0x7fa0_0001))),
        ("int", Attr::Int(0)),
        ("negative", Attr::Int(i64::MIN)),
        (
            "string",
            Attr::String(Bytes::from_static(b"not \xff UTF-8")),
        ),
        ("empty_string", Attr::String(Bytes::new())),
        ("tensor", Attr::Tensor(weights(0, 3000))),
        ("graph", Attr::Graph(Box::new(inner("then")))),
        ("sparse", Attr::SparseTensor(Box::new(sparse()))),
        ("type", Attr::Type(types()[5].clone())),
        ("floats", Attr::Floats(vec![0.0, 1.0, f32::INFINITY])),
        ("no_floats", Attr::Floats(vec![])),
        ("ints", Attr::Ints(vec![0, -1, i64::MAX])),
        ("no_ints", Attr::Ints(vec![])),
        (
            "strings",
            Attr::Strings(vec![Bytes::new(), Bytes::from_static(b"b")]),
        ),
        (
            "tensors",
            Attr::Tensors(vec![weights(0, 2), strings(&[b"x", b""])]),
        ),
        (
            "graphs",
            Attr::Graphs(vec![inner("a"), inner("b"), inner("c")]),
        ),
        ("sparses", Attr::SparseTensors(vec![sparse(), sparse()])),
        ("types", Attr::Types(types())),
        ("reference", reference(AttrKind::Ints)),
        ("bare_reference", reference(AttrKind::Undefined)),
    ];
    list.map(|(name, attr)| (name.to_owned(), attr))
        .into_iter()
        .collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&n| n.to_owned()).collect()
}

/// A graph whose node has `depth` graphs inside each other.
pub(super) fn nested(depth: usize) -> GraphDef {
    let mut graph = GraphDef::default();
    for level in (0..depth).rev() {
        let mut node = NodeDef {
            op_type: "If".to_owned(),
            ..NodeDef::default()
        };
        let other = GraphDef {
            name: format!("else{level}"),
            ..GraphDef::default()
        };
        node.attrs
            .insert("then_branch".to_owned(), Attr::Graph(Box::new(graph)));
        node.attrs
            .insert("else_branch".to_owned(), Attr::Graph(Box::new(other)));
        graph = GraphDef {
            name: format!("then{level}"),
            nodes: vec![node],
            ..GraphDef::default()
        };
    }
    graph
}

/// The model.
pub(super) fn full_model() -> ModelDef {
    let value = |(i, ty): (usize, Type)| ValueDef {
        doc: format!("value {i}"),
        metadata: metadata(&[("k", ""), ("l", "v")]),
        ..ValueDef::new(format!("v{i}"), Some(ty))
    };
    let node = NodeDef {
        name: "node".to_owned(),
        domain: "com.example".to_owned(),
        op_type: "Unknown".to_owned(),
        overload: "over".to_owned(),
        inputs: names(&["x", "", "w"]),
        outputs: names(&["", "y"]),
        attrs: attributes(),
        attr_docs: metadata(&[("int", "documented")]),
        doc: "about the node".to_owned(),
        metadata: metadata(&[("m", "n")]),
        configurations: vec![Bytes::from_static(b"\x0a\x01c")],
    };
    let graph = GraphDef {
        name: "main".to_owned(),
        inputs: types().into_iter().enumerate().map(value).collect(),
        outputs: vec![ValueDef::new("y", None)],
        value_info: vec![ValueDef::new("z", Some(Type::dense(DType::U8, &[2, 0])))],
        initializers: vec![
            InitializerDef {
                doc: "weights".to_owned(),
                metadata: metadata(&[("a", "b")]),
                ..initializer("w", weights(7, 5000))
            },
            initializer("scalar", Tensor::scalar(1u8)),
            initializer(
                "empty",
                Tensor::zeros(DType::I4, [0, 3].as_slice()).unwrap(),
            ),
            initializer(
                "odd",
                Tensor::from_packed_bits(DType::I4, [3].as_slice(), [1, 15, 8]).unwrap(),
            ),
            initializer("strings", strings(&[b"", b"\xff"])),
            InitializerDef {
                value: Literal::Sparse(Box::new(sparse())),
                doc: "sparse".to_owned(),
                metadata: metadata(&[("s", "t")]),
                ..initializer("sparse", Tensor::scalar(0u8))
            },
        ],
        nodes: vec![node.clone(), NodeDef::default(), node],
        annotations: vec![("y".to_owned(), metadata(&[("SCALE_TENSOR", "scalar")]))],
        doc: "about the graph".to_owned(),
        metadata: metadata(&[("g", "h")]),
    };
    let function = FunctionDef {
        domain: "com.example".to_owned(),
        name: "F".to_owned(),
        overload: "over".to_owned(),
        inputs: names(&["a", "b"]),
        outputs: names(&["c"]),
        attributes: names(&["outer"]),
        attribute_defaults: attributes(),
        opsets: [(String::new(), 21), ("com.example".to_owned(), 1)].into(),
        nodes: nested(3).nodes,
        value_info: vec![ValueDef::new("a", Some(Type::dense(DType::F32, &[1])))],
        doc: "about the function".to_owned(),
        metadata: metadata(&[("f", "g")]),
    };
    ModelDef {
        ir_version: 10,
        opsets: [(String::new(), 21), ("com.example".to_owned(), 1)].into(),
        producer_name: "producer".to_owned(),
        producer_version: "1".to_owned(),
        domain: "org".to_owned(),
        model_version: 3,
        doc: "about the model".to_owned(),
        metadata: metadata(&[("author", "somebody"), ("empty", "")]),
        graph,
        functions: vec![
            function,
            FunctionDef {
                name: "G".to_owned(),
                ..FunctionDef::default()
            },
        ],
        training: vec![Bytes::from_static(b"\x0a\x00")],
        configurations: vec![Bytes::from_static(b"\x0a\x01d"), Bytes::new()],
    }
}
