//! The node tests of ONNX, written at every older opset of their operators, are upgraded to the
//! newest one: the checker accepts the result, and it computes the same by our interpreter and, at
//! the newest opset it knows, by ONNX Runtime. What `onnx.version_converter` does with them stands
//! beside it in `snapshots/operators/upgrade.snap`.

use std::{collections::BTreeMap, fmt::Write as _};

use onnxq_ir::{
    Model,
    def::{InitializerDef, Literal, Metadata},
    text,
};
use onnxq_ops::{EvalError, Value, infer, interpret::Interpreter, upgrade};
use onnxq_tensor::{DType, Tensor};
use onnxq_tests::{
    case::{Allowed, Case},
    inputs::generate,
    metrics::{Tolerance, check_values, to_f64s},
    node_tests::{Converted, OldNodeTest, old_node_tests},
    oracle::{Level, Tensors, oracle},
    subject::{check_outputs, load, to_bytes},
    workspace_dir,
};

/// The newest opset of the ONNX package, and of ONNX Runtime.
const NEWEST: i64 = 28;
const OF_ONNX_RUNTIME: i64 = 26;

/// Operators whose results are random: types and dimensions are compared.
const RANDOM: &[&str] = &[
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
];

/// Element types in which values go to ONNX Runtime and come back.
const CARRIED: &[DType] = &[
    DType::F64,
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::I64,
    DType::I32,
    DType::I16,
    DType::I8,
    DType::U64,
    DType::U32,
    DType::U16,
    DType::U8,
    DType::Bool,
    DType::String,
];

/// How an upgrade went.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    /// It computes the same.
    Right,
    /// It could not be tried on the inputs, before or after.
    Unknown(String),
    /// It does not.
    Wrong(String),
    /// There is none, or it is not valid.
    Refused(String),
}

use Outcome::{Refused, Right, Unknown, Wrong};

/// What is known of a test.
struct Report {
    name: String,
    operator: String,
    ours: Outcome,
    by_onnx_runtime: Option<Outcome>,
    theirs: Outcome,
}

fn operators(model: &Model) -> Vec<String> {
    let mut found = Vec::new();
    model.for_each_graph(|g| {
        let ops = g.op_order().into_iter().filter_map(|n| g.op(n));
        found.extend(ops.map(|op| op.op_type.clone()));
    });
    found
}

fn run(model: &Model, inputs: &[Option<Value>]) -> Result<Vec<Value>, EvalError> {
    Interpreter::new(model).run(&model.graph, inputs.to_vec())
}

/// An error with its causes.
fn describe(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(e) = source {
        let _ = write!(text, ": {e}");
        source = e.source();
    }
    text
}

/// The model at opset `target`, or why not.
fn upgraded(old: &Model, target: i64) -> Result<Model, String> {
    let mut model = old.clone();
    infer::annotate(&mut model);
    let reasons = |obstacles: Vec<upgrade::Obstacle>| {
        let reasons: Vec<_> = obstacles.into_iter().map(|o| o.reason).collect();
        reasons.join("; ")
    };
    upgrade::upgrade(&mut model, target).map_err(reasons)?;
    Ok(model)
}

struct Trial<'a> {
    test: &'a OldNodeTest,
    old: Model,
    inputs: Vec<Option<Value>>,
    tolerance: Tolerance,
    is_random: bool,
    expected: Result<Vec<Value>, String>,
}

