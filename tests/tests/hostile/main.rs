//! Bad files give one error each, odd ones work: no panic, no signal, no output file on error, no
//! memory or time that only the file's own claims ask for.

mod extreme;
mod files;
mod nonsense;

use std::fs;

use onnxq_ir::{Model, def::ModelDef};
use onnxq_pass::{Error, PassContext};
use onnxq_tests::{
    program::Workbench,
    subject::{check_laws, from_bytes, run_passes},
    workspace_dir,
};

/// The three pipelines, one after the other.
const ALL: &str = "preprocess,quantize,fuse";

fn digits() -> Vec<u8> {
    fs::read(workspace_dir().join("docs/examples/digits/digits.onnx")).unwrap()
}

/// Runs all passes over a file; gives whether it is a good model, or what is wrong where it is
/// neither turned down by an error for users nor made into a good model.
fn outcome(bytes: Vec<u8>) -> Result<bool, String> {
    let Ok(def) = from_bytes(bytes) else {
        return Ok(false);
    };
    let Ok(mut model) = Model::from_def(def) else {
        return Ok(false);
    };
    if !model.verify().is_empty() {
        return Ok(false);
    }
    check_laws(&model)?;
    match run_passes(&mut model, ALL, &mut PassContext::new()) {
        Ok(_) => check_laws(&model)
            .map(|()| true)
            .map_err(|e| format!("after the passes: {e}")),
        Err(Error::Internal { pass, message, .. }) => Err(format!("in {pass}: {message}")),
        Err(_) => Ok(false),
    }
}

/// The same, where nothing may be wrong.
fn survives(what: &str, bytes: Vec<u8>) -> bool {
    outcome(bytes).unwrap_or_else(|e| panic!("{what}: {e}"))
}

/// The program on a bad file: one error line that names the file, and no output.
fn refuses(bytes: &[u8]) -> String {
    let bench = Workbench::new();
    bench.write("bad.onnx", bytes);
    let outcome = bench.run(["bad.onnx", "--passes", ALL, "-o", "out.onnx"]);
    let (message, _) = outcome.failure(1).unwrap();
    assert!(message.contains("bad.onnx"), "{message}");
    assert_eq!(bench.files(), ["bad.onnx"], "{message}");
    message.to_owned()
}

/// The program on an odd file: it works, and what it writes loads.
fn accepts(bytes: &[u8]) {
    let bench = Workbench::new();
    bench.write("odd.onnx", bytes);
    let outcome = bench.run(["odd.onnx", "--passes", ALL, "-o", "out.onnx"]);
    outcome.success().unwrap();
    let again = bench.run(["out.onnx", "--passes", "", "-o", "again.onnx"]);
    again.success().unwrap();
}

/// The program on a file that may be either.
fn decides(what: &str, bytes: &[u8]) {
    let bench = Workbench::new();
    bench.write("a.onnx", bytes);
    let outcome = bench.run(["a.onnx", "--passes", ALL, "-o", "out.onnx"]);
    let written = bench.path("out.onnx").exists();
    let contract = match outcome.status {
        Some(0) => outcome.success().map(drop),
        _ => outcome.failure(1).map(drop),
    };
    if let Err(e) = contract {
        panic!("{what}: {e}");
    }
    assert_eq!(written, outcome.status == Some(0), "{what}");
}

fn bytes_of(def: &ModelDef) -> Vec<u8> {
    let mut bytes = Vec::new();
    onnxq_onnx::write_to(def, &mut bytes).unwrap();
    bytes
}
