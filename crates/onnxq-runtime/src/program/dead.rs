//! Steps whose results nobody reads.
//!
//! A family of steps may look back and compute from its own operands what earlier nodes have been
//! lowered for. Those steps are not needed then.

use super::{Output, Place, Step};

/// Keeps the steps that the outputs depend on.
pub(super) fn remove(steps: &mut Vec<Step>, outputs: &[Output], buffers: usize) {
    let mut read = vec![false; buffers];
    for output in outputs {
        if let Place::Buffer(b) = output.place {
            read[b] = true;
        }
    }
    let mut needed = vec![false; steps.len()];
    for (step, needed) in steps.iter().zip(&mut needed).rev() {
        *needed = step.results.iter().any(|&b| read[b]);
        if *needed {
            for place in &step.operands {
                if let Place::Buffer(b) = *place {
                    read[b] = true;
                }
            }
        }
    }
    let mut needed = needed.into_iter();
    steps.retain(|_| needed.next().unwrap_or(true));
}
