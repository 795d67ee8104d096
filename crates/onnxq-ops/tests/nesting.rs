//! Graphs nested deep: within bounds of stack and time.

use std::cell::Cell;

use onnxq_ir::{Attr, Graph, Model, Op, Type, Value as IrValue, def::ValueDef};
use onnxq_ops::{
    Value, infer,
    interpret::{ELEMENTS_PER_UNIT, Interpreter},
};
use onnxq_tensor::{DType, Dims, Tensor};

fn output(name: &str) -> ValueDef {
    ValueDef {
        name: name.to_owned(),
        ..ValueDef::default()
    }
}

fn scalar_type(dtype: DType) -> Option<Type> {
    Some(Type::dense(dtype, &[]))
}

/// A graph that adds its captured value to itself, in `depth` branches one inside another.
fn branches(depth: usize) -> Graph {
    let mut inner = Graph::new("leaf");
    let x = inner.add_input("x", None);
    let y = inner.insert(Op::new("Add"), &[x, x], "y");
    inner.add_output(output("y"), y);
    for _ in 0..depth {
        let mut outer = Graph::new("branch");
        let x = outer.add_input("x", None);
        let truth = Tensor::from_bools(Dims::new(), vec![true]).expect("one element");
        let c = outer.add_constant("c", truth);
        let mut op = Op::new("If")
            .with("then_branch", Attr::Graph(Box::new(inner.clone())))
            .with("else_branch", Attr::Graph(Box::new(leaf())));
        op.captures = 1;
        let y = outer.insert(op, &[c, x], "y");
        outer.add_output(output("y"), y);
        inner = outer;
    }
    inner
}

fn leaf() -> Graph {
    let mut graph = Graph::new("leaf");
    let x = graph.add_input("x", None);
    let y = graph.insert(Op::new("Neg"), &[x], "y");
    graph.add_output(output("y"), y);
    graph
}

/// Loops inside loops, each of one step and with a value whose shape grows.
fn loops(depth: usize) -> Graph {
    let mut body = None;
    for level in 0..=depth {
        let mut graph = Graph::new("body");
        let _ = graph.add_input("i", scalar_type(DType::I64));
        let c = graph.add_input("c", scalar_type(DType::Bool));
        let x = graph.add_input("x", None);
        let more = graph.insert(Op::new("Identity"), &[c], "more");
        let concat = Op::new("Concat").with("axis", 0i64);
        let y = match body.take() {
            None => graph.insert(concat, &[x, x], "y"),
            Some(inner) => {
                let n = graph.add_constant("n", Tensor::scalar(1i64));
                let op = Op::new("Loop").with("body", Attr::Graph(Box::new(inner)));
                let node = graph.add_node(
                    format!("loop{level}"),
                    op,
                    &[Some(n), None, Some(x)],
                    [IrValue::new("y", None)],
                );
                graph.result(node, 0)
            }
        };
        graph.add_output(output("more"), more);
        graph.add_output(output("y"), y);
        body = Some(graph);
    }
    let mut main = Graph::new("main");
    let x = main.add_input("x", Some(Type::dense(DType::F32, &[1])));
    let n = main.add_constant("n", Tensor::scalar(1i64));
    let op = body.map(|b| Op::new("Loop").with("body", Attr::Graph(Box::new(b))));
    let operands = [Some(n), None, Some(x)];
    let op = op.expect("there is a body at every depth");
    let node = main.add_node("loop", op, &operands, [IrValue::new("y", None)]);
    let y = main.result(node, 0);
    main.add_output(output("y"), y);
    main
}

fn model(graph: Graph) -> Model {
    let mut model = Model {
        graph,
        ..Model::default()
    };
    model.opsets.insert(String::new(), 21);
    model
}

#[test]
fn five_hundred_branches() {
    let mut graph = branches(500);
    let x = graph.result(graph.inputs()[0], 0);
    graph.set_type(x, Some(Type::dense(DType::F32, &[2])));
    let model = model(graph);
    let facts = infer::analyze(&model).results(&model.graph);
    assert_eq!(facts[0].ty, Some(Type::dense(DType::F32, &[2])));
    let x = Value::Tensor(Tensor::vector(vec![1f32, 2.0]));
    let y = Interpreter::new(&model).run(&model.graph, vec![Some(x)]);
    let doubled = Value::Tensor(Tensor::vector(vec![2f32, 4.0]));
    assert_eq!(y, Ok(vec![doubled]));
}

#[test]
fn two_hundred_loops() {
    let model = model(loops(200));
    let facts = infer::analyze(&model).results(&model.graph);
    assert_eq!(facts[0].dtype(), Some(DType::F32));
    let x = Value::Tensor(Tensor::vector(vec![1f32]));
    let y = Interpreter::new(&model).run(&model.graph, vec![Some(x)]);
    let doubled = Value::Tensor(Tensor::vector(vec![1f32, 1.0]));
    assert_eq!(y, Ok(vec![doubled]));
}

#[test]
fn fuel_bounds_the_work_of_all_depths() {
    const AMPLE: u64 = 1 << 20;
    let model = model(loops(2));
    let run = |units: u64| {
        let fuel = Cell::new(units);
        let interpreter = Interpreter::new(&model).fuelled(&fuel);
        let x = Value::Tensor(Tensor::vector(vec![1f32]));
        let result = interpreter.run(&model.graph, vec![Some(x)]);
        (result, fuel.get())
    };
    let (result, left) = run(AMPLE);
    assert!(result.is_ok());
    // Four graphs, each with its operation, three of them with a condition.
    let used = AMPLE - left;
    assert_eq!(used, 4 + 4 + 3);
    assert_eq!(run(used), (result, 0));
    let (result, left) = run(used - 1);
    let message = result.expect_err("it does not suffice").to_string();
    assert!(message.contains("takes more work"), "{message}");
    assert!(message.contains("'loop'"), "{message}");
    assert_eq!(left, 0);
}

#[test]
fn fuel_counts_the_elements_of_results() {
    let mut graph = Graph::new("main");
    let x = graph.add_input("x", None);
    let y = graph.insert(Op::new("Identity"), &[x], "y");
    graph.add_output(output("y"), y);
    let model = model(graph);
    let used = |len: usize| {
        let fuel = Cell::new(1000);
        let x = Value::Tensor(Tensor::vector(vec![1f32; len]));
        let result = Interpreter::new(&model)
            .fuelled(&fuel)
            .run(&model.graph, vec![Some(x)]);
        assert!(result.is_ok());
        1000 - fuel.get()
    };
    // The graph and its operation.
    assert_eq!(used(ELEMENTS_PER_UNIT - 1), 2);
    assert_eq!(used(5 * ELEMENTS_PER_UNIT), 2 + 5);
}
