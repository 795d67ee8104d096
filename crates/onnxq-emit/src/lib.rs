//! [`emit`]: a [`Program`] as a self-contained Rust crate of kernels for one model.
//!
//! The crate has one function for each step of the program, in which every size, stride and factor
//! is a literal, the kernels that these call, as they are in `onnxq-kernels`, and the packed
//! weights. It depends on nothing, needs no allocator, and computes what the program computes, bit
//! for bit.
//!
//! *Invariants*: the text depends on the program and the options alone, and is as rustfmt leaves
//! it. Nothing here sees a graph.

mod kernels;
mod layout;
mod library;
mod model;
mod names;
mod package;

use std::{io, path::Path};

use indexmap::IndexMap;
use onnxq_kernels::Isa;
use onnxq_runtime::{
    Memory, Program, ProgramSource, RunError, SampleError, Unwritten, sample_values,
};
use onnxq_tensor::{DType, Tensor};

use self::model::Printed;

/// How a crate is to be.
#[derive(Clone, Debug)]
pub struct EmitOptions {
    /// The name of the crate: letters, digits, `_` and `-`.
    pub name: String,
    /// What the model is called in documentation, such as its file.
    pub model: String,
    /// The tiers of instructions that it is made for; the best that a processor has is used, and plain
    /// Rust where it has none of them.
    pub targets: Vec<Isa>,
    /// A tensor for each input of the program, for which outputs are recorded; numbers of
    /// [`sample_values`] if there are none.
    pub sample: Option<Vec<Tensor>>,
}

/// A crate in memory: its files by path, with `/`.
#[derive(Clone, Debug, Default)]
pub struct Crate {
    /// What is in each file.
    pub files: IndexMap<String, Vec<u8>>,
    /// The features that are on unless a user says otherwise.
    pub features: Vec<&'static str>,
}

/// Why there is no crate.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum EmitError {
    #[error(
        "'{0}' is no name for a crate: letters, digits, `_` and `-`, the first a letter, and no word of Rust's own"
    )]
    Name(String),
    #[error("there is no target: name at least one set of instructions")]
    NoTarget,
    #[error("the model has no inputs: its outputs are constants")]
    NoInputs,
    #[error("{} of {steps} steps cannot be emitted: {}", unwritten.len(), list(unwritten))]
    Unwritten {
        unwritten: Vec<Unwritten>,
        steps: usize,
    },
    #[error("'{name}' is of {dtype}, for which there is no type")]
    Type { name: String, dtype: DType },
    #[error("output '{0}' is not computed")]
    NotComputed(String),
    #[error("input '{0}': {1}")]
    Sample(String, SampleError),
    #[error("the recorded outputs: {0}")]
    Run(#[from] RunError),
}

/// The steps, those that have a reason in common behind it.
fn list(unwritten: &[Unwritten]) -> String {
    let mut reasons: IndexMap<&str, Vec<String>> = IndexMap::new();
    for step in unwritten {
        let named = format!("'{}' ({})", step.node, step.kernel);
        reasons.entry(&step.reason).or_default().push(named);
    }
    let reasons = reasons.iter();
    let reasons = reasons.map(|(reason, steps)| format!("{}, where {reason}", steps.join(", ")));
    reasons.collect::<Vec<_>>().join("; ")
}

/// The crate of a program.
///
/// # Errors
/// A name that is none, no target, the steps that have no form as source text (all of them), a type that
/// Rust does not have, a sample that the program does not run on.
pub fn emit(program: &Program, options: &EmitOptions) -> Result<Crate, EmitError> {
    if !is_name(&options.name) {
        return Err(EmitError::Name(options.name.clone()));
    }
    if options.targets.is_empty() {
        return Err(EmitError::NoTarget);
    }
    let source = program.source().map_err(|unwritten| EmitError::Unwritten {
        unwritten,
        steps: program.steps().count(),
    })?;
    if source.inputs.is_empty() {
        return Err(EmitError::NoInputs);
    }
    let sample = match &options.sample {
        Some(sample) => sample.clone(),
        None => made_up(&source)?,
    };
    let given: Vec<Option<Tensor>> = sample.iter().cloned().map(Some).collect();
    let outputs = program.run(&mut Memory::new(), &given)?;
    let printed = Printed::new(&source)?;
    let features = package::features(&options.targets);
    let text = printed.model();
    let kernels = kernels::select(&text, &features);
    let mut made = Crate {
        features: std::iter::once("alloc")
            .chain(features.iter().copied())
            .collect(),
        ..Crate::default()
    };
    made.add("Cargo.toml", package::manifest(options, &features));
    made.add("README.md", package::readme(&printed, options));
    made.add("src/lib.rs", library::library(&printed, options));
    made.add("src/model.rs", text);
    made.add(
        "src/tensors.rs",
        include_str!("templates/tensors.rs").to_owned(),
    );
    made.add("src/kernels/mod.rs", kernels.root);
    for (path, text) in kernels.files {
        made.add(&format!("src/kernels/{path}"), text);
    }
    made.files
        .insert("src/weights.bin".to_owned(), printed.constants());
    made.add("tests/golden.rs", package::golden(&printed, options));
    let recorded = sample.iter().chain(&outputs);
    let recorded = recorded.flat_map(|tensor| tensor.bytes().iter().copied());
    made.files
        .insert("tests/golden.bin".to_owned(), recorded.collect());
    made.add("examples/bench.rs", package::bench(&printed, options));
    Ok(made)
}

impl Crate {
    fn add(&mut self, path: &str, text: String) {
        self.files.insert(path.to_owned(), text.into_bytes());
    }

    /// Writes the files below `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        for (path, bytes) in &self.files {
            let path = dir.join(path);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(path, bytes)?;
        }
        Ok(())
    }

    /// Writes the sources below `dir` for a build script, with a `lib.rs` that the root of the package's
    /// own library takes in: `include!(concat!(env!("OUT_DIR"), "/lib.rs"));`. Gives the lines that the
    /// script has to print, for cargo to compile them with their features.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_sources(&self, dir: &Path) -> io::Result<String> {
        let mut sources = Crate::default();
        for (path, bytes) in &self.files {
            if let Some(path) = path.strip_prefix("src/") {
                sources.files.insert(path.to_owned(), bytes.clone());
            }
        }
        // Documentation and attributes of a crate are for its first lines.
        let library = self.text("src/lib.rs").unwrap_or_default();
        let lines = library.lines().filter(|line| !line.starts_with("#!["));
        let lines = lines.map(|line| line.replacen("//!", "//", 1) + "\n");
        sources.add("lib.rs", lines.collect());
        sources.write(dir)?;
        let mut cargo = format!("cargo::rustc-check-cfg={}\n", package::known_features());
        for feature in &self.features {
            cargo.push_str(&format!("cargo::rustc-cfg=feature=\"{feature}\"\n"));
        }
        Ok(cargo)
    }

    /// The text of a file, if there is one of this path that is text.
    pub fn text(&self, path: &str) -> Option<&str> {
        std::str::from_utf8(self.files.get(path)?).ok()
    }
}

fn made_up(source: &ProgramSource) -> Result<Vec<Tensor>, EmitError> {
    let inputs = source.inputs.iter().enumerate();
    let values = inputs.map(|(i, port)| {
        let values = sample_values(&port.name, port.dtype, &port.dims, i);
        values.map_err(|e| EmitError::Sample(port.name.clone(), e))
    });
    values.collect()
}

fn is_name(name: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let taken = ["alloc", "core", "proc-macro", "proc_macro", "std", "test"];
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(part)
        && !names::is_reserved(name)
        && !taken.contains(&name)
}
