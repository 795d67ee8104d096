//! Arrays in and out: cutting into samples, NumPy's formats, and what is refused.

use std::{fs, path::Path};

use onnxq::{
    data::{Batch, Data, DataError, stack, write_npz},
    ir::{Graph, Type},
    tensor::{DType, Dim, Tensor},
};

/// A graph with the inputs `name: dtype[dims]`; a dimension of 0 is symbolic.
fn graph(inputs: &[(&str, DType, &[usize])]) -> Graph {
    let mut g = Graph::new("g");
    for (name, dtype, dims) in inputs {
        let dim = |&d: &usize| {
            if d == 0 {
                Dim::symbol("N")
            } else {
                Dim::known(d as i64)
            }
        };
        g.add_input(
            *name,
            Some(Type::tensor(*dtype, Some(dims.iter().map(dim).collect()))),
        );
    }
    g
}

fn floats(dims: &[usize]) -> Tensor {
    let n: usize = dims.iter().product();
    Tensor::from_vec(dims, (0..n).map(|i| i as f32).collect()).unwrap()
}

fn npz(dir: &Path, name: &str, arrays: &[(&str, Tensor)]) -> std::path::PathBuf {
    let path = dir.join(name);
    let arrays: Vec<_> = arrays
        .iter()
        .map(|(n, t)| ((*n).to_owned(), t.clone()))
        .collect();
    write_npz(&path, &arrays).unwrap();
    path
}

fn dims(data: &Data, sample: usize, input: usize) -> Vec<usize> {
    data.sample(sample).unwrap()[input]
        .as_ref()
        .unwrap()
        .dims()
        .to_vec()
}

#[test]
fn a_symbolic_batch_is_cut_into_single_rows_or_by_batch() {
    let dir = tempfile::tempdir().unwrap();
    let g = graph(&[("x", DType::F32, &[0, 3])]);
    let path = npz(
        dir.path(),
        "d.npz",
        &[("x", floats(&[6, 3])), ("label", floats(&[6]))],
    );
    let data = Data::open(&path, &g, Batch::Auto).unwrap();
    assert_eq!((data.len(), dims(&data, 5, 0)), (6, vec![1, 3]));
    let last = data.sample(5).unwrap()[0].clone().unwrap();
    assert_eq!(*last.as_slice::<f32>().unwrap(), [15.0, 16.0, 17.0]);
    assert!(data.sample(6).is_err());
    let data = Data::open(&path, &g, Batch::Rows(2)).unwrap();
    assert_eq!((data.len(), dims(&data, 2, 0)), (3, vec![2, 3]));
    let data = Data::open(&path, &g, Batch::All).unwrap();
    assert_eq!((data.len(), dims(&data, 0, 0)), (1, vec![6, 3]));
    let error = Data::open(&path, &g, Batch::Rows(4))
        .unwrap_err()
        .to_string();
    assert!(error.contains("array 'x' has 6 rows"), "{error}");
}

#[test]
fn a_static_batch_counts_and_one_sample_serves_all() {
    let dir = tempfile::tempdir().unwrap();
    let g = graph(&[
        ("x", DType::F32, &[2, 3]),
        ("state", DType::F32, &[1, 4]),
        ("rate", DType::I64, &[]),
    ]);
    let rate = Tensor::scalar(16_000i64);
    let arrays = [
        ("x", floats(&[6, 3])),
        ("state", floats(&[1, 4])),
        ("rate", rate.clone()),
    ];
    let data = Data::open(&npz(dir.path(), "d.npz", &arrays), &g, Batch::Rows(5)).unwrap();
    assert_eq!(data.len(), 3);
    let sample = data.sample(2).unwrap();
    assert_eq!(sample[0].as_ref().unwrap().dims(), [2, 3]);
    assert_eq!(sample[1].as_ref().unwrap().dims(), [1, 4]);
    assert_eq!(sample[2], Some(rate));
    // Scalars can be stacked, too.
    let rates = Tensor::vector(vec![1i64, 2, 3]);
    let arrays = [
        ("x", floats(&[6, 3])),
        ("state", floats(&[1, 4])),
        ("rate", rates),
    ];
    let data = Data::open(&npz(dir.path(), "s.npz", &arrays), &g, Batch::Auto).unwrap();
    assert_eq!(data.sample(1).unwrap()[2], Some(Tensor::scalar(2i64)));
}

