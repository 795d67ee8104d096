//! The driver of local rewrites.

use std::cell::Cell;

use crate::toys::{chain, drop_identity, op_types};
use onnxq_ir::{Attr, Graph, Model, NodeId, Op, def::ValueDef};
use onnxq_pass::{PassContext, PassError, Rewriter, Rule, apply_rewrites};
use onnxq_tensor::Tensor;

type Apply<'a> = dyn Fn(&mut Rewriter<'_>, NodeId) -> Option<()> + 'a;

fn run(model: &mut Model, apply: &Apply<'_>) -> Result<PassContext, PassError> {
    let mut cx = PassContext::new().with_verbose(true);
    apply_rewrites(
        model,
        &mut cx,
        &[Rule {
            name: "rule",
            apply,
        }],
    )?;
    model.sweep();
    assert_eq!(model.verify(), []);
    Ok(cx)
}

/// `Neg(Neg(x))` => `x`, where the inner one has no other use.
fn drop_double_neg(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Neg")?;
    let inner = rw.producer(rw.operand(n, 0)?, "Neg")?;
    rw.sole_use(rw.result(inner, 0))?;
    let x = rw.operand(inner, 0)?;
    rw.replace(rw.result(n, 0), x)
}

#[test]
fn long_chains_take_linear_time() {
    let mut model = chain(&vec!["Identity"; 100_000]);
    let cx = run(&mut model, &drop_identity).unwrap();
    assert_eq!(op_types(&model), [""; 0]);
    assert_eq!(cx.rewrites(), 100_000);
    let mut model = chain(&vec!["Neg"; 100_001]);
    run(&mut model, &drop_double_neg).unwrap();
    assert_eq!(op_types(&model), ["Neg"]);
}

#[test]
fn values_with_many_uses_take_linear_time() {
    let mut model = chain(&["Relu"]);
    let relu = model.graph.op_order()[0];
    let x = model.graph.result(relu, 0);
    for i in 0..20_000 {
        let v = model
            .graph
            .insert(Op::new("Identity"), &[x], format!("i{i}"));
        model
            .graph
            .add_output(ValueDef::new(format!("o{i}"), None), v);
    }
    let cx = run(&mut model, &drop_identity).unwrap();
    assert_eq!(cx.rewrites(), 20_000);
    assert_eq!(op_types(&model), ["Relu"]);
}

#[test]
fn a_dead_user_does_not_count_as_a_use() {
    // The Identity beside the inner Neg goes first, and with it the second use.
    let mut model = chain(&["Neg", "Neg"]);
    let inner = model.graph.op_order()[0];
    let v0 = model.graph.result(inner, 0);
    let v1 = model.graph.insert(Op::new("Identity"), &[v0], "copy");
    let v2 = model.graph.insert(Op::new("Sink"), &[v1], "sink");
    model.graph.add_output(ValueDef::new("z", None), v2);
    let rule = |rw: &mut Rewriter<'_>, n: NodeId| {
        if rw.is(n, "Sink").is_some() && rw.operand(n, 0).is_some() {
            rw.set_operand(n, 0, None);
            return Some(());
        }
        drop_double_neg(rw, n)
    };
    run(&mut model, &rule).unwrap();
    assert_eq!(op_types(&model), ["Sink"]);
}

#[test]
fn regions_and_functions_are_rewritten_too() {
    let body = || chain(&["Identity", "Relu"]).graph;
    let mut model = chain(&["If"]);
    let n = model.graph.op_order()[0];
    let op = model.graph.op_mut(n).unwrap();
    for key in ["then_branch", "else_branch"] {
        let mut branch = Graph::new(key);
        let c = branch.add_constant("c", Tensor::scalar(1f32));
        let v = branch.insert(Op::new("Identity"), &[c], "v");
        branch.add_output(ValueDef::new("v", None), v);
        op.attrs
            .insert(key.to_owned(), Attr::Graph(Box::new(branch)));
    }
    let call = model.graph.result(n, 0);
    let v = model
        .graph
        .insert(Op::in_domain("local", "f"), &[call], "called");
    let ret = model.graph.ret();
    model.graph.set_operand(ret, 0, Some(v));
    model.opsets.insert("local".into(), 1);
    let id = onnxq_ir::FunctionId {
        domain: "local".into(),
        name: "f".into(),
        overload: String::new(),
    };
    let mut function = onnxq_ir::Function {
        graph: body(),
        ..Default::default()
    };
    function.opsets.insert(String::new(), 7);
    model.functions.insert(id, function);
    let opsets = std::cell::RefCell::new(Vec::new());
    let rule = |rw: &mut Rewriter<'_>, n: NodeId| {
        drop_identity(rw, n)?;
        opsets.borrow_mut().push(rw.opset());
        Some(())
    };
    let cx = run(&mut model, &rule).unwrap();
    assert_eq!(cx.rewrites(), 3);
    assert_eq!(*opsets.borrow(), [7, 21, 21]);
}

