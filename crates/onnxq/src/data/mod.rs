//! Data for a model: arrays for its inputs, cut into samples.
//!
//! Read are `.npz` (keys are input names), `.npy` (models with one input), folders of such files in
//! the order of their names, and folders of ONNX test data (`test_data_set_*/input_*.pb`). Axis 0
//! of an array runs over samples: it is cut by the input's static batch size, else by `--batch`,
//! else one row each (`docs/cli` in the specification, "Data"). An array that makes one sample
//! only serves every sample of the others.
//!
//! Files are mapped, or inflated as far as is asked for: what a program has read of them takes no
//! memory once it is done with it ([`Tensor::buffer`] and its `release` give mapped memory back).

mod array;
mod npy;
mod walk;

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use onnxq_ir::{Graph, NodeId};
use onnxq_tensor::{DType, MappedFile, Tensor};

use array::Array;

/// How many rows of axis 0 make one sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Batch {
    /// The input's static batch size, else one.
    #[default]
    Auto,
    /// This many, where the input's batch size is not static.
    Rows(usize),
    /// Every array whole.
    All,
}

/// What is wrong with data.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum DataError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: array '{array}' {message}", path.display())]
    Array {
        path: PathBuf,
        array: String,
        message: String,
    },
    #[error("{}: {message}", path.display())]
    File { path: PathBuf, message: String },
    #[error("there is no sample {0}")]
    NoSample(usize),
}

impl DataError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> DataError + use<> {
        let path = path.to_owned();
        |source| DataError::Io { path, source }
    }

    fn array(path: &Path, array: &str, message: impl Into<String>) -> DataError {
        DataError::Array {
            path: path.to_owned(),
            array: array.to_owned(),
            message: message.into(),
        }
    }

    fn file(path: &Path, message: impl Into<String>) -> DataError {
        DataError::File {
            path: path.to_owned(),
            message: message.into(),
        }
    }
}

/// One sample: a tensor for each input in order; `None` where the model has a default.
pub type Sample = Vec<Option<Tensor>>;

/// Samples for a model.
#[derive(Debug, Default)]
pub struct Data {
    files: Vec<FileData>,
}

/// The arrays of one file, each cut into samples, by input.
#[derive(Debug)]
struct FileData {
    path: PathBuf,
    /// The number of its first sample; every file has one at least.
    first: usize,
    samples: usize,
    inputs: Vec<Option<Cut>>,
}

#[derive(Debug)]
struct Cut {
    array: Array,
    /// Rows of one sample; `None` where the array is one sample.
    rows: Option<usize>,
    /// Whether the input has no batch axis: a row is a sample without that axis.
    drop_axis: bool,
}

impl Data {
    /// Reads `path` for the inputs of `graph`.
    ///
    /// # Errors
    /// A file that cannot be read, a name, shape or element type that does not fit: names the
    /// file, the array, and what was expected.
    pub fn open(path: &Path, graph: &Graph, batch: Batch) -> Result<Data, DataError> {
        Data::open_all(&[path], graph, batch)
    }

    /// Reads each of `paths`, one after the other.
    ///
    /// # Errors
    /// As [`open`](Data::open).
    pub fn open_all(
        paths: &[impl AsRef<Path>],
        graph: &Graph,
        batch: Batch,
    ) -> Result<Data, DataError> {
        let mut data = Data::default();
        for path in paths.iter().map(AsRef::as_ref) {
            let before = data.len();
            data.add(path, graph, batch)?;
            if data.len() == before {
                return Err(DataError::file(path, "holds no samples"));
            }
        }
        Ok(data)
    }

    /// Samples in memory: a tensor for each input of the model in order, `None` where the model
    /// has a default.
    pub fn from_samples(samples: impl IntoIterator<Item = Sample>) -> Data {
        let whole = |tensor: Tensor| Cut {
            array: tensor.into(),
            rows: None,
            drop_axis: false,
        };
        let mut data = Data::default();
        for sample in samples {
            let inputs = sample.into_iter().map(|t| t.map(whole)).collect();
            data.push(Path::new("memory"), 1, inputs);
        }
        data
    }

