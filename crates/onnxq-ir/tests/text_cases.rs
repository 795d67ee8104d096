//! What the text form looks like, and what it accepts and refuses.

use std::fmt::Write;

use onnxq_ir::def::{GraphDef, ModelDef, NodeDef};
use onnxq_ir::text::{self, PrintOptions, TensorIndex};
use onnxq_ir::{Attr, AttrKind, MAX_NESTING, Type};
use onnxq_tensor::{DType, Dim, Shape, Tensor};

fn parse(source: &str) -> ModelDef {
    text::parse(source, &()).unwrap_or_else(|e| panic!("{e}\n{source}"))
}

fn error(source: &str) -> String {
    text::parse(source, &()).unwrap_err().to_string()
}

/// A node with these attributes.
fn node(attrs: &str) -> NodeDef {
    parse(&format!("g () => () {{ y = Op <{attrs}> (x) }}"))
        .graph
        .nodes
        .remove(0)
}

fn attr(text: &str) -> Attr<GraphDef> {
    node(&format!("a{text}")).attrs.swap_remove("a").unwrap()
}

#[test]
fn text_in_canonical_form_is_printed_as_it_was() {
    let source = r#"<
    ir_version: 10,
    opset_import: ["": 21, "com.microsoft": 1],
    producer_name: "pytorch",
    doc_string: "Two
lines, \"quoted\""
>
"main graph" (float[N, 64] x, seq(int64[]) s) => (float[N, 10] y)
<
    float[2] b = {1.0, -0.1},
    string k = {"a"},
    float[N, 10] h,
    ?["3*N"] "/t" !<doc_string: b"a\nb", metadata_props: ["k": "v"]>
>
!<doc_string: "graph", quantization_annotation: ["x": ["SCALE_TENSOR": "s"]]>
{
    [node_1] h, "" = MatMul (x, W, "", b)
    y = ai.onnx.ml.Scaler:fast <alpha = 0.5, k = [1, 2], e: ints = [], t = float[2] {1.0, 2.0}> (h)
    "/z" = If (c) <
        then_branch = g1 () => (float a)
        {
            a = Identity (x)
        },
        else_branch = g2 () => (float a) <float k = {1.0}>
        {
            a = Identity (k) !<attr_docs: ["x": "y"], device_configurations: [b"\x00"]>
        }
    >
    = Print (y)
}

<domain: "d", opset_import: ["": 20]>
f <a, b = 1.0> (x) => (y) <float[N] x>
{
    y = Elu <alpha: float = @a> (x)
}
"#;
    assert_eq!(text::print(&parse(source)), source);
}

#[test]
fn terse_text() {
    let m = parse("# comment\ng(x)=>(y){y=Relu(x)//more\n}");
    assert_eq!((m.ir_version, m.opsets.get("")), (10, Some(&21)));
    assert_eq!(m.graph.inputs[0].ty, None);
    assert_eq!(m.graph.nodes[0].inputs, ["x"]);
    assert_eq!(
        parse("<opset_import: [\"\": 7]> g () => () {} f (x) => () {}").functions[0].opsets[""],
        7
    );
}

#[test]
fn what_onnx_prints_is_read() {
    let m = parse(
        "<\n   ir_version: 8,\n   opset_import: [\"\" : 17]\n>\ng (float[N,3] x, float[1] w = {1}) => (float y) \n   <float[2] v =  {1,inf}, float16[1] h =  {15360}, float[N] z>\n{\n   [n] y = Op <a: float = 1, s: string = \"x\", t: tensor = float[1] tt {1}, k: float = @q> (x, , w)\n}",
    );
    let inline: Vec<_> = m
        .graph
        .initializers
        .iter()
        .map(|i| i.value.as_dense().unwrap())
        .collect();
    assert_eq!(inline[0], &Tensor::vector(vec![1f32]));
    assert_eq!(inline[1], &Tensor::vector(vec![1f32, f32::INFINITY]));
    assert_eq!(inline[2].bytes(), [0, 0x3c]);
    let node = &m.graph.nodes[0];
    assert_eq!(node.inputs, ["x", "", "w"]);
    assert_eq!(node.attrs["a"], Attr::Float(1.0));
    assert_eq!(node.attrs["t"], Attr::Tensor(Tensor::vector(vec![1f32])));
    assert_eq!(
        node.attrs["k"],
        Attr::Ref {
            name: "q".into(),
            kind: AttrKind::Float
        }
    );
}

