//! [`Reproducer`]: what a failing pass leaves behind, so that the failure can be repeated.

use std::{fmt::Write, fs, path::PathBuf};

use onnxq_ir::Model;

use crate::{Step, manager::SaveModel};

/// The file with the command, beside the model.
pub(crate) const COMMAND_FILE: &str = "command.txt";

/// Where to leave the model as it entered a failing pass, and the command to repeat it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reproducer {
    /// The directory, made if need be.
    pub dir: PathBuf,
    /// Further arguments of the command, such as the calibration data.
    pub args: Vec<String>,
}

impl Reproducer {
    /// Writes the model as `file_stem.onnx`, and the command.
    pub(crate) fn write(
        &self,
        model: &Model,
        step: &Step,
        file_stem: &str,
        save: &SaveModel<'_>,
    ) -> Result<(), String> {
        let at = |path: &PathBuf, e: std::io::Error| format!("{}: {e}", path.display());
        fs::create_dir_all(&self.dir).map_err(|e| at(&self.dir, e))?;
        let path = self.dir.join(format!("{file_stem}.onnx"));
        save(model, &path)?;
        let mut command = format!(
            "onnxq-opt {} --passes {} --verify-each",
            quoted(&path.to_string_lossy()),
            quoted(&step.to_string())
        );
        for arg in &self.args {
            let _ = write!(command, " {}", quoted(arg));
        }
        command.push('\n');
        let path = self.dir.join(COMMAND_FILE);
        fs::write(&path, command).map_err(|e| at(&path, e))
    }
}

/// An argument as a shell reads it.
fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        arg.to_owned()
    } else {
        format!("'{}'", arg.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn quotes_what_a_shell_would_read_otherwise() {
        assert_eq!(quoted("a/b.onnx"), "a/b.onnx");
        assert_eq!(quoted("fuse{x=[a]}"), "'fuse{x=[a]}'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
