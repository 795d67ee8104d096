//! Kernels for steps, by family. Each family is one file, and one line in [`FAMILIES`].

use onnxq_ir::Op;

use super::{
    buffers::Pool,
    data::{Data, Floats},
};

/// Computes the one result of a step.
pub(super) trait Kernel: Send + Sync {
    /// The result for `operands`, those that are not used elsewhere being free to be overwritten;
    /// `None`, with the operands as they were, for what the kernel is not made for.
    fn run(&self, operands: &mut [Option<Data>], pool: &mut Pool) -> Option<Floats>;
}

/// Makes a kernel for a node, if the family has one.
pub(super) type Family = fn(&NodeContext<'_>) -> Option<Box<dyn Kernel>>;

/// The families, each with the operators of the standard domain that it is asked for.
pub(super) static FAMILIES: &[(&[&str], Family)] = &[];

/// A node to be lowered.
pub(super) struct NodeContext<'a> {
    pub(super) op: &'a Op,
}
