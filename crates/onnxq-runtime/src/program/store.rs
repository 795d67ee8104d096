//! Memory of packed weights, in large pages where the system has them.
//!
//! Weights stream through the caches once in each run. In large pages they are found without a
//! walk through tables of pages every 4 KiB, and fetched ahead across these.

use std::ops::Range;

use memmap2::MmapMut;

/// Bytes of a chunk: as many as a large model has, so that there are few partly used pages. What nobody
/// touches takes no memory.
const CHUNK: usize = 256 << 20;

/// Bytes of a line of the cache, to which everything is aligned.
const LINE: usize = 64;

/// Grows; what is in it stays where it is.
#[derive(Default)]
pub(super) struct Store {
    chunks: Vec<Chunk>,
}

struct Chunk {
    memory: Memory,
    used: usize,
}

enum Memory {
    Mapped(MmapMut),
    /// Where nothing can be mapped.
    Plain(Vec<onnxq_kernels::Line>),
}

/// A part of a [`Store`].
#[derive(Clone, Debug)]
pub(super) struct Stored {
    chunk: usize,
    range: Range<usize>,
}

impl Memory {
    fn new(len: usize) -> Memory {
        match MmapMut::map_anon(len) {
            Ok(map) => {
                // A wish: nothing depends on it.
                #[cfg(target_os = "linux")]
                let _ = map.advise(memmap2::Advice::HugePage);
                Memory::Mapped(map)
            }
            Err(_) => Memory::Plain(vec![onnxq_kernels::Line::ZERO; len.div_ceil(LINE)]),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Memory::Mapped(map) => map,
            Memory::Plain(lines) => onnxq_kernels::bytes(lines),
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Memory::Mapped(map) => map,
            Memory::Plain(lines) => onnxq_kernels::bytes_mut(lines),
        }
    }
}

impl Store {
    /// Takes `len` bytes of zeros, aligned, and has `f` fill them.
    pub(super) fn add(&mut self, len: usize, f: impl FnOnce(&mut [u8])) -> Stored {
        let fits = |chunk: &Chunk| chunk.memory.bytes().len() - chunk.used >= len;
        if !self.chunks.last().is_some_and(fits) {
            let memory = Memory::new(len.max(CHUNK).next_multiple_of(LINE));
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

    /// What has been added.
    pub(super) fn get(&self, stored: &Stored) -> &[u8] {
        &self.chunks[stored.chunk].memory.bytes()[stored.range.clone()]
    }
}
