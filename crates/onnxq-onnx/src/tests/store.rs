//! What is written, and where.

use std::{fs, io};

use onnxq_ir::{Attr, def::NodeDef};
use onnxq_tensor::Tensor;

use super::{samples::*, *};
use crate::{SaveOptions, load, save, write_to};

const EXTERNAL: SaveOptions = SaveOptions {
    external_data: true,
};

fn model_with(initializers: Vec<(&str, Tensor)>) -> ModelDef {
    let initializers = initializers
        .into_iter()
        .map(|(n, t)| initializer(n, t))
        .collect();
    let graph = GraphDef {
        initializers,
        ..GraphDef::default()
    };
    ModelDef {
        ir_version: 8,
        graph,
        ..ModelDef::default()
    }
}

#[test]
fn nothing_is_lost() {
    let model = full_model();
    let read = read(written(&model).into()).unwrap();
    assert_eq!(read, model);
    // Equality of maps does not see the order.
    let order = |m: &ModelDef| m.graph.nodes[0].attrs.keys().cloned().collect::<Vec<_>>();
    assert_eq!(order(&read), order(&model));
    assert_eq!(written(&read), written(&model));
}

#[test]
fn tensors_are_stored_raw_and_attributes_have_types() {
    let model = ModelProto::decode(Bytes::from(written(&full_model()))).unwrap();
    let graph = GraphProto::decode(model.graph.unwrap()).unwrap();
    let tensors: Vec<_> = graph
        .initializer
        .iter()
        .map(|t| TensorProto::decode(t.clone()).unwrap())
        .collect();
    let raw: Vec<_> = tensors
        .iter()
        .map(|t| t.raw_data.as_ref().map(Bytes::len))
        .collect();
    assert_eq!(raw, [Some(20_000), Some(1), Some(0), Some(2), None]);
    assert_eq!(tensors[4].string_data.len(), 2);
    let node = NodeProto::decode(graph.node[0].clone()).unwrap();
    let kinds = node.attribute.iter().map(|a| {
        let attribute = crate::proto::AttributeProto::decode(a.clone()).unwrap();
        attribute.r#type.unwrap_or(0)
    });
    let expected: Vec<_> = attributes().values().map(|a| a.kind().onnx()).collect();
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
}

#[test]
fn in_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    let model = full_model();
    let report = save(&model, &path, &SaveOptions::default()).unwrap();
    assert_eq!(report.bytes, fs::metadata(&path).unwrap().len());
    assert_eq!(report.external, None);
    assert_eq!(files(dir.path()), ["m.onnx"]);
    assert_eq!(load(&path).unwrap(), model);
}

#[test]
fn with_external_data() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    let big = weights(0, 300_000);
    let mut model = model_with(vec![
        ("medium", weights(1, 256)),
        ("small", weights(2, 255)),
        ("big", big.clone()),
        ("other", weights(3, 1000)),
        ("tied", big.reshape([3, 100_000].as_slice()).unwrap()),
    ]);
    let mut node = NodeDef::default();
    node.attrs
        .insert("value".to_owned(), Attr::Tensor(weights(4, 1000)));
    let inner = model_with(vec![("inner", weights(5, 1000))]).graph;
    node.attrs
        .insert("body".to_owned(), Attr::Graph(Box::new(inner)));
    model.graph.nodes.push(node);

    let report = save(&model, &path, &EXTERNAL).unwrap();
    assert_eq!(files(dir.path()), ["m.onnx", "m.onnx.data"]);
    assert_eq!(report.bytes, fs::metadata(&path).unwrap().len());
    let data = fs::read(dir.path().join("m.onnx.data")).unwrap();
    assert_eq!(report.external, Some(dir.path().join("m.onnx.data")));
    assert_eq!(report.external_bytes, data.len() as u64);
    assert_eq!(load(&path).unwrap(), model);

    let file = ModelProto::decode(Bytes::from(fs::read(&path).unwrap())).unwrap();
    let graph = GraphProto::decode(file.graph.unwrap()).unwrap();
    let place = |tensor: &Bytes| {
        let tensor = TensorProto::decode(tensor.clone()).unwrap();
        let entry = |e: &crate::proto::StringStringEntryProto| {
            std::str::from_utf8(&e.value).unwrap().to_owned()
        };
        (
            tensor.raw_data.is_some(),
            tensor.external_data.iter().map(entry).collect::<Vec<_>>(),
        )
    };
    let places: Vec<_> = graph.initializer.iter().map(place).collect();
    // The graph inside comes first in the file, and so do its weights.
    let external = |offset: &str, length: &str| {
        (
            false,
            ["m.onnx.data", offset, length].map(str::to_owned).to_vec(),
        )
    };
    assert_eq!(places[0], external("4032", "1024"));
    assert_eq!(places[1], (true, vec![]));
    assert_eq!(places[2], external("8192", "1200000"));
    assert_eq!(places[3], external("1208192", "4000"));
    assert_eq!(places[4], places[2]);
}