#[test]
fn what_does_not_fit_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let g = graph(&[("x", DType::F32, &[0, 3]), ("y", DType::I64, &[0])]);
    let y = Tensor::vector(vec![1i64, 2]);
    let refused = |arrays: &[(&str, Tensor)]| {
        let path = npz(dir.path(), "d.npz", arrays);
        Data::open(&path, &g, Batch::Auto).unwrap_err().to_string()
    };
    for (arrays, message) in [
        (
            vec![("x", floats(&[2, 3]))],
            "array 'y' is missing: the model needs int64[N]",
        ),
        (
            vec![("x", floats(&[2, 4])), ("y", y.clone())],
            "array 'x' is float[2, 4], expected float[N, 3]",
        ),
        (
            vec![("x", y.clone()), ("y", y.clone())],
            "array 'x' is int64[2], expected float[N, 3]",
        ),
        (
            vec![("x", floats(&[3, 3])), ("y", y)],
            "array 'y' makes 2 samples, another array 3",
        ),
    ] {
        let error = refused(&arrays);
        assert!(
            error.ends_with(message) && error.contains("d.npz"),
            "{error}"
        );
    }
    let error = Data::open(&dir.path().join("no.npz"), &g, Batch::Auto)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no.npz"), "{error}");
    fs::write(dir.path().join("bad.npz"), b"PK no").unwrap();
    let error = Data::open(&dir.path().join("bad.npz"), &g, Batch::Auto)
        .unwrap_err()
        .to_string();
    assert!(error.contains("is no .npz file"), "{error}");
}

/// An `.npy` file with this header and data.
fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    let padded = format!("{header:<117}\n");
    out.extend((padded.len() as u16).to_le_bytes());
    out.extend(padded.as_bytes());
    out.extend(data);
    out
}

#[test]
fn folders_are_read_in_name_order_and_npy_in_any_layout() {
    let dir = tempfile::tempdir().unwrap();
    let g = graph(&[("x", DType::F32, &[0, 2])]);
    let values = |v: &[f32]| v.iter().flat_map(|x| x.to_be_bytes()).collect::<Vec<u8>>();
    let fortran = "{'descr': '>f4', 'fortran_order': True, 'shape': (2, 2), }";
    fs::write(
        dir.path().join("b.npy"),
        npy(fortran, &values(&[1.0, 3.0, 2.0, 4.0])),
    )
    .unwrap();
    npz(dir.path(), "a.npz", &[("x", floats(&[1, 2]))]);
    fs::write(dir.path().join("readme.md"), "not data").unwrap();
    let data = Data::open(dir.path(), &g, Batch::Auto).unwrap();
    let rows: Vec<Vec<f32>> = (0..data.len())
        .map(|i| {
            data.sample(i).unwrap()[0]
                .as_ref()
                .unwrap()
                .as_slice()
                .unwrap()
                .into_owned()
        })
        .collect();
    assert_eq!(rows, [[0.0, 1.0], [1.0, 2.0], [3.0, 4.0]]);
}

