//! The crate's text as data is all of its text.

#![cfg(feature = "sources")]

use std::{collections::BTreeMap, fs, path::Path};

fn collect(at: &Path, root: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, root, files);
            continue;
        }
        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
        files.insert(name.replace('\\', "/"), fs::read_to_string(&path).unwrap());
    }
}

#[test]
fn every_file_is_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    collect(&root, &root, &mut files);
    files.remove("sources.rs");
    let listed: BTreeMap<String, String> = onnxq_kernels::SOURCES
        .iter()
        .map(|source| (source.path.to_owned(), source.text.to_owned()))
        .collect();
    assert!(files.keys().eq(listed.keys()), "{:?}", listed.keys());
    assert!(files == listed, "built from other text");
}
