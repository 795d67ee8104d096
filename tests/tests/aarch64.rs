//! The tests of the kernels on AArch64, under qemu: a trial for each of their files, run by
//! `tests/aarch64.sh`. They are skipped where `tests/aarch64.sh setup` has not been run, and say so.

use std::{
    fs, io,
    process::{Command, ExitCode},
};

use libtest_mimic::{Arguments, Trial};
use onnxq_tests::{notice, workspace_dir};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let ready = match script(&["ready"]) {
        Ok(()) => true,
        Err(reason) => {
            notice(reason.trim());
            false
        }
    };
    let mut trials = vec![Trial::test("lib", || Ok(script(&["--lib"])?))];
    for name in names().unwrap_or_default() {
        let test = name.clone();
        trials.push(Trial::test(name, move || Ok(script(&["--test", &test])?)));
    }
    let trials = trials
        .into_iter()
        .map(|trial| trial.with_ignored_flag(!ready))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The files of tests, in order.
fn names() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for file in fs::read_dir(workspace_dir().join("crates/onnxq-kernels/tests"))? {
        let path = file?.path();
        if path.extension().is_some_and(|e| e == "rs") {
            names.extend(path.file_stem().map(|s| s.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// Runs the script; what it has said, if it fails.
fn script(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(workspace_dir().join("tests/aarch64.sh"))
        .args(arguments)
        .output()
        .map_err(|e| format!("tests/aarch64.sh cannot be run: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(String::from_utf8_lossy(&text).into_owned())
}