#[test]
fn lying_headers_are_refused_without_much_memory() {
    let dir = tempfile::tempdir().unwrap();
    let g = graph(&[("x", DType::F32, &[0, 2])]);
    for (shape, message) in [
        ("(2, 2)", "has 4 bytes of data, expected 16"),
        (
            "(1000000000000, 2)",
            "has 4 bytes of data, expected 8000000000000",
        ),
        ("(9223372036854775807, 9223372036854775807)", "array 'x'"),
    ] {
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        let path = dir.path().join("x.npy");
        fs::write(&path, npy(&header, &[0; 4])).unwrap();
        let error = Data::open(&path, &g, Batch::Auto).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn every_type_that_numpy_has_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let types = [
        DType::F32,
        DType::F64,
        DType::F16,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::U8,
        DType::U16,
        DType::U32,
        DType::U64,
        DType::Bool,
    ];
    for dtype in types {
        let g = graph(&[("x", dtype, &[0])]);
        let t = Tensor::vector(vec![0f32, 1.0, 1.0])
            .cast(dtype, true)
            .unwrap();
        let path = npz(dir.path(), "t.npz", &[("x", t.clone())]);
        let data = Data::open(&path, &g, Batch::All).unwrap();
        assert_eq!(data.sample(0).unwrap()[0], Some(t));
    }
    let path = dir.path().join("out.npz");
    let complex = Tensor::vector(vec![[0f32, 1.0]]);
    let error = write_npz(&path, &[("z".to_owned(), complex)])
        .unwrap_err()
        .to_string();
    assert!(error.contains("output 'z'"), "{error}");
    assert!(!path.exists(), "nothing is left behind");
}

#[test]
fn results_of_samples_are_stacked_along_the_first_axis() {
    let both = stack("y", &[floats(&[1, 3]), floats(&[2, 3])]).unwrap();
    assert_eq!(both.dims(), [3, 3]);
    let scalars = stack("y", &[Tensor::scalar(1f32), Tensor::scalar(2f32)]).unwrap();
    assert_eq!(scalars.dims(), [2]);
    let error = stack("y", &[floats(&[1, 3]), floats(&[1, 4])]).unwrap_err();
    assert!(error.contains("output 'y'"), "{error}");
}

/// An archive as `numpy.savez_compressed` writes it.
fn deflated(dir: &Path, name: &str, arrays: &[(&str, Tensor)]) -> std::path::PathBuf {
    use std::io::{Read, Write};
    let stored = npz(dir, "stored.npz", arrays);
    let mut from = zip::ZipArchive::new(fs::File::open(stored).unwrap()).unwrap();
    let path = dir.join(name);
    let mut to = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    for i in 0..from.len() {
        let mut entry = from.by_index(i).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated);
        to.start_file(entry.name().unwrap().into_owned(), options)
            .unwrap();
        to.write_all(&bytes).unwrap();
    }
    to.finish().unwrap();
    path
}

#[test]
fn deflated_arrays_are_read_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let g = graph(&[("x", DType::F32, &[0, 3]), ("k", DType::F32, &[1])]);
    let arrays = [("x", floats(&[50, 3])), ("k", floats(&[1]))];
    let whole = Data::open(&npz(dir.path(), "d.npz", &arrays), &g, Batch::Auto).unwrap();
    let path = deflated(dir.path(), "z.npz", &arrays);
    let data = Data::open(&path, &g, Batch::Auto).unwrap();
    assert_eq!(data.len(), 50);
    for i in [0, 1, 2, 40, 7, 49, 49, 0] {
        assert_eq!(data.sample(i).unwrap(), whole.sample(i).unwrap(), "{i}");
    }
    let read = |data: &Data, range| {
        let samples = data.map::<_, onnxq::Error>(range, Some(4), |_, s| Ok(s));
        samples.unwrap()
    };
    assert_eq!(read(&data, 0..50), read(&whole, 0..50));
    assert_eq!(read(&data, 20..30), read(&whole, 0..50)[20..30]);
    let all = Data::open(&path, &g, Batch::All).unwrap();
    assert_eq!(all.sample(0).unwrap()[0], Some(floats(&[50, 3])));
}

#[test]
fn damaged_archives_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let g = graph(&[("x", DType::F32, &[0, 3])]);
    let path = deflated(dir.path(), "z.npz", &[("x", floats(&[5000, 3]))]);
    let mut bytes = fs::read(&path).unwrap();
    for at in (60..bytes.len() - 200).step_by(7) {
        bytes[at] ^= 0x55;
    }
    fs::write(&path, &bytes).unwrap();
    let read = Data::open(&path, &g, Batch::Auto)
        .and_then(|data| (0..5000).try_for_each(|i| data.sample(i).map(drop)));
    let message = read.unwrap_err().to_string();
    assert!(message.contains("z.npz"), "{message}");
}

#[test]
fn the_first_failure_is_reported() {
    let data = Data::from_samples((0..50).map(|i| vec![Some(Tensor::scalar(i as f32))]));
    for _ in 0..10 {
        let failed = data.map(0..data.len(), Some(4), |i, _| match i {
            11 | 12 | 40 => Err(DataError::NoSample(i)),
            i => Ok(i),
        });
        assert!(matches!(failed, Err(DataError::NoSample(11))));
    }
    assert_eq!(
        data.map::<_, DataError>(0..data.len(), None, |i, _| Ok(i))
            .unwrap(),
        Vec::from_iter(0..50)
    );
}
