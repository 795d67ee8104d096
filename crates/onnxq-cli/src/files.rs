//! Models in and out, `-` for the standard streams.

use std::{
    io::{Read, Write},
    path::Path,
};

use onnxq::{
    Model, SaveOptions,
    ir::text::{self, TensorIndex},
    quant::tables::RangeTable,
};

use crate::console::Failure;

/// What a file is called in messages.
pub(crate) fn name(path: &Path) -> String {
    if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

/// Loads an ONNX file, or text IR from a `.txt` file; `-` is standard input.
pub(crate) fn load(path: &Path) -> Result<Model, Failure> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut bytes);
        read.map_err(|e| Failure::new(format!("standard input: {e}")))?;
        return Ok(onnxq::load_bytes(bytes.into(), None, "standard input")?);
    }
    if path.extension().is_some_and(|e| e == "txt") {
        return load_text(path);
    }
    Ok(onnxq::load(path)?)
}

fn load_text(path: &Path) -> Result<Model, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::new(format!("{}: {e}", path.display()));
    let source = std::fs::read_to_string(path).map_err(|e| failed(&e))?;
    // Large constants are hashes, to be found in the model that was printed.
    let model = path.with_extension("onnx");
    let tensors = match onnxq::onnx::load(&model) {
        Ok(def) => TensorIndex::new(&def),
        Err(_) => TensorIndex::default(),
    };
    let def = text::parse(&source, &tensors).map_err(|e| failed(&e))?;
    Model::from_def(def).map_err(|e| failed(&e))
}

/// The bytes of a model on disk, external data included as far as it lies beside the file.
pub(crate) fn size_on_disk(path: &Path, model: &Model) -> u64 {
    let file = std::fs::metadata(path).map_or(0, |m| m.len());
    // With external data the file is smaller than its tensors.
    file.max(tensor_bytes(model))
}

/// The bytes of all constants, each counted once.
pub(crate) fn tensor_bytes(model: &Model) -> u64 {
    let mut seen = std::collections::HashSet::new();
    let mut bytes = 0;
    model.for_each_graph(|g| {
        for tensor in g.node_ids().filter_map(|n| g.node(n).tensor()) {
            let data = tensor.bytes();
            if seen.insert((data.as_ptr(), data.len())) {
                bytes += tensor.byte_len() as u64;
            }
        }
    });
    bytes
}

/// What an output file holds.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emit {
    Onnx,
    Text,
}

impl Emit {
    /// What the ending of `path` says.
    pub(crate) fn of(path: &Path) -> Emit {
        if path.extension().is_some_and(|e| e == "txt") {
            Emit::Text
        } else {
            Emit::Onnx
        }
    }
}

/// Writes a model whole or not at all; returns its bytes, external data included.
pub(crate) fn save(
    model: &Model,
    path: &Path,
    emit: Emit,
    options: &SaveOptions,
) -> Result<u64, Failure> {
    let to_stdout = path == Path::new("-");
    match emit {
        Emit::Onnx if to_stdout => Ok(onnxq::onnx::write_to(
            &model.to_def(),
            std::io::stdout().lock(),
        )?),
        Emit::Onnx => {
            let report = onnxq::save(model, path, options)?;
            Ok(report.bytes + report.external_bytes)
        }
        Emit::Text => {
            let text = text::print(&model.to_def());
            write(path, text.as_bytes())?;
            Ok(text.len() as u64)
        }
    }
}

/// Reads a table of ranges.
pub(crate) fn read_ranges(path: &Path) -> Result<RangeTable, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::new(format!("{}: {e}", path.display()));
    let text = std::fs::read(path).map_err(|e| failed(&e))?;
    RangeTable::from_json(&text).map_err(|e| failed(&e))
}

/// Writes a file whole or not at all; `-` is standard output.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = match path == Path::new("-") {
        true => std::io::stdout().lock().write_all(bytes),
        false => onnxq::onnx::write_file(path, |out| out.write_all(bytes)),
    };
    written.map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}