    fn push(&mut self, path: &Path, samples: usize, inputs: Vec<Option<Cut>>) {
        if samples > 0 {
            self.files.push(FileData {
                path: path.to_owned(),
                first: self.len(),
                samples,
                inputs,
            });
        }
    }

    fn add(&mut self, path: &Path, graph: &Graph, batch: Batch) -> Result<(), DataError> {
        let meta = fs::metadata(path).map_err(DataError::io(path))?;
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        match extension {
            _ if meta.is_dir() => return self.add_folder(path, graph, batch),
            "npz" => {
                // Files often hold labels and the like as well.
                let names: HashSet<&str> = graph
                    .inputs()
                    .iter()
                    .map(|&n| input_name(graph, n))
                    .collect();
                let arrays = array::open_npz(path, |name| names.contains(name))?;
                self.add_arrays(path, arrays, graph, batch)?;
            }
            "npy" => {
                let input = match required_inputs(graph).as_slice() {
                    [n] => input_name(graph, *n).to_owned(),
                    inputs => {
                        let message =
                            format!("holds one array, but the model has {} inputs", inputs.len());
                        return Err(DataError::file(path, message));
                    }
                };
                let array = array::open_npy(path, &input)?;
                self.add_arrays(path, vec![(input, array)], graph, batch)?;
            }
            _ => {
                let message = "is none of .npz, .npy, a folder of such, or ONNX test data";
                return Err(DataError::file(path, message));
            }
        }
        Ok(())
    }

    fn add_arrays(
        &mut self,
        path: &Path,
        arrays: Vec<(String, Array)>,
        graph: &Graph,
        batch: Batch,
    ) -> Result<(), DataError> {
        let (samples, inputs) = cut(path, arrays, graph, batch)?;
        self.push(path, samples, inputs);
        Ok(())
    }

    fn add_folder(&mut self, path: &Path, graph: &Graph, batch: Batch) -> Result<(), DataError> {
        let mut entries: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(path).map_err(DataError::io(path))? {
            entries.push(entry.map_err(DataError::io(path))?.path());
        }
        entries.sort();
        let name = |p: &Path| {
            p.file_name()
                .and_then(|n| n.to_str())
                .unwrap_or("")
                .to_owned()
        };
        let is_input = |p: &Path| name(p).starts_with("input_") && name(p).ends_with(".pb");
        if entries.iter().any(|p| is_input(p)) {
            let arrays = read_test_data(&entries, graph)?;
            return self.add_arrays(path, arrays, graph, Batch::All);
        }
        for entry in &entries {
            let is_set = entry.is_dir() && name(entry).starts_with("test_data_set_");
            let is_file = matches!(
                entry.extension().and_then(|e| e.to_str()),
                Some("npz" | "npy")
            );
            if is_set || is_file {
                self.add(entry, graph, batch)?;
            }
        }
        Ok(())
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.files.last().map_or(0, |f| f.first + f.samples)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample `index`. Where arrays are compressed, samples are best read in order, as
    /// [`map`](Data::map) and [`for_each`](Data::for_each) do.
    ///
    /// # Errors
    /// There is no such sample, or its file cannot be read.
    pub fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let (file, at) = self.locate(index)?;
        let inputs = file.inputs.iter();
        inputs
            .map(|cut| cut.as_ref().map(|c| c.sample(at)).transpose())
            .collect()
    }

    /// The file that the sample `index` is in, and which of the file's samples it is.
    ///
    /// # Errors
    /// There is no such sample.
    pub fn origin(&self, index: usize) -> Result<(&Path, usize), DataError> {
        self.locate(index).map(|(file, at)| (&*file.path, at))
    }

