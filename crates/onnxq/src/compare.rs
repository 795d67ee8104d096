//! [`compare`]: two models on the same data, output by output.
//!
//! Samples run in parallel and are dropped when they are compared; figures are collected in the
//! order of the samples.

use onnxq_ir::{Graph, Model};
use onnxq_tensor::{DType, Tensor};

use crate::{
    Executor, RunError,
    data::{Data, DataError, Sample},
    distance::Distance,
};

/// What two models make of the same data.
#[derive(Clone, PartialEq, Debug)]
pub struct Comparison {
    /// How many samples were run.
    pub samples: usize,
    /// In the order of the first model.
    pub outputs: Vec<OutputComparison>,
}

/// One output of two models.
#[derive(Clone, PartialEq, Debug)]
pub struct OutputComparison {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// The distance of the second model from the first.
    pub distance: Distance,
    /// Where it has two dimensions: in how many rows the largest element is in the same place.
    pub top1: Option<Agreement>,
}

/// In how many of the rows two outputs agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Agreement {
    pub agreeing: u64,
    pub rows: u64,
}

impl Agreement {
    /// The part that agrees; 1 of no rows.
    pub fn share(self) -> f64 {
        match self.rows {
            0 => 1.0,
            rows => self.agreeing as f64 / rows as f64,
        }
    }
}

/// Why two models cannot be compared.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum CompareError {
    #[error("input '{name}' is {second} in the second model, {first} in the first")]
    Input {
        name: String,
        first: String,
        second: String,
    },
    #[error("output '{name}' is in the {place} model only")]
    Output { name: String, place: &'static str },
    #[error("the models have no outputs")]
    NoOutputs,
    #[error(
        "sample {sample}: output '{name}' is {first} in the first model, {second} in the second"
    )]
    Shape {
        sample: usize,
        name: String,
        first: String,
        second: String,
    },
    #[error("output '{name}' is of {dtype}, which has no distance")]
    NoDistance { name: String, dtype: DType },
    #[error("the {place} model: sample {sample}: {source}")]
    Run {
        place: &'static str,
        sample: usize,
        source: RunError,
    },
    #[error(transparent)]
    Data(#[from] DataError),
}

/// Runs both models on every sample of `data`, which is for the first of them; the second has
/// inputs of the same names. `done` is called after every sample.
///
/// # Errors
/// Inputs or outputs differ in name, type or shape, or a model does not run.
pub fn compare(
    first: &Model,
    second: &Model,
    data: &Data,
    threads: Option<usize>,
    done: &(dyn Fn() + Sync),
) -> Result<Comparison, CompareError> {
    let inputs = pair_inputs(&first.graph, &second.graph)?;
    let outputs = pair_outputs(&first.graph, &second.graph)?;
    let executors = [Executor::new(first), Executor::new(second)];
    let run = |i: usize, sample: Sample| -> Result<Vec<OutputComparison>, CompareError> {
        let run = |model: usize, sample: &Sample| {
            let failed = |source| CompareError::Run {
                place: PLACES[model],
                sample: i,
                source,
            };
            executors[model].run(sample).map_err(failed)
        };
        let second = arrange(&sample, &inputs);
        let (a, b) = (run(0, &sample)?, run(1, &second)?);
        let pairs = a.iter().zip(outputs.iter().map(|&o| &b[o]));
        let named = pairs.zip(&first.graph.outputs);
        let figures = named.map(|((a, b), output)| figures(i, &output.name, a, b));
        let figures = figures.collect::<Result<Vec<_>, _>>()?;
        done();
        Ok(figures)
    };
    let samples = data.map(0..data.len(), threads, run)?;
    let mut outputs: Vec<OutputComparison> = Vec::new();
    let count = samples.len();
    for sample in samples {
        if outputs.is_empty() {
            outputs = sample;
            continue;
        }
        for (whole, part) in outputs.iter_mut().zip(&sample) {
            whole.merge(part);
        }
    }
    Ok(Comparison {
        samples: count,
        outputs,
    })
}

const PLACES: [&str; 2] = ["first", "second"];

