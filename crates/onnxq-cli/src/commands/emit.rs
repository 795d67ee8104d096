//! `onnxq-opt emit`: a model as a Rust crate.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use onnxq::{CompileOptions, Cpu, EmitError, EmitOptions, Isa, Model, ir::Type};

use super::bench::inputs::{Shape, parse_shape};
use crate::{
    console::{Failure, Verbosity, size},
    files,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model
    model: PathBuf,
    /// Where the crate goes: a folder that is new, empty, or an earlier one of this command
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// The instructions that it is for: `native`, `portable`, `avx2`, `avxvnni`, `avx512vnni`, `amx`, `neon`, `dotprod`
    /// or `i8mm`; several with commas between, of which it uses the best that a processor has
    #[arg(long, value_name = "ISA", value_parser = parse_target, value_delimiter = ',', default_value = "native")]
    target: Vec<Isa>,
    /// The dimensions of an input, as in `images=1x3x224x224`; repeatable
    #[arg(long, value_name = "NAME=DIMS", value_parser = parse_shape)]
    shape: Vec<Shape>,
    /// The name of the crate; that of the folder if not given
    #[arg(long, value_name = "CRATE")]
    name: Option<String>,
    #[command(flatten)]
    verbosity: Verbosity,
}

fn parse_target(text: &str) -> Result<Isa, String> {
    match text {
        "native" => Ok(Cpu::detect().isa()),
        _ => text.parse().map_err(|_| {
            let names: Vec<&str> = Isa::ALL.iter().map(|isa| isa.name()).collect();
            format!("expected `native`, or one of {}", names.join(", "))
        }),
    }
}

/// What a crate of this command has in its manifest.
const MARK: &str = "description = \"A model compiled to kernels\"";

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(&args.output)?,
    };
    check_place(&args.output)?;
    let model = files::load(&args.model)?;
    let path = files::name(&args.model);
    let failed = |e: &dyn std::fmt::Display| Failure::new(format!("{path}: {e}"));
    check_shapes(&model, &args.shape).map_err(|e| Failure {
        message: format!("{path}: {}", e.message),
        ..e
    })?;
    let compile = CompileOptions {
        shapes: args.shape.iter().cloned().collect(),
        ..CompileOptions::default()
    };
    let program = onnxq::compile(&model, &compile).map_err(|e| failed(&e))?;
    let file = args.model.file_name().and_then(OsStr::to_str);
    let options = EmitOptions {
        name,
        model: file.unwrap_or("standard input").to_owned(),
        targets: args.target.clone(),
        sample: None,
    };
    let emitted = onnxq::emit(&program, &options).map_err(|e| match e {
        EmitError::Name(_) => Failure::usage(e.to_string()),
        e => failed(&e),
    })?;
    place(&emitted, &args.output)
        .map_err(|e| Failure::new(format!("{}: {e}", args.output.display())))?;
    let bytes: usize = emitted.files.values().map(Vec::len).sum();
    args.verbosity.note(format_args!(
        "{path} -> {}: crate '{}', {} steps, {} files, {}",
        args.output.display(),
        options.name,
        program.steps().count(),
        emitted.files.len(),
        size(bytes as u64)
    ));
    Ok(0)
}

/// A name like that of a folder.
fn name_of(dir: &Path) -> Result<String, Failure> {
    let name = dir.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let part = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    let name: String = name.chars().map(part).collect();
    match name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => Ok(name),
        false => {
            let message = format!("'{}' is no name for a crate", dir.display());
            Err(Failure::usage(message).with_help("give it one with `--name`"))
        }
    }
}

/// Whether a crate may be put there.
fn check_place(dir: &Path) -> Result<(), Failure> {
    let mut entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Failure::new(format!("{}: {e}", dir.display()))),
    };
    let is_ours =
        || fs::read_to_string(dir.join("Cargo.toml")).is_ok_and(|text| text.contains(MARK));
    match entries.next().is_none() || is_ours() {
        true => Ok(()),
        false => {
            let message = format!("{}: there is something else already", dir.display());
            Err(Failure::new(message).with_help("a new or an empty folder is needed"))
        }
    }
}

/// Whether all dimensions of all inputs are known.
fn check_shapes(model: &Model, given: &[Shape]) -> Result<(), Failure> {
    let graph = &model.graph;
    let mut open = Vec::new();
    for &n in graph.inputs() {
        let value = graph.value(graph.result(n, 0));
        let shape = graph.ty(graph.result(n, 0)).and_then(Type::shape);
        let known = shape.is_some_and(|shape| shape.iter().all(|dim| dim.as_const().is_some()));
        if known || given.iter().any(|(name, _)| *name == value.name) {
            continue;
        }
        let dims = shape.map(|shape| {
            let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
            dims.join("x")
        });
        open.push((value.name.clone(), dims.unwrap_or_else(|| "...".to_owned())));
    }
    if open.is_empty() {
        return Ok(());
    }
    let list = |item: fn(&(String, String)) -> String, between: &str| {
        let items: Vec<String> = open.iter().map(item).collect();
        items.join(between)
    };
    let what = list(|(name, dims)| format!("'{name}' ({dims})"), ", ");
    let how = list(|(name, dims)| format!("--shape {name}={dims}"), " ");
    let message = format!(
        "a crate is for one shape of each input, and not all dimensions are known of {what}"
    );
    Err(Failure::usage(message).with_help(format!("say them with numbers: `{how}`")))
}

/// Puts the crate in its place, whole or not at all; what cargo has made in an earlier one stays.
fn place(emitted: &onnxq::Crate, dir: &Path) -> io::Result<()> {
    let absolute = std::path::absolute(dir)?;
    let parent = absolute.parent().unwrap_or(&absolute);
    fs::create_dir_all(parent)?;
    let name = absolute.file_name().unwrap_or_default().to_string_lossy();
    let staged = parent.join(format!(".{name}.onnxq-{}.tmp", std::process::id()));
    let old = parent.join(format!(".{name}.onnxq-{}.old", std::process::id()));
    let put = || {
        emitted.write(&staged)?;
        if !absolute.exists() {
            return fs::rename(&staged, &absolute);
        }
        fs::rename(&absolute, &old)?;
        fs::rename(&staged, &absolute)?;
        for kept in ["target", "Cargo.lock"] {
            if old.join(kept).exists() {
                fs::rename(old.join(kept), absolute.join(kept))?;
            }
        }
        fs::remove_dir_all(&old)
    };
    put().inspect_err(|_| {
        // What was there is there again.
        if old.exists() && !absolute.exists() {
            let _ = fs::rename(&old, &absolute);
        }
        let _ = fs::remove_dir_all(&staged);
    })
}
