//! The node tests of ONNX, as they are: what we compute is what is expected, what we infer is true,
//! and is no less than what `onnx.shape_inference` does from the same inputs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::OnceLock,
};

use onnxq_ir::Model;
use onnxq_ops::{Value, infer, interpret::Interpreter, lookup};
use onnxq_tests::{
    inferred::{Tool, at_least, contradiction, inferred_by, input_symbols, strip},
    metrics::check_values,
    node_tests::{NodeTest, node_tests, schemas},
    subject::load,
    workspace_dir,
};

/// Domains of training: their operators are not ours.
const TRAINING: &str = "ai.onnx.preview.training";

/// Why what is computed is not what is expected, by the beginning of the test's name.
const LEFT: &[(&str, &str)] = &[
    ("test_bernoulli", "the expected numbers are random"),
    ("test_image_decoder", "images are not decoded"),
    (
        "test_resize_downsample_scales_cubic_align_corners",
        "spread over the size of the result, as in ONNX Runtime, not over that before rounding",
    ),
    (
        "test_resize_downsample_scales_linear_align_corners",
        "spread over the size of the result, as in ONNX Runtime, not over that before rounding",
    ),
    (
        "test_attention_",
        "the expected numbers, of 16 bits, are rounded at other places",
    ),
    (
        "test_dft_inverse",
        "the expected numbers are further from zero than the tolerance, the right ones are zero",
    ),
];

/// Tests of which `onnx.shape_inference` says what does not follow: that elements have the rank that a
/// body declares (they have another), and that those of a sequence whose dimension has a name all
/// have one size (in other tests they have not).
const WRONG_THERE: &[&str] = &[
    "test_loop13_seq",
    "test_sequence_map_add_1_sequence_1_tensor",
];

struct Test {
    test: &'static NodeTest,
    model: Model,
    operator: String,
}

impl Test {
    fn inputs(&self) -> Vec<Option<Value>> {
        let read = |i| {
            self.test
                .input(i)
                .unwrap_or_else(|e| panic!("{}: {e}", self.test.name))
        };
        (0..self.model.graph.inputs().len()).map(read).collect()
    }

    fn evaluate(&self) -> Result<(), String> {
        let results = Interpreter::new(&self.model).run(&self.model.graph, self.inputs());
        let results = results.map_err(|e| e.to_string())?;
        let tolerance = self.test.tolerance()?;
        for (i, found) in results.iter().enumerate() {
            if let Some(expected) = self.test.output(i)? {
                let near = check_values(&expected, found, tolerance);
                near.map_err(|e| format!("output {i}: {e}"))?;
            }
        }
        Ok(())
    }
}

/// The tests but those of training, by name.
fn tests() -> &'static [Test] {
    static TESTS: OnceLock<Vec<Test>> = OnceLock::new();
    TESTS.get_or_init(|| {
        let only = std::env::var("ONNXQ_ONLY").ok();
        let picked = |t: &&NodeTest| only.as_ref().is_none_or(|only| t.name.contains(only));
        let read = |test: &'static NodeTest| {
            let model = load(&test.model()).unwrap_or_else(|e| panic!("{}: {e}", test.name));
            let operator = operator(&model);
            Test {
                test,
                model,
                operator,
            }
        };
        let mut tests: Vec<Test> = node_tests().iter().filter(picked).map(read).collect();
        tests.retain(|t| !t.operator.starts_with(TRAINING));
        // What a function expands to is named after the function.
        let names: BTreeMap<&str, String> = tests
            .iter()
            .map(|t| (t.test.name.as_str(), t.operator.clone()))
            .collect();
        let of_function = |t: &Test| names.get(t.test.name.strip_suffix("_expanded")?).cloned();
        let renamed: Vec<Option<String>> = tests.iter().map(of_function).collect();
        for (test, name) in tests.iter_mut().zip(renamed) {
            test.operator = name.unwrap_or_else(|| test.operator.clone());
        }
        tests
    })
}

/// The operators of a model's main graph.
fn operator(model: &Model) -> String {
    let nodes = model.graph.op_order().into_iter();
    let ops: BTreeSet<String> = nodes
        .filter_map(|n| model.graph.op(n))
        .map(|op| op.qualified())
        .collect();
    ops.into_iter().collect::<Vec<_>>().join("+")
}

