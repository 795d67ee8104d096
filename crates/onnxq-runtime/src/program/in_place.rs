//! Results that take the place of an operand: memory that is in the cache already is written to.

use onnxq_kernels::Line;

use super::{Output, Place, Step};

/// For each buffer the one whose memory it has: its own, or that of an operand which nobody needs after
/// the step, and which is no operand any more then. `bytes` are the lengths of the buffers.
pub(super) fn share(steps: &mut [Step], outputs: &[Output], bytes: &[usize]) -> Vec<usize> {
    // The last step that reads a buffer.
    let mut last = vec![0; bytes.len()];
    for (i, step) in steps.iter().enumerate() {
        for place in &step.operands {
            if let Place::Buffer(b) = *place {
                last[b] = i;
            }
        }
    }
    for output in outputs {
        if let Place::Buffer(b) = output.place {
            last[b] = usize::MAX;
        }
    }
    let mut shared: Vec<usize> = (0..bytes.len()).collect();
    for (i, step) in steps.iter_mut().enumerate() {
        let (Some(operand), &[result]) = (step.kernel.overwritable(), &step.results[..]) else {
            continue;
        };
        let Some((&Place::Buffer(b), others)) = step.operands.split_last() else {
            continue;
        };
        let fits = Line::count(bytes[b]) == Line::count(bytes[result]);
        let is_last = *operand == Some(others.len());
        if is_last && fits && last[b] == i && !others.contains(&Place::Buffer(b)) {
            *operand = None;
            step.operands.pop();
            shared[result] = shared[b];
        }
    }
    shared
}
