//! Every model of the zoo through every stage: one test for each model and property.
//!
//! - `file`: it reads back as the same model from our file and our text.
//! - `preprocess`: the checker and ONNX Runtime accept the result and compute the same.
//! - `quantize`: ONNX Runtime computes what the float model does, with no more noise than when the
//!   reference tool quantizes.
//! - `interpreter`: it computes what ONNX Runtime does, before and after.
//! - `table`: operators, bytes and noise are those of `snapshots/models/<model>.snap`.

use std::{fs, panic, process::ExitCode};

use indexmap::IndexMap;
use libtest_mimic::{Failed, Trial};
use onnxq_ir::Model;
use onnxq_tensor::DType;
use onnxq_tests::{
    case::Allowed,
    metrics::compare,
    oracle::{Level, Tensors, oracle},
    stages::{Stage, Stages, reference},
    subject::{check_laws, check_outputs, interpret, to_bytes},
    suite::{self, Property},
    workspace_dir,
};

const PROPERTIES: &[(&str, Property)] = &[
    ("file", file),
    ("preprocess", preprocess),
    ("quantize", quantize),
    ("interpreter", interpreter),
    ("table", table),
];

/// Where our noise may be more than that of the reference tool: the least signal to noise in dB,
/// and why.
const NOISIER: &[(&str, f64, &str)] = &[
    (
        "silero_vad",
        23.0,
        "all of it is in branches, where the tool quantizes nothing",
    ),
    (
        "control_flow_scripted",
        42.0,
        "the weights in branches and loops are quantized too",
    ),
    (
        "odd_matmuls",
        34.0,
        "more of its nodes are quantized; which one costs it is not traced",
    ),
    (
        "old_opset9_segnet",
        30.0,
        "`mask` is better than with the tool; why `prob` is not is not traced",
    ),
];

/// How much our noise may exceed that of the reference tool, in dB.
const MARGIN: f64 = 0.5;

fn main() -> ExitCode {
    suite::run(|zoo| {
        let complete = Trial::test("zoo_is_complete", move || match zoo.models().count() {
            30.. => Ok(()),
            count => Err(Failed::from(format!("only {count} models"))),
        });
        let properties = suite::of_each(&Stages::all(zoo), PROPERTIES);
        [complete].into_iter().chain(properties).collect()
    })
}