#[test]
fn operands_left_out() {
    let inputs = |list: &str| {
        parse(&format!("g () => () {{ y = Op ({list}) }}"))
            .graph
            .nodes[0]
            .inputs
            .join("|")
    };
    assert_eq!(inputs(",x"), "|x");
    assert_eq!(inputs("x,,y"), "x||y");
    assert_eq!(inputs("x,"), "x");
    let count = |list: &str| {
        parse(&format!("g () => () {{ y = Op ({list}) }}"))
            .graph
            .nodes[0]
            .inputs
            .len()
    };
    assert_eq!([count(""), count(","), count("\"\"")], [0, 1, 1]);
}

#[test]
fn kinds_of_attributes() {
    assert_eq!(attr("=1"), Attr::Int(1));
    assert_eq!(attr(": float=1"), Attr::Float(1.0));
    assert_eq!(attr("=-nan"), Attr::Float(f32::from_bits(0xffc0_0000)));
    assert_eq!(attr("=Inf"), Attr::Float(f32::INFINITY));
    assert_eq!(attr("=[1, 2]"), Attr::Ints(vec![1, 2]));
    assert_eq!(attr("=[1, 2.5]"), Attr::Floats(vec![1.0, 2.5]));
    assert_eq!(attr(":floats=[1]"), Attr::Floats(vec![1.0]));
    assert_eq!(attr("=float[2]"), Attr::Type(Type::dense(DType::F32, &[2])));
    assert_eq!(attr("=\"x\""), Attr::string("x"));
    assert!(matches!(attr("=\"x\" () => () {}"), Attr::Graph(_)));
    assert!(matches!(attr("=[x () => () {}, y () => () {},]"), Attr::Graphs(g) if g.len() == 2));
    assert_eq!(
        node("a=1, b=2").attrs.keys().collect::<Vec<_>>(),
        ["a", "b"]
    );
}

#[test]
fn types() {
    let ty = |text: &str| {
        parse(&format!("g ({text} x) => () {{}}"))
            .graph
            .inputs
            .remove(0)
            .ty
            .unwrap()
    };
    let shape = |dims: &[Dim]| Some(Shape::from(dims));
    assert_eq!(ty("float"), Type::dense(DType::F32, &[]));
    assert_eq!(ty("float[]"), Type::tensor(DType::F32, None));
    assert_eq!(
        ty("int4[2, ?, N, \"a b\"]"),
        Type::tensor(
            DType::I4,
            shape(&[
                Dim::known(2),
                Dim::UNKNOWN,
                Dim::parse("N"),
                Dim::parse("a b")
            ])
        )
    );
    let inner = Some(Box::new(Type::dense(DType::F32, &[])));
    assert_eq!(
        ty("optional(seq(float))"),
        Type::Optional(Some(Box::new(Type::Sequence(inner.clone()))))
    );
    assert_eq!(
        ty("map(int64, float)"),
        Type::Map {
            key: DType::I64,
            value: inner
        }
    );
    assert_eq!(
        ty("map(int64)"),
        Type::Map {
            key: DType::I64,
            value: None
        }
    );
    assert_eq!(
        ty("opaque(a.b, c)"),
        Type::Opaque {
            domain: "a.b".into(),
            name: "c".into()
        }
    );
    assert_eq!(
        ty("opaque(a.b)"),
        Type::Opaque {
            domain: String::new(),
            name: "a.b".into()
        }
    );
}

#[test]
fn large_constants_are_hashes() {
    let source = "g () => () <float[3, 3] w = [\"fill\": \"0.5\"]> { y = Op () }";
    let m = parse(source);
    let printed = text::print(&m);
    assert!(
        printed.contains("float[3, 3] w = [\"sha256\": \""),
        "{printed}"
    );
    assert_eq!(
        text::parse(&printed, &TensorIndex::new(&m)).as_ref(),
        Ok(&m)
    );
    assert!(
        text::parse(&printed, &())
            .unwrap_err()
            .message
            .contains("hash")
    );

    let options = PrintOptions {
        hashes: false,
        ..PrintOptions::default()
    };
    let sizes = text::print_with(&m, &options);
    assert!(sizes.contains("w = [\"bytes\": \"36\"]"), "{sizes}");
    assert!(text::parse(&sizes, &TensorIndex::new(&m)).is_err());

    let options = PrintOptions {
        max_elements: 9,
        ..PrintOptions::default()
    };
    assert_eq!(text::parse(&text::print_with(&m, &options), &()), Ok(m));
}

