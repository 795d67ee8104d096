//! Memory of activations: taken when a result is made, given back after its last use, reused by
//! whatever comes next.

use std::sync::Arc;

use super::data::{Data, Floats};

/// Vectors that no value uses. Their contents are arbitrary.
#[derive(Default)]
pub(crate) struct Pool {
    /// Sorted by length.
    free: Vec<Vec<f32>>,
}

impl Pool {
    /// Memory for `len` elements, of arbitrary contents, perhaps longer; `None` where there is not
    /// that much.
    pub(crate) fn take(&mut self, len: usize) -> Option<Vec<f32>> {
        let at = self.free.partition_point(|v| v.len() < len);
        // A vector far too long would be missed by a larger tensor later.
        if self
            .free
            .get(at)
            .is_some_and(|v| v.len() / 2 <= len.max(1024))
        {
            return Some(self.free.remove(at));
        }
        // What is too small for this tensor makes room for it: reuse then settles to what the
        // largest tensors need.
        if at > 0 && self.free[at - 1].len() >= len / 2 {
            self.free.remove(at - 1);
        }
        let fresh = bytemuck::allocation::try_zeroed_slice_box(len).ok()?;
        Some(fresh.into_vec())
    }

    /// The same, of zeros.
    pub(crate) fn zeroed(&mut self, len: usize) -> Option<Vec<f32>> {
        let mut memory = self.take(len)?;
        memory[..len].fill(0.0);
        Some(memory)
    }

    /// Takes memory back.
    pub(crate) fn give(&mut self, memory: Vec<f32>) {
        let at = self.free.partition_point(|v| v.len() < memory.len());
        self.free.insert(at, memory);
    }

    /// Ends one use of a value, which gives its memory back if it was the last.
    pub(crate) fn end(&mut self, data: Data) {
        if let Data::Floats(Floats { data, .. }) = data
            && let Some(memory) = Arc::into_inner(data)
        {
            self.give(memory);
        }
    }
}
