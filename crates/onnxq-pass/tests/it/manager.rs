//! What the manager does around passes.

use std::{cell::RefCell, fs, path::Path};

use crate::toys::{chain, op_types, registry};
use onnxq_ir::{Model, Op};
use onnxq_pass::{
    Config, Error, Instrumentation, PassContext, PassManager, Pipeline, PrintAfter, Reproducer,
    Summary,
};

fn run_in(
    text: &str,
    model: &mut Model,
    cx: &mut PassContext,
    instruments: &mut Instrumentation<'_>,
) -> Result<Summary, Error> {
    let pipeline = Pipeline::parse(text).unwrap();
    PassManager::new(&registry(), &pipeline, &Config::default())?.run(model, cx, instruments)
}

fn run(
    text: &str,
    model: &mut Model,
    instruments: &mut Instrumentation<'_>,
) -> Result<Summary, Error> {
    run_in(text, model, &mut PassContext::new(), instruments)
}

fn printed(text: &str, print_after: PrintAfter) -> String {
    let mut out = Vec::new();
    let mut instruments = Instrumentation {
        print_after,
        out: Some(&mut out),
        ..Default::default()
    };
    run(text, &mut chain(&["Identity", "Relu"]), &mut instruments).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn runs_passes_in_order_and_sums_up() {
    let mut model = chain(&["Identity", "Relu", "Identity"]);
    let summary = run("simplify", &mut model, &mut Instrumentation::default()).unwrap();
    assert_eq!(op_types(&model), ["Abs"]);
    let rows: Vec<_> = summary
        .passes
        .iter()
        .map(|p| (p.name.as_str(), p.nodes_before, p.nodes_after))
        .collect();
    assert_eq!(rows, [("drop-identity", 3, 1), ("rename", 1, 1)]);
}

#[test]
fn no_passes_change_nothing() {
    let mut model = chain(&["Relu"]);
    let x = model.graph.result(model.graph.inputs()[0], 0);
    model.graph.insert(Op::new("Dead"), &[x], "dead");
    let before = model.graph.revision();
    run("", &mut model, &mut Instrumentation::default()).unwrap();
    assert_eq!(model.graph.revision(), before);
    run(
        "rename{from=X}",
        &mut model,
        &mut Instrumentation::default(),
    )
    .unwrap();
    assert_eq!(op_types(&model), ["Relu"]);
}

#[test]
fn prints_after_the_passes_asked_for() {
    assert_eq!(printed("simplify", PrintAfter::Nothing), "");
    let all = printed("simplify", PrintAfter::All);
    assert!(all.starts_with("# after drop-identity\n"), "{all}");
    assert!(
        all.contains("Relu") && all.contains("# after rename\n"),
        "{all}"
    );
    let some = printed("simplify", PrintAfter::Passes(vec!["rename".into()]));
    assert!(
        some.starts_with("# after rename\n") && some.contains("Abs"),
        "{some}"
    );
    // The name of a pipeline stands for its last pass.
    let pipeline = PrintAfter::Passes(vec!["simplify".into()]);
    assert_eq!(printed("simplify,rename", pipeline), some);
}

#[test]
fn prints_changes_as_diffs() {
    let diff = printed("simplify,rename", PrintAfter::Change);
    let lines: Vec<&str> = diff.lines().collect();
    assert_eq!(
        lines[..2],
        ["--- before drop-identity", "+++ after drop-identity"]
    );
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with('-') && l.contains("Identity")),
        "{diff}"
    );
    assert!(lines.contains(&"+++ after rename"));
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with('+') && l.contains("Abs")),
        "{diff}"
    );
    assert_eq!(lines.last(), Some(&"# no change by rename"));
}

#[test]
fn a_misspelt_name_to_print_after_is_an_error() {
    let mut instruments = Instrumentation {
        print_after: PrintAfter::Passes(vec!["renam".into()]),
        ..Default::default()
    };
    let error = run("rename", &mut chain(&[]), &mut instruments).unwrap_err();
    assert_eq!(error.help().as_deref(), Some("did you mean `rename`?"));
    let mut cx = PassContext::new();
    instruments.print_after = PrintAfter::Passes(vec!["simplify".into()]);
    run_in("rename", &mut chain(&["Relu"]), &mut cx, &mut instruments).unwrap();
    assert_eq!(
        cx.messages()[0].to_string(),
        "warning: `simplify` is not in the pipeline"
    );
}

#[test]
fn errors_name_the_pass() {
    let fail = |how: &str| {
        let text = format!("drop-identity,rename{{fail={how}}}");
        run(
            &text,
            &mut chain(&["Relu"]),
            &mut Instrumentation::default(),
        )
        .unwrap_err()
    };
    let error = fail("error");
    assert_eq!(error.to_string(), "pass `rename`: node 'v0': no such thing");
    assert_eq!(error.help().as_deref(), Some("try another"));
    assert!(!error.is_usage());
    let panic = fail("panic");
    assert_eq!(
        panic.to_string(),
        "internal error in pass `rename`: index 7 is out of range"
    );
    assert!(panic.help().unwrap().contains("report"));
    let invalid = fail("invalid").to_string();
    assert!(
        invalid.starts_with("internal error in pass `rename`: it leaves the model invalid: graph"),
        "{invalid}"
    );
}

