//! The Python environment of the oracle, made under the target directory the first time.
//!
//! Several test processes may ask at once: one makes it, the others wait. It is stamped with the
//! requirements it was made from, and made anew when they change.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::{exclusively, notice, target_dir, workspace_dir};

/// The folder of the Python programs.
pub(crate) fn scripts() -> PathBuf {
    workspace_dir().join("tests").join("oracle")
}

/// The interpreter of the environment.
///
/// # Panics
///
/// Where the environment cannot be made; the message says what is needed.
pub(crate) fn interpreter() -> &'static Path {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match PYTHON.get_or_init(set_up) {
        Ok(path) => path,
        Err(message) => panic!("{message}"),
    }
}

/// A run of the environment's interpreter, which leaves no bytecode beside the scripts.
pub(crate) fn python() -> Command {
    let mut command = Command::new(interpreter());
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn set_up() -> Result<PathBuf, String> {
    let requirements = scripts().join("requirements.txt");
    let wanted = fs::read_to_string(&requirements)
        .map_err(|e| format!("cannot read {}: {e}", requirements.display()))?;
    let home = target_dir().join("oracle-venv");
    let stamp = home.join("requirements.stamp");
    exclusively(&home.with_extension("lock"), || {
        let python = home.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
        if python.is_file() && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(python);
        }
        notice(&format!(
            "note: making the Python environment {} from PyPI, once",
            home.display()
        ));
        let _ = fs::remove_dir_all(&home); // it may not exist
        create(&base_python()?, &home)?;
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(&requirements))?;
        fs::write(&stamp, &wanted)
            .map_err(|e| format!("cannot write {}: {e}", stamp.display()))?;
        Ok(python)
    })
    .map_err(|e| {
        format!(
            "the tests compare with ONNX Runtime, which needs Python 3.11 or later with the modules \
             venv and pip (`ONNXQ_PYTHON` names the interpreter, default `python3`), and the \
             packages of tests/oracle/requirements.txt from PyPI: {e}"
        )
    })
}

fn create(python: &Path, home: &Path) -> Result<(), String> {
    run(Command::new(python).args(["-m", "venv"]).arg(home))
}

/// The interpreter the environment is made with.
fn base_python() -> Result<PathBuf, String> {
    let asked = env::var_os("ONNXQ_PYTHON").map(PathBuf::from);
    let candidates = asked.map_or_else(|| vec!["python3".into(), "python".into()], |p| vec![p]);
    let recent = "import sys, venv; sys.exit(sys.version_info < (3, 11))";
    let works = |python: &PathBuf| {
        let run = Command::new(python).args(["-c", recent]).output();
        run.is_ok_and(|output| output.status.success())
    };
    let tried = candidates
        .iter()
        .map(|p| p.display().to_string())
        .collect::<Vec<_>>()
        .join(", ");
    candidates
        .into_iter()
        .find(works)
        .ok_or_else(|| format!("none of these is one: {tried}"))
}

/// Runs a command to its end; its error output is the message where it fails.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|e| format!("cannot run {command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = text.trim().lines().collect::<Vec<_>>();
    let end = lines[lines.len().saturating_sub(5)..].join("\n");
    Err(format!("{command:?} failed ({}):\n{end}", output.status))
}
