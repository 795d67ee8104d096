//! The laws of the text form, over generated models and damaged texts.

use std::sync::Arc;

use bytes::Bytes;
use onnxq_ir::def::{
    FunctionDef, GraphDef, InitializerDef, Literal, Metadata, ModelDef, NodeDef, Opsets, ValueDef,
};
use onnxq_ir::text::{self, TensorIndex};
use onnxq_ir::{Attr, AttrKind, SparseTensor, TensorType, Type};
use onnxq_tensor::{DType, Dim, Dims, Shape, Tensor};
use proptest::collection::vec;
use proptest::prelude::*;

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z_][a-zA-Z0-9_]{0,5}",
        2 => "[a-z0-9/.: \"\\\\]{0,6}",
        1 => any::<[char; 2]>().prop_map(String::from_iter),
        1 => "\n|\t|\r|\u{0}|",
        1 => prop::sample::select(vec!["float", "seq", "nan", "INF", "b", "opaque", "undefined"])
            .prop_map(String::from),
    ]
}

fn text_value() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(String::new()), 1 => name()]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    prop_oneof![
        4 => Just(Metadata::new()),
        1 => vec((name(), name()), 0..3).prop_map(Metadata::from_iter),
    ]
}

fn blob() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        vec(any::<u8>(), 0..6).prop_map(Bytes::from),
        name().prop_map(Bytes::from)
    ]
}

fn blobs() -> impl Strategy<Value = Vec<Bytes>> {
    prop_oneof![4 => Just(Vec::new()), 1 => vec(blob(), 0..3)]
}

fn opsets() -> impl Strategy<Value = Opsets> {
    vec((name(), any::<i64>()), 0..3).prop_map(Opsets::from_iter)
}

fn dtype() -> impl Strategy<Value = DType> {
    prop::sample::select(DType::ALL)
}

fn tensor() -> impl Strategy<Value = Tensor> {
    (dtype(), vec(0usize..5, 0..3)).prop_flat_map(tensor_of)
}

fn tensor_of((dtype, dims): (DType, Vec<usize>)) -> BoxedStrategy<Tensor> {
    let count = dims.iter().product::<usize>();
    let dims = Dims::from_vec(dims);
    if dtype == DType::String {
        return vec(blob(), count)
            .prop_map(move |s| Tensor::from_strings(dims.clone(), Arc::from(s)).unwrap())
            .boxed();
    }
    vec(any::<u8>(), dtype.byte_len(count).unwrap())
        .prop_map(move |bytes| Tensor::new(dtype, dims.clone(), bytes).unwrap())
        .boxed()
}

fn sparse() -> impl Strategy<Value = SparseTensor> {
    let indices = vec(0usize..5, 0..3).prop_flat_map(|dims| tensor_of((DType::I64, dims)));
    (tensor(), indices, vec(0i64..i64::MAX, 0..3)).prop_map(|(values, indices, dims)| {
        SparseTensor {
            values,
            indices,
            dims,
        }
    })
}

/// Sizes: a negative one, in a text as in a file, is one that is not known.
fn dim() -> impl Strategy<Value = Dim> {
    let dims = prop_oneof![
        (0i64..1000).prop_map(Dim::known),
        Just(Dim::UNKNOWN),
        "[a-zA-Z_][a-zA-Z0-9_]{0,3}".prop_map(|s| Dim::parse(&s)),
        name().prop_map(|s| Dim::parse(&s)),
        "[NM0-3+*/() -]{1,9}".prop_map(|s| Dim::parse(&s)),
    ];
    dims.prop_filter("negative", |d| d.as_const().is_none_or(|size| size >= 0))
}

fn tensor_type() -> impl Strategy<Value = TensorType> {
    (
        prop::option::of(dtype()),
        prop::option::of(vec(dim(), 0..3)),
    )
        .prop_map(|(dtype, shape)| TensorType {
            dtype,
            shape: shape.map(Shape::from_vec),
        })
}

