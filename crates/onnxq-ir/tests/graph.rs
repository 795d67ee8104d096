//! The graph: building from names, giving names back, edits, order, sweep, verifier.

use onnxq_ir::{
    Attr, Error, Graph, MAX_NESTING, Model, NodeId, Op, Type, Value, ValueId,
    def::{GraphDef, InitializerDef, Literal, ModelDef, NodeDef, ValueDef},
};
use onnxq_tensor::{DType, Tensor};

fn ty() -> Option<Type> {
    Some(Type::dense(DType::F32, &[2]))
}

fn value(name: &str) -> ValueDef {
    ValueDef::new(name, ty())
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeDef {
    NodeDef {
        op_type: op.into(),
        inputs: inputs.iter().map(|&s| s.into()).collect(),
        outputs: outputs.iter().map(|&s| s.into()).collect(),
        ..NodeDef::default()
    }
}

fn with_region(mut n: NodeDef, key: &str, g: GraphDef) -> NodeDef {
    n.attrs.insert(key.into(), Attr::Graph(Box::new(g)));
    n
}

fn initializer(name: &str, tensor: Tensor) -> InitializerDef {
    InitializerDef {
        name: name.into(),
        value: Literal::Dense(tensor),
        doc: String::new(),
        metadata: Default::default(),
    }
}

fn model(graph: GraphDef) -> ModelDef {
    let opsets = [(String::new(), 21)].into_iter().collect();
    ModelDef {
        ir_version: 10,
        opsets,
        graph,
        ..ModelDef::default()
    }
}

fn graph(inputs: &[&str], outputs: &[&str], nodes: Vec<NodeDef>) -> GraphDef {
    GraphDef {
        name: "g".into(),
        inputs: inputs.iter().map(|n| value(n)).collect(),
        outputs: outputs.iter().map(|n| value(n)).collect(),
        nodes,
        ..GraphDef::default()
    }
}

/// `If` whose branches read an outer value, an outer weight, and a deeper `If` that does too.
fn captured() -> ModelDef {
    let weight = Tensor::vector(vec![1f32, 2.0]);
    let inner = graph(&[], &["i"], vec![node("Add", &["x", "w"], &["i"])]);
    let deeper = graph(&[], &["d"], vec![node("Sub", &["y", "w"], &["d"])]);
    let outer = graph(
        &[],
        &["t"],
        vec![
            with_region(
                with_region(node("If", &["c"], &["k"]), "then_branch", inner.clone()),
                "else_branch",
                deeper,
            ),
            node("Mul", &["k", "w"], &["t"]),
        ],
    );
    let mut g = graph(
        &["x", "c"],
        &["r"],
        vec![
            node("Neg", &["x"], &["y"]),
            with_region(
                with_region(node("If", &["c"], &["r"]), "then_branch", outer),
                "else_branch",
                inner,
            ),
        ],
    );
    g.initializers.push(initializer("w", weight));
    model(g)
}

#[test]
fn captured_values_become_operands_and_come_back_as_names() {
    let def = captured();
    let model = Model::from_def(def.clone()).unwrap();
    assert_eq!(model.verify(), []);
    let n = model
        .graph
        .op_order()
        .into_iter()
        .find(|&n| model.graph.is(n, "If"))
        .unwrap();
    let op = model.graph.op(n).unwrap();
    // x, c and y come in as operands; w was copied.
    assert_eq!((model.graph.operands(n).len(), op.captures), (4, 3));
    for (_, region) in op.regions() {
        assert_eq!(region.inputs().len(), 3);
        assert!(region.node_ids().any(|n| region.node(n).tensor().is_some()));
    }
    let back = model.to_def();
    assert_eq!(
        back.graph.initializers.len(),
        1,
        "the weight is written once"
    );
    assert_eq!(back, def);
}

#[test]
fn order_of_nodes_in_the_file_does_not_matter() {
    let mut def = captured();
    def.graph.nodes.reverse();
    assert_eq!(
        Model::from_def(def).unwrap(),
        Model::from_def(captured()).unwrap()
    );
}

#[test]
fn equal_graphs_print_equally_whatever_their_history() {
    let build = |detour: bool| {
        let mut g = Graph::new("g");
        let x = g.add_input("x", ty());
        let extra = detour.then(|| g.insert(Op::new("Exp"), &[x], "unused"));
        let a = g.insert(Op::new("Neg"), &[x], "a");
        let b = g.insert(Op::new("Relu"), &[x], "b");
        let y = g.insert(Op::new("Add"), &[if detour { b } else { a }, b], "y");
        g.add_output(value("y"), y);
        if let Some(extra) = extra {
            g.replace_uses(extra, a);
            g.set_operand(y.node, 0, Some(a));
            g.sweep();
        }
        Model {
            graph: g,
            opsets: [(String::new(), 21)].into_iter().collect(),
            ..Model::default()
        }
    };
    assert_eq!(build(true).to_def(), build(false).to_def());
}

#[test]
fn moving_and_dropping_many_uses_is_linear() {
    let mut g = Graph::new("g");
    let x = g.add_input("x", ty());
    let y = g.add_input("y", ty());
    let users: Vec<ValueId> = (0..100_000)
        .map(|i| g.insert(Op::new("Neg"), &[x], format!("n{i}")))
        .collect();
    for &u in &users {
        g.set_operand(u.node, 0, Some(y));
    }
    assert_eq!(g.replace_uses(y, x), 100_000);
    g.add_output(value("n0"), users[0]);
    assert_eq!(g.sweep(), 99_999);
    assert_eq!(g.sole_use(x).map(|u| u.node), Some(users[0].node));
}

#[test]
fn names_are_made_unique_when_written() {
    let mut g = Graph::new("g");
    let x = g.add_input("x", ty());
    let a = g.insert(Op::new("Neg"), &[x], "x");
    let b = g.insert(Op::new("Neg"), &[a], "y");
    let c = g.insert(Op::new("Neg"), &[b], "other");
    g.add_output(value("y"), c);
    g.add_output(value("copy"), c);
    g.add_output(value("straight"), x);
    let def = Model {
        graph: g,
        ..Model::default()
    }
    .to_def();
    let outputs: Vec<_> = def
        .graph
        .nodes
        .iter()
        .map(|n| n.outputs[0].as_str())
        .collect();
    assert_eq!(outputs, ["x_1", "y_1", "y", "copy", "straight"]);
    assert_eq!(def.graph.nodes[3].op_type, "Identity");
    let again = Model::from_def(def.clone()).unwrap().to_def();
    assert_eq!(again, def);
}

#[test]
fn sweep_drops_captures_that_no_region_uses() {
    let mut m = Model::from_def(captured()).unwrap();
    let n = m
        .graph
        .op_order()
        .into_iter()
        .find(|&n| m.graph.is(n, "If"))
        .unwrap();
    for region in m.graph.op_mut(n).unwrap().regions_mut() {
        let x = region.inputs()[0];
        let with = region.add_constant("zero", Tensor::vector(vec![0f32, 0.0]));
        let name = region.value(ValueId { node: x, result: 0 }).name.clone();
        assert_eq!(name, "c");
        region.replace_uses(ValueId { node: x, result: 0 }, with);
    }
    m.sweep();
    assert_eq!(m.graph.op(n).unwrap().captures, 2);
    assert_eq!(m.verify(), []);
}

#[test]
fn bad_graphs_are_named() {
    let bad = |g: GraphDef| Model::from_def(model(g)).unwrap_err().to_string();
    assert_eq!(
        bad(graph(
            &["x"],
            &["b"],
            vec![node("A", &["x", "b"], &["a"]), node("B", &["a"], &["b"])]
        )),
        "graph 'g': node B -> 'b' depends on its own result"
    );
    assert_eq!(
        bad(graph(&["x"], &["a"], vec![node("A", &["no"], &["a"])])),
        "graph 'g': node A -> 'a' reads 'no', which nothing defines"
    );
    assert_eq!(
        bad(graph(&["x"], &["x"], vec![node("A", &["x"], &["x"])])),
        "graph 'g': value 'x' is defined more than once"
    );
}

#[test]
fn deep_nesting_works_and_has_a_limit() {
    let nest = |depth: usize| {
        let mut g = graph(&[], &["y"], vec![node("Neg", &["x"], &["y"])]);
        for _ in 0..depth {
            let n = with_region(node("If", &["c"], &["y"]), "then_branch", g);
            g = graph(&[], &["y"], vec![n]);
        }
        g.inputs = vec![value("x"), value("c")];
        model(g)
    };
    let m = Model::from_def(nest(500)).unwrap();
    assert_eq!(m.clone(), m);
    assert_eq!(m.verify(), []);
    let deep = nest(MAX_NESTING + 1);
    // The flat form has no stack of its own: let it be dropped on a large one.
    std::thread::Builder::new()
        .stack_size(256 << 20)
        .spawn(move || {
            assert_eq!(
                Model::from_def(deep),
                Err(Error::TooDeep { limit: MAX_NESTING })
            )
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn verifier_reports_every_violation() {
    let mut g = Graph::new("bad");
    let x = g.add_input("x", ty());
    let y = g.insert(Op::new("Neg"), &[x], "y");
    g.value_mut(y).name.clear();
    g.add_output(value("y"), y);
    g.outputs.push(value("z"));
    let c = g.add_constant("c", Tensor::scalar(1f32));
    g.value_mut(c).ty = ty();
    let n: NodeId = g.add_node(
        "odd",
        Op::in_domain("d", "Odd"),
        &[None],
        [Value::new("o", None)],
    );
    g.op_mut(n).unwrap().captures = 3;
    let found: Vec<String> = Model {
        graph: g,
        ..Model::default()
    }
    .verify()
    .iter()
    .map(ToString::to_string)
    .collect();
    for message in [
        "operand 0 has no name",
        "2 outputs, 1 results",
        "output 'z' has no value",
        "type of the constant",
        "captures more values",
        "domain 'd' is not imported",
    ] {
        assert!(
            found.iter().any(|f| f.contains(message)),
            "{message}: {found:#?}"
        );
    }
}

/// Every value of `g`, with its uses found the slow way.
fn check_uses(g: &Graph) {
    let ids: Vec<NodeId> = g.node_ids().collect();
    for &n in &ids {
        for r in 0..g.node(n).results.len() {
            let v = g.result(n, r);
            let is_v = |&&(_, operand): &&(NodeId, Option<ValueId>)| operand == Some(v);
            let operands: Vec<(NodeId, Option<ValueId>)> = ids
                .iter()
                .flat_map(|&m| g.operands(m).into_iter().map(move |o| (m, o)))
                .collect();
            let users: Vec<NodeId> = operands.iter().filter(is_v).map(|&(m, _)| m).collect();
            assert_eq!(g.uses(v).len(), users.len());
            assert_eq!(g.is_used(v), !users.is_empty());
            let sole = (users.len() == 1).then(|| users[0]);
            assert_eq!(g.sole_use(v).map(|u| u.node), sole);
        }
    }
}

proptest::proptest! {
    #[test]
    fn uses_are_counted_through_any_edits(edits in proptest::collection::vec(
        (0..5u8, 0..8usize, 0..3usize, 0..16usize, 0..16usize),
        0..40,
    )) {
        let mut g = Graph::new("g");
        let x = g.add_input("x", ty());
        let mut values = vec![x];
        let mut nodes = Vec::new();
        for i in 0..8 {
            let results = [Value::new(format!("a{i}"), ty()), Value::new(format!("b{i}"), ty())];
            let n = g.add_node("", Op::new("Split"), &[Some(values[i])], results);
            nodes.push(n);
            values.extend([g.result(n, 0), g.result(n, 1)]);
        }
        g.add_output(value("y"), values[16]);
        for (kind, n, i, v, w) in edits {
            // Operands come from before the node: no cycles.
            let before = |v: usize| values[v % (2 * n + 1)];
            match kind {
                0 => g.set_operand(nodes[n], i, Some(before(v))),
                1 => g.set_operand(nodes[n], i, None),
                2 => g.set_operands(nodes[n], &[Some(before(v)), None, Some(before(w))]),
                3 => {
                    let (old, new) = (v.max(w), v.min(w));
                    g.replace_uses(values[old], values[new]);
                }
                _ => {
                    let mut swept = g.clone();
                    swept.sweep();
                    check_uses(&swept);
                }
            }
        }
        check_uses(&g);
    }
}
