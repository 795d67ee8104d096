//! Cases: what a pipeline does to a small model, `tests/cases/<pass>/<case>.txt`.
//!
//! ```text
//! passes: fuse-conv-bn
//! # Why this case exists, where its name does not say it.
//! inputs: x = uniform(-3, 3), ids = {1, 2}
//! <ir_version: 10, opset_import: ["": 21]>
//! main (float[N, 4] x, int64[2] ids) => (float[N, 2] y) { ... }
//! ```
//!
//! Directives come first, each at most once, then the model in the text form (`docs/ir.md`).
//!
//! | directive | meaning | default |
//! |---|---|---|
//! | `passes` | pipeline text; the first line; may be empty | |
//! | `dims` | values of symbols, `N = 3, M = 7` | 2, 3, 4, ... in order of appearance |
//! | `inputs` | inputs to execute on, see [`inputs`](crate::inputs) | uniform in [-1, 1), integers 0 to 3 |
//! | `ranges` | calibration ranges, `x = [-1, 1], y = [0, 6]` | none |
//! | `tolerance` | how far outputs may move: `1e-3`, relative and a tenth of it absolute; or `25 dB`, the least signal to noise | `1e-4`; `20 dB` where the pipeline quantizes |
//! | `fails` | the pipeline gives an error; a word of it | it succeeds |
//! | `not-executed` | ONNX Runtime cannot run the model; the reason | it is executed before and after |
//! | `not-idempotent` | a second run changes the model again; the reason | it does not |
//!
//! A case whose name ends in `_stays` is one that the pipeline must leave as it is.

use std::{fs, io, path::Path};

use indexmap::IndexMap;

use crate::{metrics::Tolerance, workspace_dir};

/// A case, read but for its model.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the directives")]
pub struct Case {
    pub passes: String,
    pub dims: IndexMap<String, i64>,
    /// What comes before and behind the equals sign of each.
    pub inputs: Vec<(String, String)>,
    pub ranges: IndexMap<String, [f32; 2]>,
    pub tolerance: Option<Allowed>,
    pub fails: Option<String>,
    pub not_executed: bool,
    pub not_idempotent: bool,
    /// The text of the model, with blank lines for the directives so that errors have the lines
    /// of the file.
    pub model: String,
}

/// How far an output may be from the one before.
#[derive(Clone, Copy, Debug)]
pub enum Allowed {
    /// Each element, by this much.
    Elements(Tolerance),
    /// All together, by noise this many decibels below the signal.
    Noise(f64),
}

impl Case {
    /// Reads a case.
    ///
    /// # Errors
    /// Says in which line, and what was expected.
    pub fn parse(text: &str) -> Result<Case, String> {
        let mut case = Case::default();
        let mut seen = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let line = rest.lines().next().unwrap_or_default();
            let content = line.trim();
            if !content.is_empty() && !content.starts_with('#') {
                let Some((key, value)) = directive(content) else {
                    break;
                };
                let at = seen.len() + 1;
                if seen.contains(&key) {
                    return Err(format!("directive {at}: '{key}' is given twice"));
                }
                case.set(key, value)
                    .map_err(|e| format!("directive {at}, '{key}': {e}"))?;
                seen.push(key);
            }
            let len = rest.find('\n').map_or(rest.len(), |end| end + 1);
            rest = &rest[len..];
            case.model.push('\n');
        }
        if seen.first() != Some(&"passes") {
            return Err("the first line must be 'passes: <pipeline>'".to_owned());
        }
        case.model.push_str(rest);
        Ok(case)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "passes" => self.passes = value.to_owned(),
            "dims" => {
                for (name, value) in assignments(value)? {
                    let number = value
                        .parse()
                        .map_err(|_| format!("'{value}' is no integer"))?;
                    self.dims.insert(name.to_owned(), number);
                }
            }
            "inputs" => {
                let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
                self.inputs = assignments(value)?.into_iter().map(owned).collect();
            }
            "ranges" => {
                for (name, value) in assignments(value)? {
                    self.ranges.insert(name.to_owned(), range(value)?);
                }
            }
            "tolerance" => self.tolerance = Some(tolerance(value)?),
            "fails" => self.fails = Some(reason(value)?),
            "not-executed" => self.not_executed = !reason(value)?.is_empty(),
            "not-idempotent" => self.not_idempotent = !reason(value)?.is_empty(),
            _ => return Err("there is no such directive".to_owned()),
        }
        Ok(())
    }
}

/// `key: value`. Models begin with `<` or with their name and a parenthesis.
fn directive(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(':')?;
    let is_key = |c: char| c.is_ascii_lowercase() || c == '-';
    key.chars().all(is_key).then(|| (key, value.trim()))
}

