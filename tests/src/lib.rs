//! What the test suites share: the outside [`oracle`], the model [`zoo`], [cases](case) in text
//! with [inputs] to execute them on, the [node tests](node_tests) of ONNX, what is [inferred] of
//! values, what is done to a model under test ([subject]), real models by [stages], what they are
//! [calibrated](calibration) on and how well they do their [tasks], the [program] as users run it,
//! crates that it has [emitted],
//! files that no [writer](wire) would write, and the distance between [outputs](metrics).

pub mod bisect;
pub mod calibration;
pub mod case;
pub mod emitted;
pub mod fuzz;
pub mod inferred;
pub mod inputs;
pub mod metrics;
pub mod node_tests;
pub mod oracle;
pub mod program;
mod python;
pub mod random;
pub mod random_graph;
pub mod stages;
pub mod subject;
pub mod suite;
pub mod tasks;
pub mod wire;
pub mod zoo;

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// The root of the workspace.
pub fn workspace_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package is a folder of the workspace")
}

/// Cargo's target directory: the folder above the running program that Cargo has tagged.
pub fn target_dir() -> PathBuf {
    let program = env::current_exe().unwrap_or_default();
    let tagged = program
        .ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").is_file());
    tagged.map_or_else(|| workspace_dir().join("target"), Path::to_path_buf)
}

/// Says something to whoever runs the tests, also when the output of tests is captured.
pub fn notice(message: &str) {
    // Nothing can be done where standard error is closed.
    let _ = writeln!(io::stderr(), "{message}");
}

/// Runs `job` while no other process holds the lock file `path`.
pub(crate) fn exclusively<T>(
    path: &Path,
    job: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    let failed = |e: io::Error| format!("cannot lock {}: {e}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let lock = fs::File::create(path).map_err(failed)?;
    lock.lock().map_err(failed)?;
    job()
}
