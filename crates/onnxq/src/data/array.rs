//! [`Array`]: an array in a file, whose rows are read when they are asked for.
//!
//! What lies in a file as it does in a tensor is mapped. A deflated array is inflated from front
//! to back, a few rows at a time. What is in another order of bytes or elements is read at once.
//!
//! *Invariant*: but for the latter, rows take memory only while they are in use.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use flate2::read::DeflateDecoder;
use onnxq_tensor::{Buffer, DType, MappedFile, Tensor};
use zip::CompressionMethod;

use super::{DataError, npy::Layout};

/// An array, see the [module](self).
#[derive(Debug)]
pub(super) struct Array {
    dtype: DType,
    dims: Vec<usize>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// In memory, or in a mapped file.
    Tensor(Tensor),
    Deflated(Box<Deflated>),
}

/// A deflated array, and how far it has been inflated.
#[derive(Debug)]
struct Deflated {
    path: PathBuf,
    name: String,
    /// Where in the file, and how long.
    start: u64,
    length: u64,
    /// Bytes before the elements.
    header: usize,
    /// The stream, and the row it is at. There is none before the first and after the last.
    stream: Mutex<Option<(Stream, usize)>>,
}

type Stream = DeflateDecoder<io::Take<BufReader<File>>>;

impl From<Tensor> for Array {
    fn from(tensor: Tensor) -> Array {
        Array {
            dtype: tensor.dtype(),
            dims: tensor.dims().to_vec(),
            source: Source::Tensor(tensor),
        }
    }
}

impl Array {
    pub(super) fn dtype(&self) -> DType {
        self.dtype
    }

    pub(super) fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// All of it.
    pub(super) fn whole(&self) -> Result<Tensor, DataError> {
        match &self.source {
            Source::Tensor(t) => Ok(t.clone()),
            Source::Deflated(d) => d.rows(self, 0..self.dims.first().copied().unwrap_or(1)),
        }
    }

    /// Rows of axis 0. Deflated ones had better be asked for in ascending order.
    pub(super) fn rows(&self, rows: Range<usize>) -> Result<Tensor, DataError> {
        match &self.source {
            Source::Tensor(t) => {
                let start = rows.start;
                t.rows(rows).map_err(|_| DataError::NoSample(start))
            }
            Source::Deflated(d) => d.rows(self, rows),
        }
    }
}

impl Deflated {
    fn rows(&self, array: &Array, rows: Range<usize>) -> Result<Tensor, DataError> {
        let bad = |message: String| DataError::array(&self.path, &self.name, message);
        let mut dims = array.dims.clone();
        let (count, mut row) = (dims.first().copied().unwrap_or(1), array.dtype.bits() / 8);
        for d in dims.iter().skip(1) {
            row *= d;
        }
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        // What fails leaves no stream behind.
        let (mut open, at) = match stream.take() {
            Some((open, at)) if at <= rows.start => (open, at),
            _ => (self.open().map_err(|e| bad(e.to_string()))?, 0),
        };
        let (skipped, wanted) = ((rows.start - at) * row, rows.len() * row);
        // The header may lie about the size: read what is there.
        let mut bytes = Vec::new();
        io::copy(&mut (&mut open).take(skipped as u64), &mut io::sink())
            .and_then(|_| (&mut open).take(wanted as u64).read_to_end(&mut bytes))
            .map_err(|e| bad(e.to_string()))?;
        if bytes.len() != wanted {
            return Err(bad(format!("ends before row {}", rows.end)));
        }
        if rows.end < count {
            *stream = Some((open, rows.end));
        }
        if let Some(first) = dims.first_mut() {
            *first = rows.len();
        }
        Tensor::new(array.dtype, dims.as_slice(), bytes).map_err(|e| bad(e.to_string()))
    }

    /// The stream, at the first element.
    fn open(&self) -> io::Result<Stream> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.start))?;
        let mut stream = DeflateDecoder::new(BufReader::new(file).take(self.length));
        let mut header = vec![0; self.header];
        stream.read_exact(&mut header)?;
        Ok(stream)
    }
}

/// The array of a `.npy` file, to be called `name`.
pub(super) fn open_npy(path: &Path, name: &str) -> Result<Array, DataError> {
    let file = MappedFile::open(path).map_err(DataError::io(path))?;
    let mut reader = &*file;
    let layout = Layout::read(&mut reader, path, name)?;
    if layout.is_plain() {
        return mapped(&file, 0, layout, path, name);
    }
    Ok(layout.read_elements(reader, path, name)?.into())
}

/// The arrays of a `.npz` file that `wanted` holds for, by name.
pub(super) fn open_npz(
    path: &Path,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<(String, Array)>, DataError> {
    let file = MappedFile::open(path).map_err(DataError::io(path))?;
    let mut archive = zip::ZipArchive::new(io::Cursor::new(file.bytes().clone()))
        .map_err(|e| DataError::file(path, format!("is no .npz file: {e}")))?;
    let mut arrays = Vec::new();
    for i in 0..archive.len() {
        let mut entry = archive
            .by_index(i)
            .map_err(|e| DataError::file(path, e.to_string()))?;
        let name = entry
            .name()
            .map_err(|e| DataError::file(path, e.to_string()))?
            .into_owned();
        let name = name.strip_suffix(".npy").unwrap_or(&name).to_owned();
        if !wanted(&name) {
            continue;
        }
        let layout = Layout::read(&mut entry, path, &name)?;
        let array = match (entry.compression(), entry.data_start()) {
            (CompressionMethod::Stored, Some(start)) if layout.is_plain() => {
                mapped(&file, start, layout, path, &name)?
            }
            (CompressionMethod::Deflated, Some(start)) if layout.is_plain() => {
                let found = entry.size().saturating_sub(layout.header as u64);
                if found < layout.bytes as u64 {
                    return Err(DataError::array(path, &name, layout.expected(found)));
                }
                Array {
                    dtype: layout.dtype,
                    dims: layout.dims.to_vec(),
                    source: Source::Deflated(Box::new(Deflated {
                        path: path.to_owned(),
                        name: name.clone(),
                        start,
                        length: entry.compressed_size(),
                        header: layout.header,
                        stream: Mutex::new(None),
                    })),
                }
            }
            _ => layout.read_elements(entry, path, &name)?.into(),
        };
        arrays.push((name, array));
    }
    Ok(arrays)
}

/// The array whose header is at `start` of a mapped file.
fn mapped(
    file: &Buffer,
    start: u64,
    layout: Layout,
    path: &Path,
    name: &str,
) -> Result<Array, DataError> {
    let first = usize::try_from(start)
        .unwrap_or(usize::MAX)
        .saturating_add(layout.header);
    let found = file.len().saturating_sub(first);
    if found < layout.bytes {
        return Err(DataError::array(path, name, layout.expected(found as u64)));
    }
    let elements = file.slice(first..first + layout.bytes);
    let tensor = Tensor::new(layout.dtype, layout.dims, elements)
        .map_err(|e| DataError::array(path, name, e.to_string()))?;
    Ok(tensor.into())
}
