//! What mutation begins with.
//!
//! Models in the text form: the cases of the passes, one model for each operator
//! (`tests/corpus/operators.txt`), random graphs, and what was once a finding
//! (`tests/corpus/findings/`). The importer takes the same as files.

use std::{fs, path::PathBuf};

use onnxq_ir::text;

use crate::{
    case::{Case, cases},
    random_graph, workspace_dir,
};

/// Inputs as they are found.
#[derive(Clone, Debug, Default)]
pub struct Corpus {
    /// Models in the text form.
    pub texts: Vec<String>,
    /// Models of one operator, in the text form.
    pub operators: Vec<String>,
    /// Models as files.
    pub files: Vec<Vec<u8>>,
}

fn folder() -> PathBuf {
    workspace_dir().join("tests/corpus")
}

/// The models in a file, which are separated by lines that begin with `##`.
fn sections(text: &str) -> Vec<String> {
    let mut sections = vec![String::new()];
    for line in text.lines() {
        match line.starts_with("##") {
            true => sections.push(String::new()),
            false => sections
                .last_mut()
                .expect("it begins with one")
                .push_str(&format!("{line}\n")),
        }
    }
    sections.retain(|s| !s.trim().is_empty());
    sections
}

/// Inputs that were once findings, by the name of their file: `<target>-<what>.txt` or `.onnx`.
pub fn findings() -> Vec<(String, Vec<u8>)> {
    let read = |path: PathBuf| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some((name, fs::read(&path).ok()?))
    };
    let listed = fs::read_dir(folder().join("findings"));
    let entries = listed.into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<_> = entries.filter_map(|e| read(e.path())).collect();
    found.sort();
    found
}

impl Corpus {
    /// The corpus, with this many random graphs.
    ///
    /// # Panics
    /// Where a file of it cannot be read.
    pub fn new(graphs: u64) -> Corpus {
        let operators = fs::read_to_string(folder().join("operators.txt"));
        let operators = sections(&operators.expect("the corpus is part of the repository"));
        let mut texts = operators.clone();
        for case in cases()
            .expect("the cases are part of the repository")
            .values()
        {
            texts.extend(Case::parse(case).map(|c| c.model.trim_start().to_owned()));
        }
        texts.extend((0..graphs).map(|seed| random_graph::generate(seed).text));
        let file = |text: &String| {
            let def = text::parse(text, &()).ok()?;
            let mut bytes = Vec::new();
            onnxq_onnx::write_to(&def, &mut bytes).ok()?;
            (bytes.len() < 1 << 16).then_some(bytes)
        };
        let mut files: Vec<Vec<u8>> = texts.iter().filter_map(file).collect();
        files.extend(fs::read(
            workspace_dir().join("docs/examples/digits/digits.onnx"),
        ));
        Corpus {
            texts,
            operators,
            files,
        }
    }
}
