//! Every case under `tests/cases`, one test each, and the snapshots of what they produce.
//!
//! A case is parsed and verified; its model obeys the laws of every model before and after; a
//! second run of the pipeline changes nothing; the outcome equals `snapshots/<pass>/<case>.snap`
//! (`cargo insta review` accepts another); ONNX Runtime computes near enough the same before and
//! after, and the interpreter computes what ONNX Runtime does.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use libtest_mimic::{Arguments, Failed, Trial};
use onnxq_ir::{Model, text};
use onnxq_pass::PassContext;
use onnxq_passes::RangeSource;
use onnxq_quant::{TensorRange, ValueRange};
use onnxq_tests::{
    case::{Allowed, Case, cases, snapshots},
    inputs::generate,
    oracle::{Level, Tensors, oracle},
    subject::{
        check_laws, check_outputs, interpret, run_passes, said, text_without_types, to_bytes,
    },
    workspace_dir,
};

/// Quantization may move the outputs of a case by noise this far below the signal. Eight bits of
/// uniform data give 40 dB and more; small graphs with a few layers stay above this.
const QUANTIZED: Allowed = Allowed::Noise(20.0);

/// Two evaluations of a quantized model may round a few elements to the next step.
const ROUNDED: Allowed = Allowed::Noise(40.0);

/// Operators by which a model is seen to be quantized.
const QUANTIZING: &[&str] = &["QuantizeLinear", "DynamicQuantize", "QLinear", "Integer"];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let cases = cases().expect("the folder of cases is part of the repository");
    let mut trials: Vec<Trial> = cases
        .iter()
        .map(|(name, source)| {
            let (case, source) = (name.clone(), source.clone());
            Trial::test(name, move || run(&case, &source).map_err(Failed::from))
        })
        .collect();
    let names: Vec<String> = cases.into_keys().collect();
    trials.push(Trial::test("snapshots_belong_to_cases", move || {
        snapshots_belong_to_cases(&names).map_err(Failed::from)
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run(name: &str, source: &str) -> Result<(), String> {
    let case = Case::parse(source)?;
    let def = text::parse(&case.model, &()).map_err(|e| e.to_string())?;
    let before = Model::from_def(def).map_err(|e| e.to_string())?;
    check_laws(&before).map_err(|e| format!("before: {e}"))?;

    let mut after = before.clone();
    let mut context = context(&case);
    let outcome = match run_passes(&mut after, &case.passes, &mut context) {
        Ok(_) => Ok(text::print(&after.to_def())),
        Err(e) => {
            let help = e.help().map(|help| format!("help: {help}\n"));
            Err(format!("error: {e}\n{}", help.unwrap_or_default()))
        }
    };
    match (&outcome, &case.fails) {
        (Ok(_), None) => check_after(name, &case, &before, &after)?,
        (Ok(_), Some(word)) => return Err(format!("no error, expected one with '{word}'")),
        (Err(error), Some(word)) if error.contains(word) => {}
        (Err(error), _) => return Err(error.clone()),
    }
    let mut outcome = outcome.unwrap_or_else(|error| error);
    for message in said(&context) {
        outcome.push_str(&format!("# {message}\n"));
    }
    assert_snapshot(name, &outcome)
}

/// With the ranges of the case, where it has any.
fn context(case: &Case) -> PassContext {
    let mut context = PassContext::new();
    if !case.ranges.is_empty() {
        let range = |(name, &[lo, hi]): (&String, &[f32; 2])| {
            let range = TensorRange::Tensor(ValueRange::new(lo, hi));
            (name.clone(), range)
        };
        context.provide(RangeSource::Table(case.ranges.iter().map(range).collect()));
    }
    context
}

fn check_after(name: &str, case: &Case, before: &Model, after: &Model) -> Result<(), String> {
    check_laws(after).map_err(|e| format!("after: {e}"))?;
    if name.ends_with("_stays") {
        let (expected, got) = (text_without_types(before), text_without_types(after));
        if expected != got {
            let diff = onnxq_pass::unified_diff(&expected, &got, "before", "after");
            return Err(format!("the model should stay as it is:\n{diff}"));
        }
    }
    if !case.not_idempotent {
        let mut again = after.clone();
        run_passes(&mut again, &case.passes, &mut context(case))
            .map_err(|e| format!("a second run fails: {e}"))?;
        let (expected, got) = (text::print(&after.to_def()), text::print(&again.to_def()));
        if expected != got {
            let diff = onnxq_pass::unified_diff(&expected, &got, "once", "twice");
            return Err(format!("a second run changes the model again:\n{diff}"));
        }
    }
    if case.not_executed {
        return Ok(());
    }
    let inputs = generate(&before.graph, case)?;
    let quantizes = is_quantized(after) && !is_quantized(before);
    let expected = execute(before, &inputs).map_err(|e| format!("before: {e}"))?;
    let got = execute(after, &inputs).map_err(|e| format!("after: {e}"))?;
    let usual = match quantizes {
        true => QUANTIZED,
        false => Allowed::relative(1e-4),
    };
    check_outputs(&expected, &got, case.tolerance.unwrap_or(usual))
        .map_err(|e| format!("the outputs move: {e}"))
}

fn is_quantized(model: &Model) -> bool {
    let mut found = false;
    model.for_each_graph(|graph| {
        let mut ops = graph.node_ids().filter_map(|n| graph.op(n));
        found |= ops.any(|op| QUANTIZING.iter().any(|q| op.op_type.contains(q)));
    });
    found
}

/// The outputs by ONNX Runtime, which must accept the model, and to which the interpreter's must
/// be equal.
fn execute(model: &Model, inputs: &Tensors) -> Result<Tensors, String> {
    let bytes = to_bytes(model)?;
    oracle().check(&bytes).map_err(|e| e.to_string())?;
    oracle()
        .load(&bytes, Level::All)
        .map_err(|e| e.to_string())?;
    let outputs = oracle()
        .run(&bytes, inputs, Level::Disabled)
        .map_err(|e| e.to_string())?;
    let ours = interpret(model, inputs).map_err(|e| format!("the interpreter fails: {e}"))?;
    check_outputs(&outputs, &ours, Allowed::relative(1e-4))
        .or_else(|far| match is_quantized(model) {
            true => check_outputs(&outputs, &ours, ROUNDED),
            false => Err(far),
        })
        .map_err(|e| format!("the interpreter is not ONNX Runtime: {e}"))?;
    Ok(outputs)
}

fn assert_snapshot(name: &str, text: &str) -> Result<(), String> {
    let (folder, stem) = name.rsplit_once('/').unwrap_or(("", name));
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(workspace_dir().join("snapshots").join(folder));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_input_file(format!("tests/cases/{name}.txt"));
    let assert = || settings.bind(|| insta::assert_snapshot!(stem, text));
    catch_unwind(AssertUnwindSafe(assert))
        .map_err(|_| format!("the outcome is not that of snapshots/{name}.snap"))
}

fn snapshots_belong_to_cases(cases: &[String]) -> Result<(), String> {
    let snapshots = snapshots().map_err(|e| e.to_string())?;
    // What is not of cases belongs to other suites, which look after it.
    let others = ["emit/", "models/", "operators/"];
    let is_stale = |name: &&String| {
        !cases.contains(name) && !others.iter().any(|folder| name.starts_with(folder))
    };
    let stale: Vec<&String> = snapshots.iter().filter(is_stale).collect();
    match stale.is_empty() {
        true => Ok(()),
        false => Err(format!("snapshots without a case: {stale:?}")),
    }
}