fn file(model: &Stages) -> Result<(), String> {
    let float = model.float()?;
    check_laws(&float.model)?;
    if oracle().check(&float.path).is_ok() {
        let bytes = to_bytes(&float.model)?;
        oracle().check(&bytes).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Checks what must hold for every stage.
fn check(stage: &Stage) -> Result<(), String> {
    check_laws(&stage.model)?;
    oracle().check(&stage.path).map_err(|e| e.to_string())
}

/// The outputs by ONNX Runtime.
fn run(stage: &Stage, inputs: &Tensors) -> Result<Tensors, String> {
    oracle()
        .run(&stage.path, inputs, Level::All)
        .map_err(|e| e.to_string())
}

fn load(stage: &Stage) -> Result<(), String> {
    let loaded = oracle().load(&stage.path, Level::All);
    loaded.map(drop).map_err(|e| e.to_string())
}

fn preprocess(model: &Stages) -> Result<(), String> {
    let stage = model.preprocessed()?;
    check(stage)?;
    let Some(io) = model.io()? else {
        return load(stage);
    };
    let outputs = run(stage, &io.inputs)?;
    check_outputs(&io.outputs, &outputs, Allowed::relative(1e-4))
}

fn quantize(model: &Stages) -> Result<(), String> {
    let stage = model.quantized()?;
    check(stage)?;
    let Some(io) = model.io()? else {
        return load(stage);
    };
    let outputs = run(stage, &io.inputs)?;
    for (name, expected) in &io.outputs {
        let got = outputs
            .get(name)
            .ok_or_else(|| format!("output '{name}' is missing"))?;
        let metrics = compare(expected, got).map_err(|e| format!("output '{name}': {e}"))?;
        let theirs = &reference(&model.name)["outputs"][name]["sqnr_db"];
        let known = NOISIER.iter().find(|(m, ..)| *m == model.name);
        let least = match known {
            Some((_, level, _)) => *level,
            None => theirs.as_f64().unwrap_or(10.0) - MARGIN,
        };
        if metrics.sqnr_db < least {
            return Err(format!(
                "output '{name}': signal to noise is {:.2} dB, expected {least:.2} (the reference \
                 tool has {theirs})",
                metrics.sqnr_db
            ));
        }
    }
    Ok(())
}

fn interpreter(model: &Stages) -> Result<(), String> {
    let Some(io) = model.io()? else {
        return Ok(());
    };
    let float = interpret(&model.float()?.model, &io.inputs).map_err(|e| e.to_string())?;
    check_outputs(&io.outputs, &float, Allowed::relative(1e-4))
        .map_err(|e| format!("before: {e}"))?;
    let stage = model.quantized()?;
    let theirs = oracle()
        .run(&stage.path, &io.inputs, Level::Disabled)
        .map_err(|e| e.to_string())?;
    let ours = interpret(&stage.model, &io.inputs).map_err(|e| format!("after: {e}"))?;
    // Near a tie, the last bit of a float decides for one code or the next, and layers amplify
    // it: then both are equally far from the float model.
    for (name, expected) in &io.outputs {
        let missing = || format!("after: output '{name}' is missing");
        let theirs = theirs.get(name).ok_or_else(missing)?;
        let ours = ours.get(name).ok_or_else(missing)?;
        let near = compare(theirs, ours).map_err(|e| e.to_string())?;
        let noise = |t| compare(expected, t).map_err(|e| e.to_string());
        let (a, b) = (noise(theirs)?.sqnr_db, noise(ours)?.sqnr_db);
        if near.sqnr_db < 40.0 && a != b && (a - b).abs() >= 1.0 {
            return Err(format!(
                "after: output '{name}': {:.1} dB from ONNX Runtime; from the float model {b:.1} \
                 dB, where ONNX Runtime has {a:.1}",
                near.sqnr_db
            ));
        }
    }
    Ok(())
}

/// The columns of a table.
const COLUMNS: [&str; 5] = [
    "float",
    "preprocessed",
    "dynamic",
    "static",
    "static, fused",
];

fn table(model: &Stages) -> Result<(), String> {
    let stages = [
        model.float()?,
        model.preprocessed()?,
        model.quantized()?,
        model.static_qdq()?,
        model.static_fused()?,
    ];
    let mut text = String::new();
    let mut row = |name: &str, cells: [String; COLUMNS.len()]| {
        text.push_str(&format!("{name:<28}"));
        for cell in cells {
            text.push_str(&format!("{cell:>14}"));
        }
        text.push('\n');
    };
    row("", COLUMNS.map(str::to_owned));
    let bytes = |stage: &Stage| fs::metadata(&stage.path).map_or(0, |m| m.len());
    row("bytes", stages.map(|s| bytes(s).to_string()));
    row(
        "weights in 8 bits or fewer",
        stages.map(|s| format!("{:.0} %", 100.0 * quantized_share(&s.model))),
    );
    let counts = stages.map(|s| operators(&s.model));
    let total = |c: &IndexMap<String, usize>| c.values().sum::<usize>().to_string();
    row("nodes", counts.each_ref().map(total));
    let mut names: Vec<&String> = counts.iter().flat_map(|c| c.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let count =
            |c: &IndexMap<String, usize>| c.get(name).map_or("-".to_owned(), usize::to_string);
        row(&format!("  {name}"), counts.each_ref().map(count));
    }
    if let Some(io) = model.io()? {
        let recorded = recorded(&model.name);
        for (form, stage) in COLUMNS.iter().zip(stages).skip(2) {
            text.push_str(&format!("\nsignal to noise, {form}\n"));
            let outputs = run(stage, &io.inputs)?;
            for (name, expected) in &io.outputs {
                let got = outputs.get(name);
                let metrics = got.and_then(|got| compare(expected, got).ok());
                let level = metrics.map_or(f64::NEG_INFINITY, |metrics| metrics.sqnr_db);
                // Figures are machine dependent in the last bits of floats.
                let level = match recorded.get(&(form.to_string(), name.clone())) {
                    Some(&known) if (known - level).abs() < MARGIN => known,
                    _ => level,
                };
                text.push_str(&format!("  {name}: {}\n", decibels(level)));
            }
        }
    }
    snapshot(&model.name, &text)
}

fn decibels(level: f64) -> String {
    match level {
        80.0.. => "more than 80 dB".to_owned(),
        level => format!("{level:.1} dB"),
    }
}

/// The noise in the snapshot of a model, by column and output.
fn recorded(model: &str) -> IndexMap<(String, String), f64> {
    let path = workspace_dir().join(format!("snapshots/models/{model}.snap"));
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut form = "";
    let mut figures = IndexMap::new();
    for line in text.lines() {
        form = line.strip_prefix("signal to noise, ").unwrap_or(form);
        let figure = line.strip_suffix(" dB").and_then(|l| l.rsplit_once(": "));
        if let Some((name, level)) = figure
            && let Ok(level) = level.parse()
        {
            figures.insert((form.to_owned(), name.trim().to_owned()), level);
        }
    }
    figures
}

fn operators(model: &Model) -> IndexMap<String, usize> {
    let mut counts = IndexMap::new();
    model.for_each_graph(|graph| {
        for op in graph.node_ids().filter_map(|n| graph.op(n)) {
            *counts.entry(op.qualified()).or_default() += 1;
        }
    });
    counts
}

/// The part of the elements of weights that are stored in codes, by elements.
fn quantized_share(model: &Model) -> f64 {
    let (mut codes, mut floats) = (0, 0);
    let mut seen = std::collections::HashSet::new();
    model.for_each_graph(|graph| {
        for tensor in graph.node_ids().filter_map(|n| graph.node(n).tensor()) {
            if !seen.insert((tensor.bytes().as_ptr(), tensor.len())) {
                continue;
            }
            match tensor.dtype() {
                dtype if dtype.is_float() => floats += tensor.len(),
                dtype if dtype.bits() <= 8 && dtype != DType::Bool => codes += tensor.len(),
                _ => {}
            }
        }
    });
    codes as f64 / (codes + floats).max(1) as f64
}

fn snapshot(name: &str, text: &str) -> Result<(), String> {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(workspace_dir().join("snapshots/models"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let assert = || settings.bind(|| insta::assert_snapshot!(name, text));
    panic::catch_unwind(panic::AssertUnwindSafe(assert))
        .map_err(|_| format!("the table is not that of snapshots/models/{name}.snap"))
}