#[test]
fn exactly_the_first_rewrites_are_applied_under_a_limit() {
    for limit in 0..5 {
        let mut model = chain(&["Identity", "Relu", "Identity", "Abs", "Identity"]);
        let mut cx = PassContext::new().with_rewrite_limit(Some(limit));
        let rule = Rule {
            name: "drop-identity",
            apply: &drop_identity,
        };
        apply_rewrites(&mut model, &mut cx, &[rule]).unwrap();
        model.sweep();
        let expected: &[&str] = match limit {
            0 => &["Identity", "Relu", "Identity", "Abs", "Identity"],
            1 => &["Relu", "Identity", "Abs", "Identity"],
            2 => &["Relu", "Abs", "Identity"],
            _ => &["Relu", "Abs"],
        };
        assert_eq!(op_types(&model), expected, "{limit}");
        let texts: Vec<_> = cx.messages().iter().map(|m| m.text.clone()).collect();
        let all = [
            "rewrite 1: drop-identity at v0 (Identity)",
            "rewrite 2: drop-identity at v2 (Identity)",
            "rewrite 3: drop-identity at v4 (Identity)",
        ];
        assert_eq!(texts, all[..all.len().min(limit as usize)]);
    }
}

#[test]
fn rules_that_undo_each_other_are_an_error() {
    let swap = |rw: &mut Rewriter<'_>, n: NodeId| {
        let to = if rw.is(n, "A").is_some() { "B" } else { "A" };
        let x = rw.operand(n, 0);
        rw.replace_node(n, Op::new(to), &[x]).map(drop)
    };
    let error = run(&mut chain(&["A"]), &swap).unwrap_err().to_string();
    assert!(
        error.contains("do not come to an end; the last is rule at v0"),
        "{error}"
    );
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "rule changed the graph at v0 (Relu) without a match")]
fn a_rule_that_changes_without_a_match_is_found_out() {
    let rule = |rw: &mut Rewriter<'_>, n: NodeId| {
        rw.set_attr(n, "x", 1i64);
        None
    };
    let _ = run(&mut chain(&["Relu"]), &rule);
}

#[test]
fn a_near_miss_is_said_once_and_is_none() {
    let rule = |rw: &mut Rewriter<'_>, n: NodeId| {
        if rw.is(n, "Identity").is_some() {
            return drop_identity(rw, n);
        }
        rw.miss(n, "epsilon is not constant")
    };
    let cx = run(&mut chain(&["Relu", "Identity", "Abs"]), &rule).unwrap();
    let lines: Vec<_> = cx.messages().iter().map(|m| m.text.as_str()).collect();
    assert_eq!(
        lines,
        [
            "rule at v0 (Relu): epsilon is not constant",
            "rule at v2 (Abs): epsilon is not constant"
        ]
    );
}

#[test]
fn a_constant_that_callers_may_override_is_none() {
    let seen = |ir_version: i64, listed: bool| {
        let mut model = chain(&["Relu"]);
        model.ir_version = ir_version;
        let c = model.graph.add_constant("c", Tensor::scalar(1f32));
        if listed {
            model.graph.list_constant(c.node);
        }
        let n = model.graph.op_order()[0];
        model.graph.set_operand(n, 0, Some(c));
        let found = Cell::new(false);
        let rule = |rw: &mut Rewriter<'_>, n: NodeId| {
            rw.constant(rw.operand(n, 0)?)?;
            found.set(true);
            None
        };
        run(&mut model, &rule).unwrap();
        found.get()
    };
    assert!(seen(10, false));
    assert!(!seen(10, true));
    assert!(seen(3, true));
}

#[test]
fn replacing_a_node_keeps_names_and_types() {
    use onnxq_ir::Type;
    use onnxq_tensor::DType;
    let mut model = chain(&["Relu", "Abs"]);
    let n = model.graph.op_order()[0];
    let v = model.graph.result(n, 0);
    model.graph.set_type(v, Some(Type::dense(DType::F32, &[2])));
    let rule = |rw: &mut Rewriter<'_>, n: NodeId| {
        rw.is(n, "Relu")?;
        let x = rw.operand(n, 0)?;
        let bound = rw.insert_constant(rw.derive(x, "min"), Tensor::scalar(0f32));
        rw.replace_node(n, Op::new("Clip"), &[Some(x), Some(bound)])
            .map(drop)
    };
    run(&mut model, &rule).unwrap();
    assert_eq!(op_types(&model), ["Clip", "Abs"]);
    let graph = &model.graph;
    let clip = graph.op_order()[0];
    assert_eq!(graph.node(clip).name, "v0");
    let value = graph.value(graph.result(clip, 0));
    assert_eq!(value.name, "v0");
    assert_eq!(value.ty, Some(Type::dense(DType::F32, &[2])));
    let bound = graph.operand(clip, 1).unwrap();
    assert_eq!(graph.value(bound).name, "x_min");
}

#[test]
fn deeply_nested_regions_are_rewritten() {
    let branch = |inner: Option<Graph>| {
        let mut model = chain(&["Identity", "Identity"]);
        let graph = &mut model.graph;
        let n = graph.op_order()[1];
        if let (Some(inner), Some(op)) = (inner, graph.op_mut(n)) {
            *op = Op::new("If");
            op.attrs
                .insert("then_branch".to_owned(), Attr::Graph(Box::new(inner)));
        }
        std::mem::take(graph)
    };
    let mut model = chain(&[]);
    model.graph = (0..500).fold(branch(None), |inner, _| branch(Some(inner)));
    let mut cx = PassContext::new();
    let rule = Rule {
        name: "rule",
        apply: &drop_identity,
    };
    apply_rewrites(&mut model, &mut cx, &[rule]).unwrap();
    assert_eq!(cx.rewrites(), 502);
}
