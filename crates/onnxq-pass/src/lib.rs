//! The pass manager: runs pipelines of passes over models and shows what they do.
//!
//! - [`Pipeline`] is pipeline text, `fuse-conv-bn,quantize{per-channel}`.
//! - [`Registry`] knows the passes ([`PassInfo`]) and named pipelines ([`PipelineInfo`]), their
//!   options and their help; [`Config`] gives options from a file.
//! - [`Pass`] is what a pass implements, with a [`PassContext`] around it; a pass made of local
//!   rewrites is a list of functions over a [`Rewriter`].
//!
//! *Invariant*: nothing here knows a pass, an operator, or a file format of models.

mod analysis;
mod config;
mod context;
mod diff;
mod driver;
mod error;
mod list;
mod manager;
mod message;
mod options;
mod pass;
mod pipeline;
mod registry;
mod reproducer;
mod rewriter;
mod suggest;
mod summary;

pub use analysis::{Analyses, Analysis};
pub use config::Config;
pub use context::{PassContext, Report};
pub use diff::unified_diff;
pub use driver::{Rewrite, Rule, apply_rewrites, rewrites};
pub use error::{Error, PassError};
pub use manager::{Instrumentation, PassManager, PrintAfter, SaveModel};
pub use message::{Level, Message, Progress};
pub use options::{FromOption, OptionInfo, OptionKind, Options};
pub use pass::Pass;
pub use pipeline::{Item, Pipeline, Setting, Step, Value};
pub use registry::{PassInfo, PipelineInfo, Registry};
pub use reproducer::Reproducer;
pub use rewriter::{Rewriter, describe};
pub use summary::{PassSummary, Summary};