#[test]
fn without_weights_there_is_no_second_file() {
    let dir = tempfile::tempdir().unwrap();
    let model = model_with(vec![("small", weights(0, 10))]);
    let report = save(&model, &dir.path().join("m.onnx"), &EXTERNAL).unwrap();
    assert_eq!(report.external, None);
    assert_eq!(files(dir.path()), ["m.onnx"]);
}

#[test]
fn beyond_two_gigabytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    // One memory 2,100 times: large for the file, small for the test.
    let tensor = weights(0, 1 << 18);
    let names: Vec<_> = (0..2100).map(|i| format!("w{i}")).collect();
    let model = model_with(names.iter().map(|n| (n.as_str(), tensor.clone())).collect());
    let error = write_to(&model, io::sink()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("more than the 2000000000 that fit"),
        "{error}"
    );
    assert!(error.help().is_some());
    let report = save(&model, &path, &SaveOptions::default()).unwrap();
    assert_eq!(report.external_bytes, 1 << 20);
    assert_eq!(load(&path).unwrap(), model);

    let mut node = NodeDef::default();
    node.attrs
        .insert("values".to_owned(), Attr::Tensors(vec![tensor; 2100]));
    let stuck = ModelDef {
        graph: GraphDef {
            nodes: vec![node],
            ..GraphDef::default()
        },
        ..ModelDef::default()
    };
    let path = dir.path().join("stuck.onnx");
    assert!(matches!(
        save(&stuck, &path, &EXTERNAL),
        Err(Error::TooLarge { .. })
    ));
    assert_eq!(files(dir.path()), ["m.onnx", "m.onnx.data"]);
}

#[test]
fn over_its_own_source() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    let model = model_with(vec![("a", weights(0, 500_000)), ("b", weights(9, 5000))]);
    let inline = SaveOptions::default();
    save(&model, &path, &inline).unwrap();
    for options in [inline, EXTERNAL, EXTERNAL, inline] {
        let mut mapped = load(&path).unwrap();
        mapped.graph.initializers.reverse();
        save(&mapped, &path, &options).unwrap();
        let mut again = load(&path).unwrap();
        assert_eq!(again, mapped);
        again.graph.initializers.reverse();
        save(&again, &path, &options).unwrap();
        assert_eq!(load(&path).unwrap(), model);
    }
}

#[cfg(unix)]
#[test]
fn permissions_are_those_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let mode = |name: &str| {
        fs::metadata(dir.path().join(name))
            .unwrap()
            .permissions()
            .mode()
    };
    fs::write(dir.path().join("plain"), "").unwrap();
    let model = model_with(vec![("a", weights(0, 5000))]);
    save(&model, &dir.path().join("m.onnx"), &EXTERNAL).unwrap();
    assert_eq!(mode("m.onnx"), mode("plain"));
    assert_eq!(mode("m.onnx.data"), mode("plain"));
}

#[cfg(unix)]
#[test]
fn devices_are_written_to_not_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("null");
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    let report = save(&full_model(), &path, &EXTERNAL).unwrap();
    assert_eq!(report.bytes, written(&full_model()).len() as u64);
    assert!(fs::metadata(&path).unwrap().file_type().is_char_device());
    assert_eq!(files(dir.path()), ["null"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    fs::write(dir.path().join("real/m.onnx"), "old").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("real/m.onnx", &link).unwrap();
    save(&full_model(), &link, &EXTERNAL).unwrap();
    assert!(link.is_symlink());
    assert_eq!(files(&dir.path().join("real")), ["m.onnx", "m.onnx.data"]);
    assert_eq!(load(&dir.path().join("real/m.onnx")).unwrap(), full_model());
}

#[test]
fn failures_leave_the_old_files_and_no_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    fs::write(&path, "old").unwrap();
    fs::create_dir(dir.path().join("m.onnx.data")).unwrap();
    let error = save(&full_model(), &path, &EXTERNAL)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot write ") && error.contains("m.onnx.data: "),
        "{error}"
    );
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(files(dir.path()), ["m.onnx", "m.onnx.data"]);
    assert!(save(&full_model(), dir.path(), &EXTERNAL).is_err());
    assert!(save(&full_model(), &dir.path().join("absent/m.onnx"), &EXTERNAL).is_err());
}

#[test]
fn a_writer_that_fails() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = write_to(&full_model(), Full).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot write the output stream: "),
        "{error}"
    );
}
