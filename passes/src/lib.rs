//! The passes, by stage, and the pipelines made of them.
//!
//! `preprocess/` makes a model plain and small without changing what it computes, `quantize/`
//! inserts QuantizeLinear and DequantizeLinear, `fuse/` lowers them to integer operators. To add a
//! pass: one file, and one line in [`PASSES`]; `docs/passes.md` has the recipe.
//!
//! *Invariant*: no pass reaches the runtime or the kernels. What a pass needs from outside, such as
//! calibrated ranges, comes through its context.

use onnxq_pass::{PassInfo, PipelineInfo, Registry};

mod fuse;
mod preprocess;
mod quantize;

/// Every pass.
pub const PASSES: &[PassInfo] = &[
    // preprocess
    preprocess::constants_to_initializers::INFO,
    preprocess::infer_shapes::INFO,
    preprocess::upgrade_opset::INFO,
    preprocess::eliminate_identities::INFO,
    // quantize
    // fuse
];

/// Every pipeline. The order of passes matters; comments say where and why.
pub const PIPELINES: &[PipelineInfo] = &[PipelineInfo {
    name: "preprocess",
    summary: "make the model plain and small, computing the same",
    text: PREPROCESS,
}];

/// Constants come first, since everything after looks for them in one form. Upgrading asks for
/// ranks, so shapes are inferred before; and again after, because new nodes have none.
const PREPROCESS: &str = "constants-to-initializers,\
    infer-shapes,upgrade-opset,infer-shapes,\
    eliminate-identities";

/// The registry of all passes and pipelines.
pub fn registry() -> Registry {
    Registry::new(PASSES, PIPELINES)
}

#[cfg(test)]
mod tests {
    #[test]
    fn declarations_are_consistent() {
        super::registry().check().unwrap();
    }
}
