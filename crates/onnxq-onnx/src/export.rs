//! [`ModelDef`] to files.
//!
//! Files are written beside their target and renamed: a reader sees the old file or the new one, and
//! the target may be the file that the model's tensors are views of. What fails leaves no file behind.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use indexmap::IndexMap;
use onnxq_ir::def::ModelDef;
use onnxq_tensor::Buffer;
use tempfile::NamedTempFile;

use crate::{
    Error,
    encode::{Encoded, ExternalData, encode},
    rope::{Rope, write_buffer},
};

/// The largest model in one file. Protobuf ends at 2 GiB; this is where ONNX's own checker begins to
/// refuse.
const LARGEST: u64 = 2_000_000_000;

/// From this size on, external tensors begin at a multiple of [`PAGE`], so that each can be mapped.
const PAGED_FROM: usize = 1 << 20;
const PAGE: u64 = 4096;

/// Where smaller external tensors begin: a cache line, and the widest vector.
const LINE: u64 = 64;

/// How to [`save`].
#[derive(Clone, Copy, Default, Debug)]
pub struct SaveOptions {
    /// Write the initializers of 1 KiB and more to a second file, `<file name>.data`, also where the model would fit
    /// into one.
    pub external_data: bool,
}

/// What [`save`] wrote.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SaveReport {
    /// Bytes of the model's file.
    pub bytes: u64,
    /// The file with the weights, if there is one.
    pub external: Option<PathBuf>,
    /// Bytes of that file.
    pub external_bytes: u64,
}

/// Writes `model` to the file `path`, and its weights to `<path>.data` where `options` say so or the
/// model would not fit into one file.
///
/// A symbolic link is followed, and stays. A device or pipe as `path` is written to directly, and in
/// one piece.
pub fn save(model: &ModelDef, path: &Path, options: &SaveOptions) -> Result<SaveReport, Error> {
    let cannot = |source| Error::Write {
        path: path.to_owned(),
        source,
    };
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(cannot(io::ErrorKind::IsADirectory.into())),
        Ok(found) if !found.is_file() => {
            let file = File::options().write(true).open(path).map_err(cannot)?;
            let bytes = write_named(model, file, path)?;
            return Ok(SaveReport {
                bytes,
                ..SaveReport::default()
            });
        }
        _ => {}
    }
    // Also for `/dev/stdout`, which must not be renamed over.
    let real = path
        .is_symlink()
        .then(|| path.canonicalize().ok())
        .flatten();
    let path = real.as_deref().unwrap_or(path);
    let encoded = encode(model, None);
    let external = options.external_data || encoded.rope.len() > LARGEST;
    if external && !encoded.weights.is_empty() {
        return save_external(model, encoded, path);
    }
    let bytes = in_one_file(&encoded.rope)?;
    write_beside(path, |out| encoded.rope.write_to(out))?
        .persist(path)
        .map_err(|e| cannot(e.error))?;
    Ok(SaveReport {
        bytes,
        ..SaveReport::default()
    })
}

/// Writes `model` in one piece, for standard output; gives its length.
pub fn write_to(model: &ModelDef, out: impl Write) -> Result<u64, Error> {
    write_named(model, out, Path::new("the output stream"))
}

fn write_named(model: &ModelDef, out: impl Write, path: &Path) -> Result<u64, Error> {
    let rope = encode(model, None).rope;
    let bytes = in_one_file(&rope)?;
    let mut out = BufWriter::with_capacity(1 << 20, out);
    rope.write_to(&mut out)
        .and_then(|()| out.flush())
        .map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })?;
    Ok(bytes)
}

fn in_one_file(rope: &Rope) -> Result<u64, Error> {
    match rope.len() {
        bytes if bytes > LARGEST => Err(Error::TooLarge {
            bytes,
            limit: LARGEST,
        }),
        bytes => Ok(bytes),
    }
}

fn save_external(model: &ModelDef, inline: Encoded, path: &Path) -> Result<SaveReport, Error> {
    let cannot = |path: &Path, source| Error::Write {
        path: path.to_owned(),
        source,
    };
    let mut location = path
        .file_name()
        .and_then(|n| n.to_str())
        .ok_or_else(|| cannot(path, io::Error::other("the name of the file is not UTF-8")))?
        .to_owned();
    location.push_str(".data");
    let data_path = path.with_file_name(&location);
    let layout = Layout::of(inline.weights.iter().rev());
    let (weights, external_bytes) = (layout.weights, layout.len);
    let external = ExternalData {
        location,
        offsets: layout.offsets,
    };
    let rope = encode(model, Some(&external)).rope;
    let bytes = in_one_file(&rope)?;
    drop(inline);

    let data = write_beside(&data_path, |out| write_weights(&weights, out))?;
    let file = write_beside(path, |out| rope.write_to(out))?;
    data.persist(&data_path)
        .map_err(|e| cannot(&data_path, e.error))?;
    file.persist(path).map_err(|e| cannot(path, e.error))?;
    Ok(SaveReport {
        bytes,
        external: Some(data_path),
        external_bytes,
    })
}

/// The layout of a file of weights.
struct Layout {
    /// One for each weight.
    offsets: Vec<u64>,
    /// The weights, each memory once, in the order of their offsets.
    weights: Vec<(u64, Buffer)>,
    len: u64,
}

impl Layout {
    fn of<'a>(buffers: impl Iterator<Item = &'a Buffer>) -> Layout {
        let mut layout = Layout {
            offsets: Vec::new(),
            weights: Vec::new(),
            len: 0,
        };
        // Weights that share their memory, such as tied embeddings, share their place.
        let mut seen = IndexMap::new();
        for buffer in buffers {
            let offset = *seen
                .entry((buffer.as_ptr(), buffer.len()))
                .or_insert_with(|| {
                    let align = if buffer.len() >= PAGED_FROM {
                        PAGE
                    } else {
                        LINE
                    };
                    let offset = layout.len.next_multiple_of(align);
                    layout.len = offset + buffer.len() as u64;
                    layout.weights.push((offset, buffer.clone()));
                    offset
                });
            layout.offsets.push(offset);
        }
        layout
    }
}

fn write_weights(weights: &[(u64, Buffer)], out: &mut dyn Write) -> io::Result<()> {
    let mut at = 0;
    for (offset, buffer) in weights {
        let padding = [0; PAGE as usize];
        out.write_all(&padding[..(offset - at) as usize])?;
        write_buffer(buffer, out)?;
        at = offset + buffer.len() as u64;
    }
    Ok(())
}

/// Writes the file `path` whole or not at all: what `write` writes goes to a temporary file beside
/// it, which then takes its place.
pub fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let file = write_temporary(path, write)?;
    file.persist(path).map(drop).map_err(|e| e.error)
}

/// A temporary file in the directory of `path` with what `write` writes. It is gone when dropped.
fn write_beside(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<NamedTempFile, Error> {
    write_temporary(path, |out| write(out)).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

fn write_temporary(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<NamedTempFile> {
    let dir = path
        .parent()
        .filter(|d| !d.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".onnxq-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Those of any new file: the umask takes away from them.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let (file, temporary) = builder.tempfile_in(dir)?.into_parts();
    let mut out = BufWriter::with_capacity(1 << 20, file);
    write(&mut out)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(NamedTempFile::from_parts(file, temporary))
}
