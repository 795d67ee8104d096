//! `onnxq-opt passes`: the passes and pipelines.

use crate::console::{self, Failure};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// For programs
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let registry = onnxq::registry();
    if args.json {
        console::out(&format!("{:#}\n", registry.to_json()?));
    } else {
        console::out(&format!("{}\n", registry.to_text()?.trim_end()));
    }
    Ok(0)
}
