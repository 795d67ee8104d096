//! Dynamic quantization: what it reports, and that it can be stopped anywhere.

use onnxq_ir::{Model, text};
use onnxq_pass::{Config, Instrumentation, PassContext, PassManager, Pipeline};

const MODEL: &str = r#"<ir_version: 8, opset_import: ["": 17]>
main (float[N, 8] x, bool which) => (float[N, 4] y, float[N, 8] z, float[4, 4] s)
<
    float[8, 8] W = ["seed": "1"], float[4, 8] G = ["seed": "2"], float[4] c = ["seed": "3"],
    float[1, 4] L = ["seed": "4"]
>
{
    [first] a = MatMul (x, W)
    [head] y = Gemm <transB = 1> (a, G, c)
    [branch] z = If (which) <
        then_branch = then () => (float[N, 8] t) { [inner] t = MatMul (x, W) },
        else_branch = else () => (float[N, 8] e) { e = Relu (x) }
    >
    [left] s = MatMul (L, y)
}
"#;

fn model() -> Model {
    Model::from_def(text::parse(MODEL, &()).unwrap()).unwrap()
}

fn run(passes: &str, cx: PassContext) -> (Model, PassContext) {
    let (mut model, mut cx) = (model(), cx);
    let registry = onnxq_passes::registry();
    let pipeline = Pipeline::parse(passes).unwrap();
    let mut manager = PassManager::new(&registry, &pipeline, &Config::default()).unwrap();
    let mut instrumentation = Instrumentation {
        verify_each: true,
        ..Instrumentation::default()
    };
    manager
        .run(&mut model, &mut cx, &mut instrumentation)
        .unwrap();
    (model, cx)
}

#[test]
fn reports_every_node_and_why() {
    let (_, cx) = run("quantize{exclude-nodes=[head]}", PassContext::new());
    let report = |key: &str| &cx.reports().iter().find(|r| r.key == key).unwrap().value;
    let nodes = report("nodes").as_array().unwrap();
    let row = |name: &str| {
        let of = |r: &&serde_json::Value| r["node"].as_str().unwrap().starts_with(name);
        nodes.iter().find(of).unwrap()
    };
    assert_eq!(row("first")["status"], "quantized");
    assert_eq!(row("first")["bytes_before"], 256);
    assert_eq!(row("first")["bytes_after"], 64 + 4 + 1);
    assert_eq!(row("inner")["status"], "quantized");
    assert_eq!(row("inner")["graph"], "then");
    assert_eq!(row("head")["status"], "skipped");
    assert_eq!(row("head")["reason"], "exclude-nodes lists the node");
    assert_eq!(row("left")["reason"], "the constant is the left operand");
    assert_eq!(report("summary")["quantized"], 2);
    assert_eq!(report("summary")["weights"], 1);
}

#[test]
fn a_table_for_people() {
    let (_, cx) = run("quantize", PassContext::new().with_verbose(true));
    let texts: Vec<String> = cx.messages().iter().map(|m| m.text.clone()).collect();
    assert!(texts.iter().any(|t| t.starts_with("first (MatMul)")));
    assert!(
        texts
            .iter()
            .any(|t| t.ends_with("left: the constant is the left operand"))
    );
    assert!(
        texts
            .iter()
            .any(|t| t.starts_with("quantized 3 of 4 nodes, 2 weights"))
    );
}

#[test]
fn stops_after_any_rewrite() {
    let (_, whole) = run("quantize,fuse", PassContext::new());
    assert!(whole.rewrites() > 8, "{}", whole.rewrites());
    for limit in 0..=whole.rewrites() {
        let cx = PassContext::new().with_rewrite_limit(Some(limit));
        let (model, cx) = run("quantize,fuse", cx);
        assert_eq!(cx.rewrites(), limit);
        assert!(model.verify().is_empty());
        if limit == 0 {
            assert_eq!(model, self::model());
        }
    }
}

#[test]
fn threads_do_not_show() {
    let (one, _) = run("quantize,fuse", PassContext::new());
    let (four, _) = run("quantize,fuse", PassContext::new().with_threads(4));
    assert_eq!(text::print(&one.to_def()), text::print(&four.to_def()));
}