impl Trial<'_> {
    /// Compares with what is expected; sums in another order are allowed for where `reordered`.
    fn same(&self, got: &[Value], reordered: bool) -> Outcome {
        let expected = match &self.expected {
            Ok(expected) => expected,
            Err(why) => return Unknown(why.clone()),
        };
        if expected.len() != got.len() {
            return Wrong(format!(
                "{} results instead of {}",
                got.len(),
                expected.len()
            ));
        }
        for (i, (e, g)) in expected.iter().zip(got).enumerate() {
            let near = match (e, g) {
                (Value::Tensor(e), Value::Tensor(g)) if self.is_random => {
                    match e.dtype() == g.dtype() && e.dims() == g.dims() {
                        true => Ok(()),
                        false => Err(format!("expected {e:?}, got {g:?}")),
                    }
                }
                (Value::Tensor(t), _) if reordered => check_values(e, g, self.reordered(t)),
                _ => check_values(e, g, self.tolerance),
            };
            if let Err(e) = near {
                return Wrong(format!("result {i}: {e}"));
            }
        }
        Right
    }

    /// The tolerance for sums of elements as large as those of `t`.
    fn reordered(&self, t: &Tensor) -> Tolerance {
        let largest = to_f64s(t)
            .into_iter()
            .flatten()
            .fold(0.0, |m: f64, v| m.max(v.abs()));
        Tolerance {
            atol: self.tolerance.atol + 2e-6 * largest.min(1e30),
            ..self.tolerance
        }
    }

    fn evaluated(&self, new: &Model) -> Outcome {
        match run(new, &self.inputs) {
            Ok(got) => self.same(&got, false),
            Err(e) if self.expected.is_ok() => Wrong(describe(&e)),
            Err(e) => Unknown(describe(&e)),
        }
    }

    fn ours(&self) -> Outcome {
        let new = match upgraded(&self.old, NEWEST) {
            Ok(new) => new,
            Err(why) => return Refused(why),
        };
        let checked =
            to_bytes(&new).and_then(|bytes| oracle().check(&bytes).map_err(|e| e.to_string()));
        match checked {
            Ok(()) => self.evaluated(&new),
            Err(e) => Wrong(e),
        }
    }

    /// The results by ONNX Runtime; `None` where they cannot be carried there and back.
    fn of_onnx_runtime(&self, model: &Model) -> Option<Result<Vec<Value>, String>> {
        let is_carried = |v: &Value| match v {
            Value::Tensor(t) => CARRIED.contains(&t.dtype()),
            _ => false,
        };
        if !self.expected.iter().flatten().all(is_carried) {
            return None;
        }
        let graph = &self.old.graph;
        let mut inputs = Tensors::new();
        for (&n, value) in graph.inputs().iter().zip(&self.inputs) {
            let value = value.as_ref().filter(|v| is_carried(v))?;
            let name = graph.value(graph.result(n, 0)).name.clone();
            inputs.insert(name, value.as_tensor()?.clone());
        }
        let bytes = to_bytes(model).ok()?;
        let outputs = oracle().run(&bytes, &inputs, Level::Disabled);
        Some(match outputs {
            Ok(outputs) => Ok(outputs.into_values().map(Value::Tensor).collect()),
            Err(e) => Err(e.to_string()),
        })
    }

    /// The upgraded model by ONNX Runtime; `None` where that has no kernels for it, or cannot run
    /// the old one either.
    fn by_onnx_runtime(&self) -> Option<Outcome> {
        let new = upgraded(&self.old, OF_ONNX_RUNTIME.max(self.test.opset)).ok()?;
        match self.of_onnx_runtime(&new)? {
            Ok(got) => match self.same(&got, true) {
                Wrong(why) => match self.of_onnx_runtime(&self.old)? {
                    // It computes something else than we do, before as after.
                    Ok(old) if old == got => Some(Right),
                    _ => Some(Wrong(why)),
                },
                outcome => Some(outcome),
            },
            Err(e) if e.contains("NOT_IMPLEMENTED") => None,
            Err(e) => match self.of_onnx_runtime(&self.old)? {
                Ok(_) => Some(Wrong(format!("it runs the old one, but: {e}"))),
                Err(_) => None,
            },
        }
    }

    fn theirs(&self) -> Outcome {
        match self.test.converted() {
            Converted::Refused(why) => Refused(why),
            Converted::Model(path) => match load(&path) {
                Ok(model) => self.evaluated(&model),
                Err(e) => Wrong(e),
            },
        }
    }
}