#[test]
fn what_is_computed_is_what_is_expected() {
    let (mut passed, mut unexplained) = (0, String::new());
    let mut by_operator = BTreeMap::<&str, usize>::new();
    let mut left = BTreeMap::<(&str, &str), usize>::new();
    for test in tests() {
        *by_operator.entry(&test.operator).or_default() += 1;
        let outcome = test.evaluate();
        let reason = LEFT
            .iter()
            .find(|(start, _)| test.test.name.starts_with(start));
        match (outcome, reason) {
            (Ok(()), _) => passed += 1,
            (Err(_), Some(&(_, why))) => *left.entry((&test.operator, why)).or_default() += 1,
            (Err(e), None) => {
                let _ = writeln!(unexplained, "{}: {e}", test.test.name);
            }
        }
    }
    assert!(unexplained.is_empty(), "{unexplained}");
    let all = tests().len();
    let part = 100.0 * f64::from(passed) / all as f64;
    let training = node_tests().len() - all;
    let mut text = format!("{passed} of {all} node tests ({part:.1} %) give what is expected.\n");
    let _ = writeln!(
        text,
        "Not counted: {training} of the domain {TRAINING}.\n\nleft:"
    );
    for ((operator, why), count) in left {
        let of = by_operator[operator];
        let _ = writeln!(text, "  {operator}, {count} of {of}: {why}");
    }
    if std::env::var_os("ONNXQ_ONLY").is_none() {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(workspace_dir().join("snapshots/operators"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!("node_tests", text));
        assert!(part >= 98.0, "only {part:.1} %");
    }
}

#[test]
fn what_is_inferred_is_true() {
    let mut wrong = String::new();
    for test in tests() {
        let mut model = test.model.clone();
        strip(&mut model);
        let facts = infer::analyze(&model);
        if let Err(e) = contradiction(&model, &facts, test.inputs()) {
            let _ = writeln!(wrong, "{}: {e}", test.test.name);
        }
        // Of what is not evaluated, the expected outputs.
        for (i, fact) in facts.results(&model.graph).iter().enumerate() {
            let expected = test.test.output(i).unwrap_or_else(|e| panic!("{e}"));
            let (Some(Value::Tensor(t)), Some(shape)) = (expected, fact.shape()) else {
                continue;
            };
            let fits =
                |(d, &n): (&onnxq_tensor::Dim, &usize)| d.as_const().is_none_or(|d| d == n as i64);
            if shape.len() != t.rank() || !shape.iter().zip(t.dims()).all(fits) {
                let _ = writeln!(
                    wrong,
                    "{}: {shape:?}, expected {:?}",
                    test.test.name,
                    t.dims()
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn as_much_is_inferred_as_by_onnx() {
    let mut less = String::new();
    for test in tests()
        .iter()
        .filter(|t| !WRONG_THERE.contains(&t.test.name.as_str()))
    {
        let root = test.test.folder.parent().expect("the folder of all tests");
        let theirs = inferred_by(Tool::Onnx, "node-shapes", root, &test.test.name);
        // Where it gives up, there is nothing to compare with.
        let Ok(theirs) = theirs.unwrap_or_else(|e| panic!("{e}")) else {
            continue;
        };
        let mut model = test.model.clone();
        strip(&mut model);
        let facts = infer::analyze(&model);
        let symbols = input_symbols(&model.graph);
        for n in model.graph.op_order() {
            for (i, value) in model.graph.node(n).results.iter().enumerate() {
                let Some(theirs) = theirs.get(&value.name) else {
                    continue;
                };
                let outcome = match &facts.get(model.graph.result(n, i)).ty {
                    Some(ours) => at_least(ours, theirs, &symbols),
                    None => Err(format!("nothing instead of {theirs:?}")),
                };
                if let Err(e) = outcome {
                    let _ = writeln!(less, "{}: '{}': {e}", test.test.name, value.name);
                }
            }
        }
    }
    assert!(less.is_empty(), "{less}");
}

/// Operators of maps, support vectors and training.
const ABSENT: &[&str] = &["CastMap", "DictVectorizer", "SVMRegressor", "ZipMap"];

#[test]
fn every_operator_is_known_at_every_version() {
    let mut missing = String::new();
    for (domain, operators) in schemas().unwrap_or_else(|e| panic!("{e}")) {
        for (name, versions) in operators {
            if domain == TRAINING || ABSENT.contains(&name.as_str()) {
                continue;
            }
            let Some(operator) = lookup(&domain, &name) else {
                let _ = writeln!(missing, "{domain} {name}");
                continue;
            };
            // Older models than of opset 7 are read as far as they are common.
            let since = operator.since();
            let unknown = |v: &&i64| **v >= 7 && !since.contains(v);
            if versions.iter().any(|v| unknown(&v)) {
                let _ = writeln!(
                    missing,
                    "{domain} {name}: {since:?} instead of {versions:?}"
                );
            }
        }
    }
    assert!(missing.is_empty(), "{missing}");
}