#[test]
fn an_invalid_model_is_not_blamed_on_the_first_pass() {
    let mut model = chain(&["Relu"]);
    model.opsets.clear();
    let mut instruments = Instrumentation {
        verify_each: true,
        ..Default::default()
    };
    let error = run("rename", &mut model, &mut instruments).unwrap_err();
    assert!(matches!(error, Error::Input(_)), "{error}");
}

#[test]
fn a_failing_pass_leaves_a_reproducer() {
    let dir = tempfile::tempdir().unwrap();
    let saved = RefCell::new(Vec::new());
    let save = |model: &Model, path: &Path| {
        saved.borrow_mut().push((op_types(model), path.to_owned()));
        Ok(())
    };
    for how in ["error", "panic", "invalid"] {
        let mut instruments = Instrumentation {
            crash_reproducer: Some(Reproducer {
                dir: dir.path().join("deep/er"),
                args: vec!["--ranges".into(), "my ranges.json".into()],
            }),
            save: Some(&save),
            ..Default::default()
        };
        let text = format!("simplify{{from=Relu to=\"a b\" fail={how}}}");
        let error = run(&text, &mut chain(&["Identity", "Relu"]), &mut instruments).unwrap_err();
        if how != "error" {
            assert!(error.help().unwrap().contains("command.txt"), "{error}");
        }
        let path = dir.path().join("deep/er/02-rename.onnx");
        // As it entered: the Identity is gone, the Relu not yet renamed.
        assert_eq!(
            saved.borrow_mut().pop(),
            Some((vec!["Relu".to_owned()], path.clone()))
        );
        let command = fs::read_to_string(dir.path().join("deep/er/command.txt")).unwrap();
        assert_eq!(
            command,
            format!(
                "onnxq-opt {} --passes 'rename{{to=\"a b\" from=Relu fail={how}}}' \
                 --verify-each --ranges 'my ranges.json'\n",
                path.display()
            )
        );
    }
}

#[test]
fn a_reproducer_that_cannot_be_written_is_a_warning() {
    let save = |_: &Model, _: &Path| Err("disk full".to_owned());
    let mut instruments = Instrumentation {
        crash_reproducer: Some(Reproducer::default()),
        save: Some(&save),
        ..Default::default()
    };
    let dir = tempfile::tempdir().unwrap();
    instruments.crash_reproducer.as_mut().unwrap().dir = dir.path().to_owned();
    let mut cx = PassContext::new();
    let text = "rename{fail=error}";
    let error = run_in(text, &mut chain(&[]), &mut cx, &mut instruments).unwrap_err();
    assert!(matches!(
        error,
        Error::Pass {
            reproducer: None,
            ..
        }
    ));
    assert!(cx.messages()[0].text.ends_with("disk full"));
}

#[test]
fn dumps_the_model_after_every_pass() {
    let dir = tempfile::tempdir().unwrap();
    let save = |_: &Model, path: &Path| fs::write(path, "onnx").map_err(|e| e.to_string());
    let mut instruments = Instrumentation {
        dump_dir: Some(dir.path().join("dump")),
        dump_onnx: true,
        save: Some(&save),
        ..Default::default()
    };
    run("simplify", &mut chain(&["Relu"]), &mut instruments).unwrap();
    let mut names: Vec<_> = fs::read_dir(dir.path().join("dump"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "01-drop-identity.onnx",
            "01-drop-identity.txt",
            "02-rename.onnx",
            "02-rename.txt"
        ]
    );
    let text = fs::read_to_string(dir.path().join("dump/02-rename.txt")).unwrap();
    assert!(text.contains("Abs"));
}

#[test]
fn rewrites_are_limited_through_the_whole_pipeline() {
    let mut model = chain(&["Identity", "Relu", "Identity", "Relu"]);
    let mut cx = PassContext::new().with_rewrite_limit(Some(3));
    run_in(
        "simplify",
        &mut model,
        &mut cx,
        &mut Instrumentation::default(),
    )
    .unwrap();
    assert_eq!(op_types(&model), ["Abs", "Relu"]);
    let texts: Vec<_> = cx.messages().iter().map(|m| m.text.as_str()).collect();
    assert_eq!(texts.len(), 3);
    assert_eq!(texts[2], "rewrite 3: rename at Relu");
}

#[test]
fn messages_name_the_pass() {
    let mut cx = PassContext::new();
    let mut model = chain(&["Relu"]);
    run_in(
        "rename{loud}",
        &mut model,
        &mut cx,
        &mut Instrumentation::default(),
    )
    .unwrap();
    assert_eq!(cx.messages()[0].pass, "rename");
    assert_eq!(cx.messages()[0].to_string(), "note: renamed Relu to Neg");
}
