//! Tensor data in files beside the model (`docs/ExternalData.md` of ONNX).
//!
//! *Invariant*: nothing outside the model's directory is ever opened, not through `..`, an absolute
//! path, or a symbolic link. A model is data from anywhere; it must not read other people's files
//! into its weights.
//!
//! `checksum` is accepted and, as in other runtimes, not verified: it would cost a pass over every
//! weight of the file.

use std::path::{Component, Path, PathBuf};

use indexmap::IndexMap;
use onnxq_tensor::{Buffer, Bytes, MappedFile};

use crate::{Error, proto::StringStringEntryProto};

/// The files that the tensors of one model lie in, each mapped once.
pub(crate) struct ExternalFiles {
    /// The model's directory; `None` for a model that came from no file.
    dir: Option<PathBuf>,
    open: IndexMap<Bytes, Buffer>,
}

impl ExternalFiles {
    pub(crate) fn new(dir: Option<&Path>) -> ExternalFiles {
        ExternalFiles {
            dir: dir.map(Path::to_owned),
            open: IndexMap::new(),
        }
    }

    /// The data that `entries` (`external_data` of a tensor) point to, which must be `expected`
    /// bytes.
    pub(crate) fn data(
        &mut self,
        entries: &[StringStringEntryProto],
        expected: usize,
    ) -> Result<Buffer, Error> {
        let entry = |key: &str| {
            entries
                .iter()
                .rev()
                .find(|e| e.key == key)
                .map(|e| &e.value)
        };
        let location =
            entry("location").ok_or_else(|| Error::invalid("external data without `location`"))?;
        let shown = String::from_utf8_lossy(location).into_owned();
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => std::str::from_utf8(text)
                .ok()
                .and_then(|t| t.trim().parse::<usize>().ok())
                .map(Some)
                .ok_or_else(|| {
                    let text = String::from_utf8_lossy(text);
                    Error::invalid(format!(
                        "external data in `{shown}`: {key} `{text}` is not a number of bytes"
                    ))
                }),
        };
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?.unwrap_or(expected);
        if length != expected {
            return Err(Error::invalid(format!(
                "external data in `{shown}`: length is {length} bytes, expected {expected}"
            )));
        }
        let file = self.file(location, &shown)?;
        match offset.checked_add(length).filter(|&end| end <= file.len()) {
            Some(end) => Ok(file.slice(offset..end)),
            None => Err(Error::invalid(format!(
                "external data in `{shown}`: {length} bytes at offset {offset} are beyond its end, \
                 it has {} bytes",
                file.len()
            ))),
        }
    }

    fn file(&mut self, location: &Bytes, shown: &str) -> Result<&Buffer, Error> {
        if !self.open.contains_key(location) {
            let path = self.resolve(location, shown)?;
            let buffer = MappedFile::open(&path).map_err(|source| Error::Read { path, source })?;
            self.open.insert(location.clone(), buffer);
        }
        Ok(&self.open[location])
    }

    fn resolve(&self, location: &[u8], shown: &str) -> Result<PathBuf, Error> {
        let refused = |why: &str| Error::invalid(format!("external data in `{shown}`: {why}"));
        let Some(dir) = &self.dir else {
            return Err(refused("a model that is not in a file cannot have any"));
        };
        let relative =
            Path::new(std::str::from_utf8(location).map_err(|_| refused("the path is not UTF-8"))?);
        let plain = |c| matches!(c, Component::Normal(_) | Component::CurDir);
        if !relative.components().all(plain) || relative.as_os_str().is_empty() {
            return Err(refused("the path leads out of the model's directory"));
        }
        let path = dir.join(relative);
        let real = |path: &Path| {
            let path = if path.as_os_str().is_empty() {
                Path::new(".")
            } else {
                path
            };
            path.canonicalize().map_err(|source| Error::Read {
                path: path.into(),
                source,
            })
        };
        let (dir, path) = (real(dir)?, real(&path)?);
        if !path.starts_with(&dir) {
            return Err(refused(
                "a symbolic link leads out of the model's directory",
            ));
        }
        if !path.is_file() {
            return Err(refused("not a regular file"));
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> Vec<StringStringEntryProto> {
        let bytes = |s: &str| Bytes::copy_from_slice(s.as_bytes());
        pairs
            .iter()
            .map(|(k, v)| StringStringEntryProto {
                key: bytes(k),
                value: bytes(v),
            })
            .collect()
    }

    fn read(dir: &Path, pairs: &[(&str, &str)], expected: usize) -> Result<Vec<u8>, String> {
        ExternalFiles::new(Some(dir))
            .data(&entries(pairs), expected)
            .map(|b| b.to_vec())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn a_range_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/w.bin"), b"0123456789").unwrap();
        let at = |offset, length| {
            read(
                dir.path(),
                &[
                    ("location", "./sub/w.bin"),
                    ("offset", offset),
                    ("length", length),
                ],
                3,
            )
        };
        assert_eq!(at("2", "3").unwrap(), b"234");
        assert_eq!(at("7", "3").unwrap(), b"789");
        let short = read(
            dir.path(),
            &[("location", "sub/w.bin"), ("checksum", "x")],
            10,
        );
        assert_eq!(short.unwrap(), b"0123456789");
        assert!(
            at("8", "3")
                .unwrap_err()
                .contains("beyond its end, it has 10 bytes")
        );
        assert!(
            at("18446744073709551615", "3")
                .unwrap_err()
                .contains("beyond its end")
        );
        assert!(
            at("2", "4")
                .unwrap_err()
                .contains("length is 4 bytes, expected 3")
        );
        assert!(
            at("-1", "3")
                .unwrap_err()
                .contains("offset `-1` is not a number of bytes")
        );
    }

    #[test]
    fn nothing_outside_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        std::fs::create_dir_all(model.join("sub")).unwrap();
        std::fs::write(dir.path().join("secret"), b"0123").unwrap();
        std::fs::write(model.join("w.bin"), b"0123").unwrap();
        let secret = dir.path().join("secret");
        for location in [
            "../secret",
            "sub/../../secret",
            "",
            "/",
            "sub/../w.bin",
            secret.to_str().unwrap(),
        ] {
            let error = read(&model, &[("location", location)], 4).unwrap_err();
            assert!(error.contains("leads out of"), "{location}: {error}");
        }
        assert!(
            read(&model, &[("location", "sub")], 4)
                .unwrap_err()
                .contains("regular file")
        );
        assert!(
            read(&model, &[("location", "absent")], 4)
                .unwrap_err()
                .contains("cannot read")
        );
        assert!(
            read(&model, &[], 4)
                .unwrap_err()
                .contains("without `location`")
        );
        let no_dir = ExternalFiles::new(None).data(&entries(&[("location", "w.bin")]), 4);
        assert!(no_dir.unwrap_err().to_string().contains("not in a file"));
    }

    #[cfg(unix)]
    #[test]
    fn links_inside_the_directory_only() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        std::fs::create_dir(&model).unwrap();
        std::fs::write(dir.path().join("secret"), b"0123").unwrap();
        std::fs::write(model.join("w.bin"), b"4567").unwrap();
        symlink("../secret", model.join("out")).unwrap();
        symlink("w.bin", model.join("in")).unwrap();
        symlink("..", model.join("up")).unwrap();
        assert_eq!(read(&model, &[("location", "in")], 4).unwrap(), b"4567");
        for location in ["out", "up/secret"] {
            let error = read(&model, &[("location", location)], 4).unwrap_err();
            assert!(error.contains("a symbolic link leads out"), "{error}");
        }
    }

    #[test]
    fn each_file_is_mapped_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("w.bin"), b"0123").unwrap();
        let mut files = ExternalFiles::new(Some(dir.path()));
        let a = files.data(&entries(&[("location", "w.bin")]), 4).unwrap();
        let b = files.data(&entries(&[("location", "w.bin")]), 4).unwrap();
        assert!(a.same(&b));
    }
}