#[test]
fn errors_say_where_and_what() {
    for (source, expected) in [
        ("", "1:1: expected a name, found the end of the text"),
        (
            "g () => () {\n  y = Relu (x\n}",
            "3:1: expected `)`, found `}`",
        ),
        (
            "<colour: 1> g () => () {}",
            "1:2: `colour` is not known here",
        ),
        (
            "g (float[2] x = {1}) => () {}",
            "1:15: float[2] takes 2 elements, found 1",
        ),
        (
            "g (float[N] x = {1}) => () {}",
            "1:15: a constant needs an element type and constant dimensions",
        ),
        (
            "g (float[-1] x = {1}) => () {}",
            "1:16: a constant needs an element type and constant dimensions",
        ),
        (
            "g () => () { y = A <a = []> () }",
            "1:26: an empty list needs its kind, as in `axes: ints = []`",
        ),
        (
            "g () => () { y = A <a = 1, a = 2> () }",
            "1:28: this attribute is given twice",
        ),
        (
            "g () => () { y = A <a: int = 1.5> () }",
            "1:30: expected a value of kind int, found float",
        ),
        (
            "g () => () { y = A <a = 9223372036854775808> () }",
            "1:25: this does not fit in 64 bits",
        ),
        (
            "g () => () { y = A (\"x) }",
            "1:21: this string does not end",
        ),
        (
            "g () => () { y = b\"\\xff\" () }",
            "1:18: this string must be valid UTF-8",
        ),
        ("g () => () {} é", "1:15: unexpected character 'é'"),
        (
            "<opset_import: [\"\": 1, \"\": 2]> g () => () {}",
            "1:24: this domain is given twice",
        ),
    ] {
        assert_eq!(error(source), expected, "{source}");
    }
}

#[test]
fn absurd_sizes_are_refused() {
    for dims in [
        "9999999999",
        "9223372036854775807, 9223372036854775807",
        "99999999999999999999",
    ] {
        error(&format!(
            "g () => () <float[{dims}] x = [\"fill\": \"0\"]> {{}}"
        ));
        error(&format!("g () => () <float[{dims}] x = {{1}}> {{}}"));
        error(&format!(
            "g () => () <float[{dims}] x = [\"sha256\": \"{}\"]> {{}}",
            "0".repeat(64)
        ));
    }
    // The limit is for all constants together.
    let large = "float[40000000] x = [\"fill\": \"0\"],";
    assert!(error(&format!("g () => () <{large} {large}> {{}}")).contains("268435456"));
}

fn nested(depth: usize) -> String {
    let open = "g () => () { y = If (c) <b = ".repeat(depth);
    format!("{open} g () => () {{}} {}", "> }".repeat(depth))
}

#[test]
fn deeply_nested_graphs() {
    // Test threads have 2 MiB of stack; equality and dropping recurse.
    let m = parse(&nested(MAX_NESTING));
    let printed = text::print(&m);
    assert_eq!(parse(&printed), m);
    assert!(error(&nested(MAX_NESTING + 1)).contains("nested deeper than"));
    assert!(error(&"g () => () { y = If (c) <b = ".repeat(100_000)).contains("nested deeper than"));
}

#[test]
fn deeply_nested_types() {
    let nested = |depth| {
        format!(
            "g ({}float{} x) => () {{}}",
            "seq(".repeat(depth),
            ")".repeat(depth)
        )
    };
    let m = parse(&nested(MAX_NESTING));
    assert_eq!(parse(&text::print(&m)), m);
    assert!(error(&nested(100_000)).contains("nested deeper than"));
}

#[test]
fn many_nodes() {
    let mut source = String::from("g (float x0) => (float x100000)\n{\n");
    for i in 0..100_000 {
        writeln!(source, "    x{} = Relu (x{i})", i + 1).unwrap();
    }
    source.push_str("}\n");
    let m = parse(&source);
    assert_eq!(m.graph.nodes.len(), 100_000);
    assert!(text::print(&m).ends_with(&source));
}

#[test]
fn a_negative_size_is_not_known() {
    let parsed = |size: &str| {
        parse(&format!(
            "g (float[2, {size}] x) => (float[2, {size}] x) {{}}"
        ))
    };
    assert_eq!(parsed("-1"), parsed("?"));
}
