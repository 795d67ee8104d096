//! Memory of packed weights.

use std::ops::Range;

use onnxq_kernels::Cpu;

use super::pages::Pages;

/// Bytes of a chunk: as many as a large model has, so that there are few partly used pages. What nobody
/// touches takes no memory.
const CHUNK: usize = 256 << 20;

/// Bytes of a line of the cache, to which everything is aligned.
const LINE: usize = 64;

/// Grows; what is in it stays where it is.
pub(super) struct Store {
    /// Whose instructions pack the weights.
    pub(super) cpu: Cpu,
    chunks: Vec<Chunk>,
}

struct Chunk {
    memory: Pages,
    used: usize,
}

/// A part of a [`Store`].
#[derive(Clone, Debug)]
pub(super) struct Stored {
    chunk: usize,
    range: Range<usize>,
}

impl Store {
    /// Nothing yet.
    pub(super) fn new(cpu: Cpu) -> Store {
        Store {
            cpu,
            chunks: Vec::new(),
        }
    }

    /// Takes `len` bytes of zeros, aligned, and has `f` fill them.
    pub(super) fn add(&mut self, len: usize, f: impl FnOnce(&mut [u8])) -> Stored {
        let fits = |chunk: &Chunk| chunk.memory.bytes().len() - chunk.used >= len;
        if !self.chunks.last().is_some_and(fits) {
            let memory = Pages::new(len.max(CHUNK).div_ceil(LINE));
            self.chunks.push(Chunk { memory, used: 0 });
        }
        let at = self.chunks.len() - 1;
        let chunk = &mut self.chunks[at];
        let range = chunk.used..chunk.used + len;
        chunk.used = range
            .end
            .next_multiple_of(LINE)
            .min(chunk.memory.bytes().len());
        f(&mut chunk.memory.bytes_mut()[range.clone()]);
        Stored { chunk: at, range }
    }

    /// Bytes in all.
    pub(super) fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.used).sum()
    }

    /// What has been added.
    pub(super) fn get(&self, stored: &Stored) -> &[u8] {
        &self.chunks[stored.chunk].memory.bytes()[stored.range.clone()]
    }
}
