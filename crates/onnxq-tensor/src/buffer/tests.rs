//! Mapped files: what is shared, what survives giving pages back, and what is not a file.

use std::io::Write;

use super::*;
use crate::{DType, Tensor};

/// A mapped file of `bytes`; the file itself is gone when this returns, the mapping is not.
fn mapped(bytes: &[u8]) -> Buffer {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    MappedFile::open(file.path()).unwrap()
}

/// Of many pages.
fn pattern() -> Vec<u8> {
    (0..100_003u32).map(|i| (i * 7 % 251) as u8).collect()
}

#[test]
fn released_pages_read_the_same() {
    let (bytes, file) = (pattern(), mapped(&pattern()));
    assert_eq!(&*file, bytes);
    file.release();
    assert_eq!(&*file, bytes);
    for range in [
        0..100_003,
        5..99_000,
        4096..8192,
        4095..8193,
        1..2,
        7..7,
        100_003..100_003,
    ] {
        let part = file.slice(range.clone());
        part.release();
        assert_eq!(part, Buffer::from(bytes[range].to_vec()));
    }
    let tensor = Tensor::new(DType::F32, vec![1000], file.slice(1..4001)).unwrap();
    let before = tensor.to_f32s().unwrap().into_owned();
    tensor.release();
    let bits = |floats: &[f32]| floats.iter().map(|f| f.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&tensor.to_f32s().unwrap()), bits(&before));
}

#[test]
fn the_mapping_lives_as_long_as_its_parts() {
    let part = mapped(&pattern()).slice(50_000..50_010);
    assert_eq!(&*part, &pattern()[50_000..50_010]);
}

#[test]
fn parts_are_adopted_if_they_are_parts() {
    let file = mapped(&pattern());
    let part = file.adopt(file.bytes().slice(10..20));
    assert!(part.same(&file.slice(10..20)));
    assert!(part.file.is_some());
    let foreign = file.adopt(Bytes::from(vec![1, 2, 3]));
    assert!(foreign.file.is_none());
    foreign.release();
    file.adopt(Bytes::new()).release();
    Buffer::from(vec![1, 2, 3]).release();
}

#[test]
fn empty_missing_and_odd_files() {
    assert!(mapped(&[]).is_empty());
    mapped(&[]).release();
    let folder = tempfile::tempdir().unwrap();
    assert!(MappedFile::open(&folder.path().join("missing")).is_err());
    assert!(MappedFile::open(folder.path()).is_err());
    #[cfg(unix)]
    assert!(MappedFile::open(Path::new("/dev/null")).unwrap().is_empty());
}

#[test]
fn vectors_are_taken_without_a_copy() {
    let values = vec![1.0f64, 2.0];
    let address = values.as_ptr().cast::<u8>();
    let buffer = Buffer::from_vec(values);
    assert_eq!(buffer.as_ptr(), address);
    assert_eq!(buffer.len(), 16);
    assert!(buffer.clone().same(&buffer) && !buffer.same(&buffer.slice(0..8)));
    let equal = Buffer::from(buffer.to_vec());
    assert!(equal == buffer && !equal.same(&buffer));
}

#[test]
fn memory_to_fill_is_zero_and_keeps_what_is_written() {
    for len in [0, 12, 3 << 20] {
        let mut memory = BufferMut::zeroed(len);
        assert!(memory.elements_mut::<f32>().iter().all(|&v| v == 0.0));
        if let Some(last) = memory.elements_mut::<f32>().last_mut() {
            *last = 1.5;
        }
        let buffer = Buffer::from(memory);
        assert_eq!(buffer.len(), len);
        assert!(len == 0 || buffer[len - 4..] == 1.5f32.to_le_bytes());
    }
}