fn reason(value: &str) -> Result<String, String> {
    match value {
        "" => Err("it needs a reason".to_owned()),
        value => Ok(value.to_owned()),
    }
}

fn range(value: &str) -> Result<[f32; 2], String> {
    let bounds = value.strip_prefix('[').and_then(|v| v.strip_suffix(']'));
    let bounds = bounds.and_then(|v| v.split_once(','));
    let number = |text: &str| text.trim().parse().ok();
    bounds
        .and_then(|(lo, hi)| Some([number(lo)?, number(hi)?]))
        .ok_or_else(|| format!("expected [lo, hi], found '{value}'"))
}

fn tolerance(value: &str) -> Result<Allowed, String> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let allowed = match value.strip_suffix("dB") {
        Some(noise) => number(noise).map(Allowed::Noise),
        None => number(value).map(Allowed::relative),
    };
    allowed.ok_or_else(|| format!("expected a number, or decibels as in '25 dB', found '{value}'"))
}

impl Allowed {
    /// A relative tolerance, and a tenth of it absolute.
    pub fn relative(rtol: f64) -> Allowed {
        Allowed::Elements(Tolerance {
            rtol,
            atol: rtol / 10.0,
        })
    }
}

/// `a = 1, b = {2, 3}`: what is separated by commas outside of brackets.
fn assignments(text: &str) -> Result<Vec<(&str, &str)>, String> {
    let mut depth = 0u32;
    let mut parts = Vec::new();
    let mut start = 0;
    for (i, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    let split = |part: &'_ str| -> Result<(usize, usize), String> {
        let at = part.find('=');
        at.map(|at| (at, at + 1))
            .ok_or_else(|| format!("expected 'name = value', found '{}'", part.trim()))
    };
    let assignment = |part| {
        let (end, start) = split(part)?;
        Ok((part[..end].trim(), part[start..].trim()))
    };
    parts.into_iter().map(assignment).collect()
}

/// Every case as `<pass>/<case>` with its text, in order.
///
/// # Errors
/// The folder cannot be read.
pub fn cases() -> io::Result<IndexMap<String, String>> {
    files(&workspace_dir().join("tests").join("cases"), ".txt")?
        .into_iter()
        .map(|name| {
            let path = workspace_dir()
                .join("tests/cases")
                .join(format!("{name}.txt"));
            Ok((name, fs::read_to_string(path)?))
        })
        .collect()
}

/// Every snapshot as `<pass>/<case>`, in order.
///
/// # Errors
/// The folder cannot be read.
pub fn snapshots() -> io::Result<Vec<String>> {
    files(&workspace_dir().join("snapshots"), ".snap")
}

/// The files `<folder>/<stem><ending>` under `root`, without their ending, in order.
fn files(root: &Path, ending: &str) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    if !root.is_dir() {
        return Ok(found);
    }
    for folder in fs::read_dir(root)? {
        let folder = folder?;
        if !folder.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(folder.path())? {
            let name = file?.file_name();
            if let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(ending)) {
                found.push(format!("{}/{stem}", folder.file_name().display()));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_read_and_lines_kept() {
        let case = Case::parse(
            "passes: a,b{c}\n# why\n\ndims: N = 3\ninputs: x = {1, 2}, float[2] y = uniform(0, 1)\n\
             ranges: x = [-1, 1.5]\ntolerance: 25 dB\nmain () => () {}\n",
        )
        .unwrap();
        assert_eq!(case.passes, "a,b{c}");
        assert_eq!(case.dims["N"], 3);
        assert_eq!(case.inputs[0], ("x".to_owned(), "{1, 2}".to_owned()));
        assert_eq!(case.inputs[1].1, "uniform(0, 1)");
        assert_eq!(case.ranges["x"], [-1.0, 1.5]);
        assert!(matches!(case.tolerance, Some(Allowed::Noise(db)) if db == 25.0));
        assert_eq!(
            case.model,
            format!("{}main () => () {{}}\n", "\n".repeat(7))
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let refused = |text: &str| Case::parse(text).unwrap_err();
        assert!(refused("main () => () {}").contains("first line"));
        assert!(refused("passes: a\npasses: b\n").contains("twice"));
        assert!(refused("passes: a\npass: b\n").contains("no such directive"));
        assert!(refused("passes:\ndims: N\n").contains("name = value"));
        assert!(refused("passes:\nranges: x = 1\n").contains("[lo, hi]"));
        assert!(refused("passes:\ntolerance: small\n").contains("decibels"));
        assert!(refused("passes:\nnot-executed:\n").contains("reason"));
    }
}