fn report(test: &OldNodeTest) -> Result<Report, String> {
    let name = format!("{}@{}", test.test.name, test.opset);
    let inputs = test.inputs()?;
    let old = load(&test.model())?;
    let names = operators(&old);
    let expected = run(&old, &inputs).map_err(|e| describe(&e));
    let trial = Trial {
        test,
        inputs,
        tolerance: test.test.tolerance()?,
        is_random: names.iter().any(|op| RANDOM.contains(&op.as_str())),
        old,
        expected,
    };
    Ok(Report {
        ours: trial.ours(),
        by_onnx_runtime: trial.by_onnx_runtime(),
        theirs: trial.theirs(),
        name,
        operator: match names.as_slice() {
            [one] => one.clone(),
            _ => "(several)".to_owned(),
        },
    })
}

/// How many tests have an outcome.
#[derive(Clone, Copy, Default)]
struct Row {
    tests: usize,
    converted: usize,
    right: usize,
    by_onnx_runtime: usize,
    their_converted: usize,
    their_right: usize,
}

impl Row {
    fn count(&mut self, report: &Report) {
        let converted = |outcome: &Outcome| usize::from(!matches!(outcome, Refused(_)));
        let right = |outcome: &Outcome| usize::from(*outcome == Right);
        self.tests += 1;
        self.converted += converted(&report.ours);
        self.right += right(&report.ours);
        self.by_onnx_runtime += report.by_onnx_runtime.as_ref().map_or(0, right);
        self.their_converted += converted(&report.theirs);
        self.their_right += right(&report.theirs);
    }

    fn write(&self, table: &mut String, name: &str) {
        let _ = writeln!(
            table,
            "{name:<26} {:>5} {:>9} {:>5} {:>12} {:>9} {:>5}",
            self.tests,
            self.converted,
            self.right,
            self.by_onnx_runtime,
            self.their_converted,
            self.their_right
        );
    }
}

/// How we do where the converter does, does not, and is silently wrong.
fn summary(reports: &[Report]) -> String {
    let ours = |of: fn(&Outcome) -> bool| {
        let of: Vec<&Report> = reports.iter().filter(|r| of(&r.theirs)).collect();
        let right = of.iter().filter(|r| r.ours == Right).count();
        format!("we have right {right} of {}", of.len())
    };
    let right = ours(|theirs| *theirs == Right);
    let refused = ours(|theirs| matches!(theirs, Refused(_)));
    let wrong = ours(|theirs| matches!(theirs, Wrong(_)));
    format!(
        "\nof what the converter has right, {right}\nof what it refuses, {refused}\n\
         of what it converts wrong, {wrong}\n"
    )
}

fn table(reports: &[Report]) -> String {
    let mut rows = BTreeMap::<&str, Row>::new();
    let mut all = Row::default();
    for report in reports {
        rows.entry(&report.operator).or_default().count(report);
        all.count(report);
    }
    let mut text = format!(
        "{:<26} {:>5} {:>15} {:>12} {:>15}\n{:<26} {:>5} {:>9} {:>5} {:>12} {:>9} {:>5}\n",
        "",
        "",
        "upgrade",
        "onnxruntime",
        "onnx converter",
        "",
        "tests",
        "converted",
        "right",
        "right",
        "converted",
        "right"
    );
    for (name, row) in &rows {
        row.write(&mut text, name);
    }
    all.write(&mut text, "all");
    text.push_str(&summary(reports));
    text.push_str("\nnot converted:\n");
    for report in reports {
        if let Refused(why) = &report.ours {
            let _ = writeln!(text, "  {}: {why}", report.name);
        }
    }
    // Without the names of nodes, and each reason once.
    let mut reasons = BTreeMap::<&str, usize>::new();
    for report in reports {
        if let Unknown(why) = &report.ours {
            *reasons
                .entry(why.rsplit(": ").next().unwrap_or(why))
                .or_default() += 1;
        }
    }
    text.push_str("\nconverted, and not evaluated before either:\n");
    for (reason, count) in reasons {
        let _ = writeln!(text, "  {count} tests: {reason}");
    }
    text
}

