//! `onnxq-opt diff`: the rewrites between two models.

use std::path::PathBuf;

use onnxq::{ir::text, pass::unified_diff};

use crate::{
    console::{self, Failure},
    files,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model before
    a: PathBuf,
    /// The model after
    b: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let (a, b) = (files::load(&args.a)?, files::load(&args.b)?);
    let (a, b) = (text::print(&a.to_def()), text::print(&b.to_def()));
    console::out(&unified_diff(
        &a,
        &b,
        &files::name(&args.a),
        &files::name(&args.b),
    ));
    Ok(0)
}
