//! How much is known of the shapes of values from the inputs alone, over the zoo and the node tests:
//! by us, by `onnx.shape_inference`, and by ONNX Runtime's symbolic tool. Nothing that we infer is
//! contradicted by a run. The table is `snapshots/operators/shapes.snap`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    ops::AddAssign,
    path::Path,
};

use onnxq_ir::{Model, Type};
use onnxq_ops::{Value, infer};
use onnxq_tests::{
    inferred::{Known, Tool, Types, contradiction, inferred_by, input_symbols, known, strip},
    node_tests::node_tests,
    subject::load,
    workspace_dir,
    zoo::zoo,
};

/// Of how many tensors something is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    /// The rank.
    rank: usize,
    /// Every dimension, as a number or as an expression over those of the inputs.
    symbolic: usize,
    /// Every dimension, as a number.
    constant: usize,
}

impl Counts {
    fn of(ty: Option<&Type>, symbols: &BTreeSet<String>) -> Counts {
        let Some(shape) = ty.and_then(Type::shape) else {
            return Counts::default();
        };
        let least = shape.iter().map(|d| known(d, symbols)).min();
        let least = least.unwrap_or(Known::Constant);
        Counts {
            rank: 1,
            symbolic: usize::from(least >= Known::Symbolic),
            constant: usize::from(least == Known::Constant),
        }
    }

    fn at_least(self, other: Counts) -> bool {
        self.rank >= other.rank
            && self.symbolic >= other.symbolic
            && self.constant >= other.constant
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.rank += other.rank;
        self.symbolic += other.symbolic;
        self.constant += other.constant;
    }
}

/// What is known of the tensors of a model, or of several.
#[derive(Clone, Debug, Default)]
struct Row {
    tensors: usize,
    ours: Counts,
    onnx: Counts,
    symbolic: Counts,
    /// The tensors of models that the symbolic tool gave up on; what we know of the others.
    given_up: usize,
    beside_symbolic: Counts,
}

impl Row {
    fn of(model: &Model, onnx: &Types, symbolic: &Types) -> Row {
        let mut model = model.clone();
        strip(&mut model);
        let symbols = input_symbols(&model.graph);
        let facts = infer::analyze(&model);
        let mut row = Row::default();
        let theirs = |types: &Types, name: &str| match types {
            Ok(types) => Counts::of(types.get(name), &symbols),
            Err(_) => Counts::default(),
        };
        for n in model.graph.op_order() {
            for (i, value) in model.graph.node(n).results.iter().enumerate() {
                let ty = facts.get(model.graph.result(n, i)).ty.as_ref();
                if value.name.is_empty() || ty.is_some_and(|t| t.as_tensor().is_none()) {
                    continue;
                }
                let ours = Counts::of(ty, &symbols);
                row.tensors += 1;
                row.ours += ours;
                row.onnx += theirs(onnx, &value.name);
                row.symbolic += theirs(symbolic, &value.name);
                match symbolic {
                    Ok(_) => row.beside_symbolic += ours,
                    Err(_) => row.given_up += 1,
                }
            }
        }
        row
    }

    fn add(&mut self, other: &Row) {
        self.tensors += other.tensors;
        self.ours += other.ours;
        self.onnx += other.onnx;
        self.symbolic += other.symbolic;
        self.given_up += other.given_up;
        self.beside_symbolic += other.beside_symbolic;
    }

    /// Whether we know as much as each of the others.
    fn is_enough(&self) -> bool {
        self.ours.at_least(self.onnx) && self.beside_symbolic.at_least(self.symbolic)
    }

    fn write(&self, text: &mut String, name: &str) {
        let counts = |c: Counts| format!("{:>6} {:>6} {:>6}", c.rank, c.symbolic, c.constant);
        let symbolic = match self.given_up == self.tensors && self.tensors > 0 {
            true => format!("{:>20}", "gave up"),
            false => counts(self.symbolic),
        };
        let _ = writeln!(
            text,
            "{name:<28} {:>7} | {} | {} | {symbolic}",
            self.tensors,
            counts(self.ours),
            counts(self.onnx),
        );
    }
}

/// The types that both tools infer of a model.
fn theirs(answers: &str, models: &Path, name: &str) -> (Types, Types) {
    let by = |tool| inferred_by(tool, answers, models, name).unwrap_or_else(|e| panic!("{e}"));
    (by(Tool::Onnx), by(Tool::Symbolic))
}

#[test]
fn as_much_is_known_as_by_others() {
    let Some(zoo) = zoo() else { return };
    let head = ["rank", "symb.", "const."];
    let group = format!("{:>6} {:>6} {:>6}", head[0], head[1], head[2]);
    let mut text = format!(
        "{:<28} {:>7} | {:>20} | {:>20} | {:>20}\n{:<28} {:>7} | {group} | {group} | {group}\n",
        "", "", "onnxq", "onnx", "onnxruntime symbolic", "", "tensors"
    );
    let (mut less, mut all, mut gave_up) = (String::new(), Row::default(), String::new());
    let mut row = |text: &mut String, name: &str, row: &Row| {
        row.write(text, name);
        if !row.is_enough() {
            let _ = writeln!(less, "{name}: {row:?}");
        }
    };
    for (name, path) in zoo.models() {
        let model = load(path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let folder = path.parent().expect("the folder of all models");
        let (onnx, symbolic) = theirs("zoo-shapes", folder, name);
        for (tool, types) in [("onnx", &onnx), ("onnxruntime", &symbolic)] {
            if let Err(e) = types {
                let _ = writeln!(gave_up, "  {name}, {tool}: {e}");
            }
        }
        let of_model = Row::of(&model, &onnx, &symbolic);
        row(&mut text, name, &of_model);
        all.add(&of_model);
    }
    row(&mut text, "zoo", &all);
    let (mut all, mut reasons) = (Row::default(), BTreeMap::<String, usize>::new());
    for test in node_tests() {
        let model = load(&test.model()).unwrap_or_else(|e| panic!("{}: {e}", test.name));
        let folder = test.folder.parent().expect("the folder of all tests");
        let (onnx, symbolic) = theirs("node-shapes", folder, &test.name);
        if let Err(e) = &symbolic {
            *reasons.entry(e.clone()).or_default() += 1;
        }
        all.add(&Row::of(&model, &onnx, &symbolic));
    }
    row(&mut text, "node tests", &all);
    let _ = write!(text, "\ngave up:\n{gave_up}");
    for (reason, count) in reasons {
        let _ = writeln!(text, "  {count} node tests, onnxruntime: {reason}");
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(workspace_dir().join("snapshots/operators"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("shapes", text));
    assert!(less.is_empty(), "{less}");
}

#[test]
fn no_run_contradicts_what_is_known_of_the_zoo() {
    let Some(zoo) = zoo() else { return };
    let mut wrong = String::new();
    for (name, path) in zoo.models() {
        let Some(io) = zoo.io(name).unwrap_or_else(|e| panic!("{name}: {e}")) else {
            continue;
        };
        let mut model = load(path).unwrap_or_else(|e| panic!("{name}: {e}"));
        strip(&mut model);
        let input = |&n: &onnxq_ir::NodeId| {
            let name = &model.graph.value(model.graph.result(n, 0)).name;
            io.inputs.get(name).cloned().map(Value::Tensor)
        };
        let inputs = model.graph.inputs().iter().map(input).collect();
        if let Err(e) = contradiction(&model, &infer::analyze(&model), inputs) {
            let _ = writeln!(wrong, "{name}: {e}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
