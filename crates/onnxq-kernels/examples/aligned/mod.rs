//! Memory for the examples that measure kernels.

use std::ops::Range;

use onnxq_kernels::Line;

/// Numbers that begin with a line of the cache, as they do between the steps of a model.
pub(crate) struct Aligned<T> {
    memory: Vec<T>,
    place: Range<usize>,
}

impl<T: Copy + Default> Aligned<T> {
    pub(crate) fn zeros(len: usize) -> Aligned<T> {
        const LINE: usize = size_of::<Line>();
        let memory = vec![T::default(); len + LINE];
        let start = memory.as_ptr().align_offset(LINE);
        Aligned {
            memory,
            place: start..start + len,
        }
    }

    pub(crate) fn get(&self) -> &[T] {
        &self.memory[self.place.clone()]
    }

    pub(crate) fn get_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.place.clone()]
    }
}