    fn locate(&self, index: usize) -> Result<(&FileData, usize), DataError> {
        let after = self.files.partition_point(|f| f.first <= index);
        let file = after.checked_sub(1).map(|i| &self.files[i]);
        let file = file.filter(|f| index - f.first < f.samples);
        let file = file.ok_or(DataError::NoSample(index))?;
        Ok((file, index - file.first))
    }
}

impl Cut {
    /// The part of the array that is in sample `at` of the file.
    fn sample(&self, at: usize) -> Result<Tensor, DataError> {
        let Some(rows) = self.rows else {
            return self.array.whole();
        };
        let part = self.array.rows(at * rows..(at + 1) * rows)?;
        match self.drop_axis {
            // One row: as many elements without the axis.
            true => Ok(part.reshape(&part.dims()[1..]).unwrap_or(part)),
            false => Ok(part),
        }
    }
}

/// The inputs that have no default.
fn required_inputs(graph: &Graph) -> Vec<NodeId> {
    graph
        .inputs()
        .iter()
        .copied()
        .filter(|&n| graph.node(n).is_input())
        .collect()
}

fn input_name(graph: &Graph, n: NodeId) -> &str {
    &graph.node(n).results[0].name
}

fn read_test_data(files: &[PathBuf], graph: &Graph) -> Result<Vec<(String, Array)>, DataError> {
    let mut arrays = Vec::new();
    for (i, &n) in required_inputs(graph).iter().enumerate() {
        let name = format!("input_{i}.pb");
        let Some(path) = files.iter().find(|p| p.ends_with(&name)) else {
            continue;
        };
        let bytes = MappedFile::open(path).map_err(DataError::io(path))?;
        let file = path.to_string_lossy();
        let (_, tensor) = onnxq_onnx::tensor_from_bytes(&bytes, &file)
            .map_err(|e| DataError::file(path, e.to_string()))?;
        arrays.push((input_name(graph, n).to_owned(), tensor.into()));
    }
    Ok(arrays)
}

/// Cuts the arrays of a file; gives the number of samples, and the array of each input.
fn cut(
    path: &Path,
    arrays: Vec<(String, Array)>,
    graph: &Graph,
    batch: Batch,
) -> Result<(usize, Vec<Option<Cut>>), DataError> {
    let inputs = graph.inputs();
    let mut cuts: Vec<Option<Cut>> = inputs.iter().map(|_| None).collect();
    for (name, array) in arrays {
        let Some(i) = inputs.iter().position(|&n| input_name(graph, n) == name) else {
            continue;
        };
        cuts[i] = Some(cut_array(path, &name, array, graph, inputs[i], batch)?);
    }
    for (&n, cut) in inputs.iter().zip(&cuts) {
        if cut.is_none() && graph.node(n).is_input() {
            let wanted = describe_input(graph, n);
            return Err(DataError::array(
                path,
                input_name(graph, n),
                format!("is missing: the model needs {wanted}"),
            ));
        }
    }
    let count = |c: &Cut| c.rows.map(|rows| c.array.dims()[0] / rows.max(1));
    let counts: Vec<usize> = cuts.iter().flatten().filter_map(count).collect();
    let samples = counts.iter().copied().max().unwrap_or(1);
    for (cut, &n) in cuts.iter_mut().zip(inputs) {
        let Some(cut) = cut else { continue };
        match count(cut) {
            // One sample serves all.
            Some(1) if samples != 1 && !cut.drop_axis => cut.rows = None,
            Some(found) if found != samples => {
                return Err(DataError::array(
                    path,
                    input_name(graph, n),
                    format!("makes {found} samples, another array {samples}"),
                ));
            }
            _ => {}
        }
    }
    Ok((samples, cuts))
}

fn describe_input(graph: &Graph, n: NodeId) -> String {
    let ty = graph.node(n).results[0].ty.as_ref();
    let dtype = ty.and_then(|t| t.dtype()).map_or("?", DType::name);
    match ty.and_then(|t| t.shape()) {
        Some(shape) => {
            let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
            format!("{dtype}[{}]", dims.join(", "))
        }
        None => dtype.to_owned(),
    }
}

