//! The pass manager: runs pipelines of passes over models and shows what they do.
//!
//! - [`Pipeline`] is pipeline text, `fuse-conv-bn,quantize{per-channel}`.
//! - [`Registry`] knows the passes ([`PassInfo`]) and named pipelines ([`PipelineInfo`]), their
//!   options and their help; [`Config`] gives options from a file.
//! - [`Pass`] is what a pass implements, with a [`PassContext`] around it; a pass made of local
//!   rewrites is a list of functions over a [`Rewriter`].
//!
//! ```
//! use onnxq_ir::{Model, NodeId};
//! use onnxq_pass::{
//!     Config, Instrumentation, PassContext, PassInfo, PassManager, Pipeline, Registry, Rewrite,
//!     Rewriter, rewrites,
//! };
//!
//! /// `Identity(x)` => `x`
//! fn drop_identity(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
//!     rw.is(n, "Identity")?;
//!     let x = rw.operand(n, 0)?;
//!     rw.replace(rw.result(n, 0), x)
//! }
//!
//! const INFO: PassInfo = PassInfo {
//!     name: "drop-identity",
//!     summary: "remove Identity",
//!     options: &[],
//!     build: |opts| {
//!         rewrites(opts.pass(), &[Rewrite { name: "drop-identity", apply: drop_identity }])
//!     },
//! };
//!
//! let registry = Registry::new(&[INFO], &[]);
//! let pipeline = Pipeline::parse("drop-identity")?;
//! let mut manager = PassManager::new(&registry, &pipeline, &Config::default())?;
//! let mut model = Model::default();
//! let summary =
//!     manager.run(&mut model, &mut PassContext::new(), &mut Instrumentation::default())?;
//! assert_eq!(summary.passes[0].name, "drop-identity");
//! # Ok::<(), onnxq_pass::Error>(())
//! ```
//!
//! *Invariant*: nothing here knows a pass, an operator, or a file format of models.

mod analysis;
mod config;
mod context;
mod diff;
mod driver;
mod error;
mod kind;
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
pub use driver::{Rewrite, Rule, apply_rewrites, rewrites, rewriting};
pub use error::{Error, PassError};
pub use kind::{FromOption, OptionKind};
pub use manager::{Instrumentation, PassManager, PrintAfter, SaveModel};
pub use message::{Level, Message, Progress};
pub use options::{OptionInfo, Options};
pub use pass::Pass;
pub use pipeline::{Item, Pipeline, Setting, Step, Value};
pub use registry::{PassInfo, PipelineInfo, Registry};
pub use reproducer::Reproducer;
pub use rewriter::{Rewriter, describe};
pub use summary::{PassSummary, Summary};