fn ty() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![
        6 => tensor_type().prop_map(Type::Tensor),
        1 => tensor_type().prop_map(Type::SparseTensor),
        1 => ("[a-z.]{0,4}|[^a-z]{0,3}", name())
            .prop_map(|(domain, name)| Type::Opaque { domain, name }),
    ];
    leaf.prop_recursive(3, 6, 1, |inner| {
        let inner = prop::option::of(inner.prop_map(Box::new)).boxed();
        prop_oneof![
            inner.clone().prop_map(Type::Sequence),
            inner.clone().prop_map(Type::Optional),
            (dtype(), inner).prop_map(|(key, value)| Type::Map { key, value }),
        ]
    })
}

fn value() -> impl Strategy<Value = ValueDef> {
    (name(), prop::option::of(ty()), text_value(), metadata()).prop_map(
        |(name, ty, doc, metadata)| ValueDef {
            name,
            ty,
            doc,
            metadata,
        },
    )
}

fn initializer() -> impl Strategy<Value = InitializerDef> {
    let literal = prop_oneof![
        4 => tensor().prop_map(Literal::Dense),
        1 => sparse().prop_map(|t| Literal::Sparse(Box::new(t))),
    ];
    (name(), literal, text_value(), metadata()).prop_map(|(name, value, doc, metadata)| {
        InitializerDef {
            name,
            value,
            doc,
            metadata,
        }
    })
}

fn float() -> impl Strategy<Value = f32> {
    any::<u32>().prop_map(f32::from_bits)
}

fn attr(depth: u32) -> BoxedStrategy<Attr<GraphDef>> {
    let kind = prop::sample::select(AttrKind::ALL.to_vec());
    let flat = prop_oneof![
        float().prop_map(Attr::Float),
        any::<i64>().prop_map(Attr::Int),
        blob().prop_map(Attr::String),
        tensor().prop_map(Attr::Tensor),
        sparse().prop_map(|t| Attr::SparseTensor(Box::new(t))),
        ty().prop_map(Attr::Type),
        vec(float(), 0..4).prop_map(Attr::Floats),
        vec(any::<i64>(), 0..4).prop_map(Attr::Ints),
        vec(blob(), 0..4).prop_map(Attr::Strings),
        vec(tensor(), 0..3).prop_map(Attr::Tensors),
        vec(sparse(), 0..3).prop_map(Attr::SparseTensors),
        vec(ty(), 0..3).prop_map(Attr::Types),
        (name(), kind).prop_map(|(name, kind)| Attr::Ref { name, kind }),
    ];
    if depth == 0 {
        return flat.boxed();
    }
    prop_oneof![
        5 => flat,
        1 => graph(depth - 1).prop_map(|g| Attr::Graph(Box::new(g))),
        1 => vec(graph(depth - 1), 0..3).prop_map(Attr::Graphs),
    ]
    .boxed()
}

fn node(depth: u32) -> impl Strategy<Value = NodeDef> {
    let names = || vec(prop_oneof![3 => name(), 1 => Just(String::new())], 0..4);
    let domain = prop_oneof![Just(String::new()), Just("ai.onnx.ml".to_string()), name()];
    let identity = (text_value(), domain, name(), text_value());
    let attrs = vec((name(), attr(depth)), 0..4).prop_map(|attrs| attrs.into_iter().collect());
    let notes = (metadata(), text_value(), metadata(), blobs());
    (identity, names(), names(), attrs, notes).prop_map(
        |((name, domain, op_type, overload), inputs, outputs, attrs, notes)| {
            let (attr_docs, doc, metadata, configurations) = notes;
            NodeDef {
                name,
                domain,
                op_type,
                overload,
                inputs,
                outputs,
                attrs,
                attr_docs,
                doc,
                metadata,
                configurations,
            }
        },
    )
}

