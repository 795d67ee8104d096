//! `onnxq-opt print`: a model as text, or figures about it.

use std::{collections::BTreeMap, fmt::Write, path::PathBuf};

use onnxq::{Model, ir::text, tensor::DType};

use crate::{
    console::{self, Failure, size},
    files,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model, or `-`
    model: PathBuf,
    /// Figures instead of text: operators, parameters, bytes by type, quantized share
    #[arg(long)]
    stats: bool,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let model = files::load(&args.model)?;
    if args.stats {
        console::out(&stats(&model));
    } else {
        console::out(&text::print(&model.to_def()));
    }
    Ok(0)
}

fn stats(model: &Model) -> String {
    let mut ops: BTreeMap<String, usize> = BTreeMap::new();
    let mut types: BTreeMap<DType, (usize, usize)> = BTreeMap::new();
    let mut seen = std::collections::HashSet::new();
    model.for_each_graph(|g| {
        for n in g.node_ids() {
            if let Some(op) = g.op(n) {
                *ops.entry(op.qualified()).or_default() += 1;
            }
            if let Some(t) = g.node(n).tensor()
                && seen.insert((t.bytes().as_ptr(), t.byte_len()))
            {
                let (elements, bytes) = types.entry(t.dtype()).or_default();
                *elements += t.len();
                *bytes += t.byte_len();
            }
        }
    });
    let mut out = String::new();
    let opsets: Vec<String> = model
        .opsets
        .iter()
        .map(|(d, v)| format!("{} {v}", if d.is_empty() { "ai.onnx" } else { d }))
        .collect();
    let _ = writeln!(
        out,
        "ir_version {}, opsets {}",
        model.ir_version,
        opsets.join(", ")
    );
    let _ = writeln!(out, "\n{} nodes", ops.values().sum::<usize>());
    let mut by_count: Vec<(&String, &usize)> = ops.iter().collect();
    by_count.sort_by_key(|&(name, &count)| (std::cmp::Reverse(count), name));
    for (name, count) in by_count {
        let _ = writeln!(out, "{count:>8}  {name}");
    }
    let elements: usize = types.values().map(|t| t.0).sum();
    let bytes: usize = types.values().map(|t| t.1).sum();
    let _ = writeln!(
        out,
        "\n{elements} constant elements, {}",
        size(bytes as u64)
    );
    for (dtype, (elements, bytes)) in &types {
        let _ = writeln!(
            out,
            "{elements:>12}  {dtype:<14} {:>10}",
            size(*bytes as u64)
        );
    }
    let quantized: usize = types
        .iter()
        .filter(|(t, _)| matches!(t.bits(), 1..=8) && **t != DType::Bool)
        .map(|(_, t)| t.0)
        .sum();
    let share = if elements == 0 {
        0.0
    } else {
        100.0 * quantized as f64 / elements as f64
    };
    let _ = writeln!(out, "\nquantized share {share:.1} %");
    out
}