/// For each input of `second`, where it is among those of `first`; `None` for one with a default
/// that `first` does not have.
///
/// # Errors
/// Names the input that only one of them has.
pub(crate) fn pair_inputs(
    first: &Graph,
    second: &Graph,
) -> Result<Vec<Option<usize>>, CompareError> {
    let name = |graph: &Graph, n| graph.value(graph.result(n, 0)).name.clone();
    let names: Vec<String> = first.inputs().iter().map(|&n| name(first, n)).collect();
    let missing = |name: String, first: &str, second: &str| CompareError::Input {
        name,
        first: first.to_owned(),
        second: second.to_owned(),
    };
    let mut used = vec![false; names.len()];
    let mut places = Vec::new();
    for &n in second.inputs() {
        let name = name(second, n);
        let place = names.iter().position(|first| *first == name);
        match place {
            Some(place) => used[place] = true,
            None if second.node(n).is_input() => return Err(missing(name, "missing", "required")),
            None => {}
        }
        places.push(place);
    }
    for ((&n, name), used) in first.inputs().iter().zip(names).zip(used) {
        if !used && first.node(n).is_input() {
            return Err(missing(name, "required", "missing"));
        }
    }
    Ok(places)
}

/// The inputs of a sample in the order of another model.
pub(crate) fn arrange(sample: &Sample, places: &[Option<usize>]) -> Sample {
    let place = |&place: &Option<usize>| sample.get(place?)?.clone();
    places.iter().map(place).collect()
}

/// For each output of `first`, where it is among those of `second`.
fn pair_outputs(first: &Graph, second: &Graph) -> Result<Vec<usize>, CompareError> {
    let only = |name: &str, place: usize| CompareError::Output {
        name: name.to_owned(),
        place: PLACES[place],
    };
    let of = |graph: &Graph, name: &str| graph.outputs.iter().position(|o| o.name == name);
    let mut places = Vec::new();
    for output in &first.outputs {
        let place = of(second, &output.name);
        places.push(place.ok_or_else(|| only(&output.name, 0))?);
    }
    if let Some(extra) = second.outputs.iter().find(|o| of(first, &o.name).is_none()) {
        return Err(only(&extra.name, 1));
    }
    if places.is_empty() {
        return Err(CompareError::NoOutputs);
    }
    Ok(places)
}

/// The figures of one sample of one output.
fn figures(
    sample: usize,
    name: &str,
    first: &Tensor,
    second: &Tensor,
) -> Result<OutputComparison, CompareError> {
    if first.dtype() != second.dtype() || first.dims() != second.dims() {
        return Err(CompareError::Shape {
            sample,
            name: name.to_owned(),
            first: format!("{first:?}"),
            second: format!("{second:?}"),
        });
    }
    let dtype = first.dtype();
    let distance = Distance::between(first, second);
    let distance = distance.map_err(|_| CompareError::NoDistance {
        name: name.to_owned(),
        dtype,
    })?;
    Ok(OutputComparison {
        name: name.to_owned(),
        dtype,
        distance,
        top1: agreement(first, second),
    })
}

impl OutputComparison {
    fn merge(&mut self, later: &OutputComparison) {
        self.distance.merge(&later.distance);
        if let (Some(whole), Some(part)) = (&mut self.top1, later.top1) {
            whole.agreeing += part.agreeing;
            whole.rows += part.rows;
        }
    }
}

/// In how many rows of two matrices the largest element, the first of them, is in the same place.
fn agreement(first: &Tensor, second: &Tensor) -> Option<Agreement> {
    let &[rows, columns] = first.dims() else {
        return None;
    };
    let (first, second) = (first.to_f64s().ok()?, second.to_f64s().ok()?);
    let largest = |row: &[f64]| {
        let mut best = 0;
        for (i, v) in row.iter().enumerate() {
            if *v > row[best] {
                best = i;
            }
        }
        best
    };
    if columns == 0 {
        return None;
    }
    let pairs = first.chunks(columns).zip(second.chunks(columns));
    let agreeing = pairs.filter(|(a, b)| largest(a) == largest(b)).count();
    Some(Agreement {
        agreeing: agreeing as u64,
        rows: rows as u64,
    })
}
