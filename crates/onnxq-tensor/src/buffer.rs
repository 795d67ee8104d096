//! Bytes of tensors: shared, immutable, on the heap or in a mapped file.
//!
//! A [`Buffer`] is cheap to clone and to slice. Where it lies in a mapped file it knows the
//! mapping, so that pages that have been read can be given back: a 2.5 GB model is quantized in
//! less memory than its weights take.

use std::{fs::File, io, ops::Deref, path::Path, sync::Arc};

use bytes::Bytes;

/// A file mapped into memory, read-only.
///
/// The file must not be truncated while it is mapped; tools that rewrite models replace files
/// by renaming, which keeps the mapped one intact.
#[derive(Debug)]
pub struct MappedFile {
    map: memmap2::Mmap,
}

impl MappedFile {
    /// Maps the whole of `path`.
    pub fn open(path: &Path) -> io::Result<Buffer> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            // Pipes and devices cannot be mapped; read them.
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut &file, &mut bytes)?;
            return Ok(Buffer::from(bytes));
        }
        if file.metadata()?.len() == 0 {
            return Ok(Buffer::default());
        }
        #[expect(unsafe_code, reason = "mapping a file is the one way not to copy it")]
        // SAFETY: the mapping is private and read-only, and only reads go through it. Another
        // process that truncates the file while it is in use breaks it for every reader; the
        // documentation of the type says so.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        let file = Arc::new(MappedFile { map });
        Ok(Buffer {
            bytes: Bytes::from_owner(Mapped(file.clone())),
            file: Some(file),
        })
    }

    /// Tells the kernel that the pages wholly inside `range` are not needed for now. They are
    /// read again from the file on the next access.
    fn release(&self, range: &[u8]) {
        const PAGE: usize = 4096;
        let base = self.map.as_ptr() as usize;
        let (start, end) = (
            range.as_ptr() as usize,
            range.as_ptr() as usize + range.len(),
        );
        debug_assert!(base <= start && end <= base + self.map.len());
        let (from, to) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
        if from < to {
            #[cfg(unix)]
            #[expect(unsafe_code, reason = "giving pages back keeps peak memory low")]
            // SAFETY: the range lies inside this mapping, which is of a file and never written,
            // so that a page that was dropped reads the same bytes again. Failure is harmless.
            let _ = unsafe {
                self.map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    from - base,
                    to - from,
                )
            };
        }
    }
}

struct Mapped(Arc<MappedFile>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0.map
    }
}

/// Shared immutable bytes, see the [module](self).
#[derive(Clone, Default)]
pub struct Buffer {
    bytes: Bytes,
    file: Option<Arc<MappedFile>>,
}

impl Buffer {
    /// Takes ownership of a vector of elements without copying it.
    pub fn from_vec<T: bytemuck::NoUninit + Send + Sync>(values: Vec<T>) -> Buffer {
        struct Owner<T>(Vec<T>);
        impl<T: bytemuck::NoUninit> AsRef<[u8]> for Owner<T> {
            fn as_ref(&self) -> &[u8] {
                bytemuck::cast_slice(&self.0)
            }
        }
        Buffer {
            bytes: Bytes::from_owner(Owner(values)),
            file: None,
        }
    }

    /// The part `range` of these bytes, shared. Panics where it is out of bounds.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Buffer {
        Buffer {
            bytes: self.bytes.slice(range),
            file: self.file.clone(),
        }
    }

    /// The buffer of `part`, which must have been cut from this one (prost does so when it
    /// decodes from [`bytes`](Buffer::bytes)): it keeps the knowledge of the mapping.
    pub fn adopt(&self, part: Bytes) -> Buffer {
        let whole = self.bytes.as_ptr_range();
        let inside = whole.contains(&part.as_ptr());
        Buffer {
            file: self.file.clone().filter(|_| inside),
            bytes: part,
        }
    }

    /// The bytes, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Gives the memory of mapped pages back until they are read again; nothing on the heap.
    pub fn release(&self) {
        if let Some(file) = &self.file {
            file.release(&self.bytes);
        }
    }

    /// Whether both are the same memory (and so certainly equal).
    pub fn same(&self, other: &Buffer) -> bool {
        self.bytes.as_ptr_range() == other.bytes.as_ptr_range()
    }
}

/// Memory for the elements of a large tensor, to be filled: zeros at first.
///
/// It lies on huge pages where the system has them. Half the time of making a hundred megabytes
/// of new weights goes into getting the memory for them page by page otherwise.
pub struct BufferMut {
    memory: Memory,
    len: usize,
}

enum Memory {
    Heap(Vec<u64>),
    Mapped(memmap2::MmapMut),
}

impl BufferMut {
    /// From this size on memory is mapped: a huge page.
    const LARGE: usize = 2 << 20;

    /// `len` zeros, aligned for every element type.
    pub fn zeroed(len: usize) -> BufferMut {
        let map = (len >= BufferMut::LARGE).then(|| memmap2::MmapMut::map_anon(len).ok());
        let memory = match map.flatten() {
            Some(map) => {
                // Small pages do as well.
                #[cfg(target_os = "linux")]
                let _ = map.advise(memmap2::Advice::HugePage);
                Memory::Mapped(map)
            }
            None => Memory::Heap(vec![0; len.div_ceil(8)]),
        };
        BufferMut { memory, len }
    }

    /// The elements, to be filled. There must be a whole number of them.
    pub fn elements_mut<T: crate::Element>(&mut self) -> &mut [T] {
        let bytes: &mut [u8] = match &mut self.memory {
            Memory::Heap(words) => &mut bytemuck::cast_slice_mut(words)[..self.len],
            Memory::Mapped(map) => map,
        };
        bytemuck::cast_slice_mut(bytes)
    }
}

impl AsRef<[u8]> for BufferMut {
    fn as_ref(&self) -> &[u8] {
        match &self.memory {
            Memory::Heap(words) => &bytemuck::cast_slice(words)[..self.len],
            Memory::Mapped(map) => map,
        }
    }
}

impl From<BufferMut> for Buffer {
    fn from(memory: BufferMut) -> Buffer {
        Buffer::from(Bytes::from_owner(memory))
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Buffer {
        Buffer {
            bytes: bytes.into(),
            file: None,
        }
    }
}

impl From<Bytes> for Buffer {
    fn from(bytes: Bytes) -> Buffer {
        Buffer { bytes, file: None }
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Buffer) -> bool {
        self.same(other) || self.bytes == other.bytes
    }
}

impl Eq for Buffer {}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests;