fn graph(depth: u32) -> BoxedStrategy<GraphDef> {
    let values = || vec(value(), 0..4);
    let annotations = prop_oneof![4 => Just(Vec::new()), 1 => vec((name(), metadata()), 0..3)];
    (
        name(),
        (vec(value(), 0..12), values(), values()),
        vec(initializer(), 0..3),
        vec(node(depth), 0..4),
        (annotations, text_value(), metadata()),
    )
        .prop_map(
            |(name, (inputs, outputs, value_info), initializers, nodes, notes)| {
                let (annotations, doc, metadata) = notes;
                GraphDef {
                    name,
                    inputs,
                    outputs,
                    value_info,
                    initializers,
                    nodes,
                    annotations,
                    doc,
                    metadata,
                }
            },
        )
        .boxed()
}

fn function() -> impl Strategy<Value = FunctionDef> {
    let names = || vec(name(), 0..3);
    let defaults = vec((name(), attr(1)), 0..3).prop_map(|attrs| attrs.into_iter().collect());
    (
        (name(), name(), text_value()),
        (names(), names(), names()),
        defaults,
        (opsets(), vec(node(1), 0..3), vec(value(), 0..3)),
        (text_value(), metadata()),
    )
        .prop_map(
            |(id, (inputs, outputs, attributes), attribute_defaults, body, notes)| {
                let ((domain, name, overload), (opsets, nodes, value_info)) = (id, body);
                let (doc, metadata) = notes;
                FunctionDef {
                    domain,
                    name,
                    overload,
                    inputs,
                    outputs,
                    attributes,
                    attribute_defaults,
                    opsets,
                    nodes,
                    value_info,
                    doc,
                    metadata,
                }
            },
        )
}

fn model() -> impl Strategy<Value = ModelDef> {
    (
        (any::<i64>(), opsets(), any::<i64>()),
        (text_value(), text_value(), text_value(), text_value()),
        metadata(),
        (graph(2), vec(function(), 0..2)),
        (blobs(), blobs()),
    )
        .prop_map(
            |(versions, producer, metadata, (graph, functions), encoded)| {
                let (ir_version, opsets, model_version) = versions;
                let (producer_name, producer_version, domain, doc) = producer;
                let (training, configurations) = encoded;
                ModelDef {
                    ir_version,
                    opsets,
                    producer_name,
                    producer_version,
                    domain,
                    model_version,
                    doc,
                    metadata,
                    graph,
                    functions,
                    training,
                    configurations,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_written_reads_back(model in model()) {
        let printed = text::print(&model);
        let tensors = TensorIndex::new(&model);
        let back = text::parse(&printed, &tensors);
        prop_assert!(back.is_ok(), "{}\n{printed}", back.unwrap_err());
        prop_assert!(back.as_ref() == Ok(&model), "{printed}\n{:#?}\n{model:#?}", back);
        // Maps compare without their order; the text shows that it was kept.
        prop_assert_eq!(text::print(&back.unwrap()), printed);
    }

    #[test]
    fn damaged_text_is_read_or_refused(
        model in model(),
        cut in any::<prop::sample::Index>(),
        len in 0usize..8,
        insert in "[<>(){}=:,@!\"\\\\b0-9a-z.\\[\\]? -]{0,5}|\\PC{0,3}",
    ) {
        let printed = text::print(&model);
        let tensors = TensorIndex::new(&model);
        let chars: Vec<char> = printed.chars().collect();
        let at = cut.index(chars.len() + 1);
        let end = chars.len().min(at + len);
        let head = chars[..at].iter();
        let damaged: String = head.copied().chain(insert.chars()).chain(chars[end..].iter().copied()).collect();
        if let Ok(model) = text::parse(&damaged, &tensors) {
            let back = text::parse(&text::print(&model), &TensorIndex::new(&model));
            prop_assert!(back.as_ref() == Ok(&model), "{damaged}");
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*|[<>(){}=:,@!\"b0-9a-e.\\[\\]? \n-]*") {
        let _ = text::parse(&text, &());
        let _ = text::parse(&format!("g () => () <float[{text}] x = [\"fill\": \"1\"]> {{}}"), &());
        let _ = text::parse(&format!("g () => () {{ y = Op <{text}> () }}"), &());
    }
}