#[test]
fn node_tests_of_older_opsets() {
    let only = std::env::var("ONNXQ_ONLY").ok();
    let picked = |t: &&OldNodeTest| only.as_ref().is_none_or(|only| t.test.name.contains(only));
    let mut reports = Vec::new();
    let mut wrong = String::new();
    for test in old_node_tests().iter().filter(picked) {
        let name = format!("{}@{}", test.test.name, test.opset);
        let report = report(test).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut expect = |what: &str, outcome: &Outcome| {
            if let Wrong(why) = outcome {
                let _ = writeln!(wrong, "{name}, {what}: {why}");
            }
        };
        expect("upgraded", &report.ours);
        if let Some(outcome) = &report.by_onnx_runtime {
            expect("by ONNX Runtime", outcome);
        }
        if matches!(report.ours, Refused(_)) && !matches!(report.theirs, Refused(_)) {
            let _ = writeln!(
                wrong,
                "{name}: the converter does it; we: {:?}",
                report.ours
            );
        }
        reports.push(report);
    }
    let text = table(&reports);
    if only.is_none() {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(workspace_dir().join("snapshots/operators"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!("upgrade", text));
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What the converter does without a word, and wrong.
const SILENTLY_WRONG: &[(&str, &str)] = &[
    (
        "linear Upsample",
        r#"<ir_version: 4, opset_import: ["": 9]>
        g (float[1, 1, 2, 3] x) => (float[1, 1, 4, 9] y) <float[4] s = {1, 1, 2, 3}>
        { y = Upsample <mode = "linear"> (x, s) }"#,
    ),
    (
        "linear Resize-10",
        r#"<ir_version: 5, opset_import: ["": 10]>
        g (float[1, 1, 2, 3] x) => (float[1, 1, 5, 6] y) <float[4] s = {1, 1, 2.5, 2}>
        { y = Resize <mode = "linear"> (x, s) }"#,
    ),
    (
        "nearest Resize-10",
        r#"<ir_version: 5, opset_import: ["": 10]>
        g (float[1, 1, 4, 5] x) => (float[1, 1, 6, 8] y) <float[4] s = {1, 1, 1.5, 1.6}>
        { y = Resize <mode = "nearest"> (x, s) }"#,
    ),
    (
        "Hardmax",
        r#"<ir_version: 5, opset_import: ["": 10]>
        g (float[2, 3, 4] x) => (float[2, 3, 4] y) { y = Hardmax (x) }"#,
    ),
    (
        "Pad-2 in IR 3",
        r#"<ir_version: 3, opset_import: ["": 7]>
        g (float[2, 3] x) => (float[4, 6] y)
        { y = Pad <pads = [1, 2, 1, 1], mode = "constant", value = 1.5> (x) }"#,
    ),
];

#[test]
fn right_where_the_converter_is_silently_wrong() {
    for (name, source) in SILENTLY_WRONG {
        let def = text::parse(source, &()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let old = Model::from_def(def).unwrap_or_else(|e| panic!("{name}: {e}"));
        let inputs = generate(&old.graph, &Case::default()).expect("dimensions are known");
        let by = |model: &[u8]| oracle().run(&model.to_vec(), &inputs, Level::Disabled);
        let bytes = to_bytes(&old).expect("small");
        let expected = by(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        for target in [11, 13, 18, 21, OF_ONNX_RUNTIME] {
            let new = upgraded(&old, target).unwrap_or_else(|e| panic!("{name}: {e}"));
            let bytes = to_bytes(&new).expect("small");
            oracle()
                .check(&bytes)
                .unwrap_or_else(|e| panic!("{name} at {target}: {e}"));
            let got = by(&bytes).unwrap_or_else(|e| panic!("{name} at {target}: {e}"));
            let near = check_outputs(&expected, &got, Allowed::relative(1e-6));
            near.unwrap_or_else(|e| panic!("{name} at {target}: {e}"));
        }
        // Should the converter learn it one day, this test says so.
        let theirs = oracle().convert_version(&bytes, OF_ONNX_RUNTIME);
        let theirs = theirs.and_then(|bytes| {
            oracle().check(&bytes)?;
            by(&bytes)
        });
        let is_right =
            theirs.is_ok_and(|got| check_outputs(&expected, &got, Allowed::relative(1e-6)).is_ok());
        assert!(!is_right, "{name}: the converter has it right");
    }
}

/// A node test, at an older opset than its own.
fn downgraded(test: &OldNodeTest) -> Outcome {
    let run_it = || -> Result<Outcome, String> {
        let mut def = onnxq_onnx::load(&test.test.model()).map_err(|e| e.to_string())?;
        // What is no longer an operand must be constant: all is, but the first input.
        let mut inputs = Vec::new();
        let listed = std::mem::take(&mut def.graph.inputs);
        for (i, input) in listed.into_iter().enumerate() {
            match test.test.input(i)? {
                Some(Value::Tensor(t)) if i > 0 => def.graph.initializers.push(InitializerDef {
                    name: input.name,
                    value: Literal::Dense(t),
                    doc: String::new(),
                    metadata: Metadata::default(),
                }),
                value => {
                    def.graph.inputs.push(input);
                    inputs.push(value);
                }
            }
        }
        def.ir_version = def.ir_version.max(4);
        let mut model = Model::from_def(def).map_err(|e| e.to_string())?;
        let expected = run(&model, &inputs).map_err(|e| describe(&e));
        infer::annotate(&mut model);
        if let Err(obstacles) = upgrade::downgrade(&mut model, test.opset) {
            let reasons: Vec<_> = obstacles.into_iter().map(|o| o.reason).collect();
            return Ok(Refused(reasons.join("; ")));
        }
        let names = operators(&model);
        let trial = Trial {
            test,
            inputs,
            tolerance: test.test.tolerance()?,
            is_random: names.iter().any(|op| RANDOM.contains(&op.as_str())),
            old: model.clone(),
            expected,
        };
        if let Err(e) = oracle().check(&to_bytes(&model)?) {
            return Ok(Wrong(e.to_string()));
        }
        Ok(trial.evaluated(&model))
    };
    run_it().unwrap_or_else(|e| panic!("{}: {e}", test.test.name))
}

/// Where the test can be said at an older opset, we mostly find how; and what we say is right.
#[test]
fn downgrades_of_node_tests() {
    let only = std::env::var("ONNXQ_ONLY").ok();
    let picked = |t: &&OldNodeTest| {
        t.opset >= 7 && only.as_ref().is_none_or(|only| t.test.name.contains(only))
    };
    let (mut all, mut right, mut wrong) = (0, 0, String::new());
    let mut refused = BTreeMap::<String, usize>::new();
    for test in old_node_tests().iter().filter(picked) {
        all += 1;
        match downgraded(test) {
            Wrong(why) => {
                let _ = writeln!(wrong, "{}@{}: {why}", test.test.name, test.opset);
            }
            Refused(why) => *refused.entry(why).or_default() += 1,
            Right => right += 1,
            Unknown(_) => {}
        }
    }
    let mut text = format!("{all} tests, {right} right\n\nnot converted:\n");
    for (why, count) in refused {
        let _ = writeln!(text, "  {count} tests: {why}");
    }
    if only.is_none() {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(workspace_dir().join("snapshots/operators"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!("downgrade", text));
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The schemas that downgrades go by are those of the ONNX package.
#[test]
fn schemas_are_those_of_the_package() {
    let listed = onnxq_tests::node_tests::schema_table().expect("the package is there");
    let path = workspace_dir().join("crates/onnxq-ops/src/upgrade/schemas.txt");
    let ours = std::fs::read_to_string(&path).expect("it is part of the repository");
    assert!(
        ours == listed,
        "make {} anew: tests/oracle/schema_table.py",
        path.display()
    );
}