fn cut_array(
    path: &Path,
    name: &str,
    array: Array,
    graph: &Graph,
    n: NodeId,
    batch: Batch,
) -> Result<Cut, DataError> {
    let bad = |found: String| {
        let message = format!("is {found}, expected {}", describe_input(graph, n));
        DataError::array(path, name, message)
    };
    let ty = graph.node(n).results[0].ty.as_ref();
    if ty
        .and_then(|t| t.dtype())
        .is_some_and(|expected| expected != array.dtype())
    {
        return Err(bad(format!("{}{:?}", array.dtype(), array.dims())));
    }
    let Some(shape) = ty.and_then(|t| t.shape()) else {
        return Ok(Cut {
            array,
            rows: None,
            drop_axis: false,
        });
    };
    let fits = |dims: &[usize], from: usize| {
        let fixed = shape[from..].iter().map(onnxq_tensor::Dim::as_const);
        dims.len() == shape.len() - from
            && dims
                .iter()
                .zip(fixed)
                .all(|(&d, f)| f.is_none_or(|f| f == d as i64))
    };
    // An input without batch axis: the array may be the value, or values stacked.
    if shape.is_empty() {
        return match array.dims().len() {
            0 => Ok(Cut {
                array,
                rows: None,
                drop_axis: false,
            }),
            1 => Ok(Cut {
                array,
                rows: Some(1),
                drop_axis: true,
            }),
            _ => Err(bad(format!("{}{:?}", array.dtype(), array.dims()))),
        };
    }
    if array.dims().len() != shape.len() || !fits(&array.dims()[1..], 1) {
        return Err(bad(format!("{}{:?}", array.dtype(), array.dims())));
    }
    let rows = array.dims()[0];
    let static_rows = shape[0].as_const().and_then(|d| usize::try_from(d).ok());
    let size = match (batch, static_rows) {
        (Batch::All, _) => rows,
        (_, Some(size)) => size,
        (Batch::Rows(size), None) => size,
        (Batch::Auto, None) => 1,
    };
    if static_rows.is_some_and(|s| s != size) || size == 0 && rows != 0 {
        return Err(bad(format!("{}{:?}", array.dtype(), array.dims())));
    }
    if size == 0 {
        return Ok(Cut {
            array,
            rows: None,
            drop_axis: false,
        });
    }
    if !rows.is_multiple_of(size) {
        let message = format!("has {rows} rows, which samples of {size} rows do not divide");
        return Err(DataError::array(path, name, message));
    }
    Ok(Cut {
        array,
        rows: Some(size),
        drop_axis: false,
    })
}

/// Writes arrays as `.npz`, to a temporary file beside `path` that then takes its place.
///
/// # Errors
/// The file cannot be written, or NumPy has no such element type; `path` is untouched then.
pub fn write_npz(path: &Path, arrays: &[(String, Tensor)]) -> Result<(), DataError> {
    onnxq_onnx::write_file(path, |out| npy::write_npz(out, arrays)).map_err(DataError::io(path))
}

/// Results of all samples: each output's tensors along axis 0, scalars as a vector.
///
/// # Errors
/// Names the output whose shapes do not fit together.
pub fn stack(name: &str, parts: &[Tensor]) -> Result<Tensor, String> {
    match parts {
        [one] => Ok(one.clone()),
        _ => {
            let scalar = |t: &Tensor| {
                if t.rank() == 0 {
                    t.reshape([1].as_slice())
                } else {
                    Ok(t.clone())
                }
            };
            let parts: Result<Vec<Tensor>, _> = parts.iter().map(scalar).collect();
            parts.and_then(|p| Tensor::concat_rows(&p)).map_err(|e| {
                format!("output '{name}': the results of the samples do not fit together: {e}")
            })
        }
    }
}
