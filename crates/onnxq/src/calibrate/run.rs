//! Runs a model on samples, side by side, with its tensors observed.

use std::path::Path;

use onnxq_ir::{Graph, Model, ValueId};
use onnxq_quant::{Observers, TensorObserver};
use onnxq_runtime::{Plan, View, Workspace};
use onnxq_tensor::{DType, Tensor};

use super::{
    CalibrationError, CalibrationOptions, OnSample,
    tensors::{Observed, is_float},
};
use crate::{
    Error,
    data::{Data, DataError, Sample},
};

/// Lets `observers` see the tensors of `model` on the samples of the options' shard.
pub(super) fn observe(
    model: &Model,
    data: &Data,
    options: &CalibrationOptions,
    observers: &Observers,
    progress: &mut OnSample<'_>,
) -> Result<(), Error> {
    options.shard.check()?;
    let samples = options.shard.samples(data.len());
    if samples.len() == 0 {
        return Err(CalibrationError::EmptyShard {
            samples: data.len(),
            shard: options.shard,
        }
        .into());
    }
    let (mut done, total) = (0, samples.len());
    progress(0, total);
    let observed = Observed::new(model, observers);
    let plan = Plan::observing(model, |graph, v| observed.get(graph, v).is_some())?;
    let work = Work {
        model,
        data,
        observed: &observed,
        plan: &plan,
    };
    let run = |workspace: &mut Workspace, sample, inputs: Sample| {
        work.observe(workspace, sample, &inputs)?;
        observers.sample_done(sample);
        Ok::<_, Error>(())
    };
    data.for_each(
        samples,
        options.threads,
        Workspace::new,
        run,
        &mut |_, ()| {
            done += 1;
            progress(done, total);
        },
    )
}

/// What the threads share.
struct Work<'a, 'p> {
    model: &'a Model,
    data: &'a Data,
    observed: &'a Observed<'a>,
    plan: &'a Plan<'p>,
}

impl Work<'_, '_> {
    fn observe(
        &self,
        workspace: &mut Workspace,
        sample: usize,
        inputs: &[Option<Tensor>],
    ) -> Result<(), Error> {
        let (file, _) = self.data.origin(sample)?;
        self.check_inputs(file, sample, inputs)?;
        let mut failure = None;
        let mut observe = |graph: &Graph, v: ValueId, view: &View<'_>| {
            let Some((name, observer)) = self.observed.get(graph, v) else {
                return;
            };
            if let Err(source) = see(observer, sample, view) {
                failure.get_or_insert_with(|| CalibrationError::Observe {
                    file: file.to_owned(),
                    sample,
                    tensor: name.to_owned(),
                    source,
                });
            }
        };
        let run = self.plan.run(workspace, inputs, &mut observe);
        // What is wrong with a tensor comes before what follows from it.
        if let Some(failure) = failure {
            return Err(failure.into());
        }
        run.map_err(|source| CalibrationError::Run {
            file: file.to_owned(),
            sample,
            source,
        })?;
        for buffer in inputs.iter().flatten().filter_map(Tensor::buffer) {
            buffer.release();
        }
        Ok(())
    }

    /// Refuses NaN and infinity in what the files hold.
    fn check_inputs(
        &self,
        file: &Path,
        sample: usize,
        inputs: &[Option<Tensor>],
    ) -> Result<(), DataError> {
        let graph = &self.model.graph;
        for (&n, tensor) in graph.inputs().iter().zip(inputs) {
            let Some(tensor) = tensor else { continue };
            let Some((element, value)) = not_finite(tensor) else {
                continue;
            };
            return Err(DataError::Array {
                path: file.to_owned(),
                array: graph.node(n).results[0].name.clone(),
                message: format!(
                    "is {value} at element {element} of sample {sample}, expected finite numbers"
                ),
            });
        }
        Ok(())
    }
}

/// Lets `observer` see a tensor, if it is one of floats.
fn see(observer: &TensorObserver, sample: usize, view: &View<'_>) -> onnxq_quant::Result<()> {
    match view.floats() {
        Some(floats) => observer.observe(sample, &floats, view.dims()),
        None if is_float(view.dtype()) => observer.observe_tensor(sample, &view.to_tensor()?),
        None => Ok(()),
    }
}

/// The first element that is NaN or infinite.
fn not_finite(tensor: &Tensor) -> Option<(usize, f64)> {
    fn find<T: onnxq_tensor::Element>(
        tensor: &Tensor,
        wide: impl Fn(T) -> f64,
    ) -> Option<(usize, f64)> {
        let values = tensor.as_slice::<T>().ok()?;
        let values = values.iter().map(|&v| wide(v));
        values.enumerate().find(|(_, v)| !v.is_finite())
    }
    match tensor.dtype() {
        DType::F32 => find::<f32>(tensor, f64::from),
        DType::F64 => find::<f64>(tensor, |v| v),
        DType::F16 => find::<half::f16>(tensor, f64::from),
        DType::BF16 => find::<half::bf16>(tensor, f64::from),
        _ => None,
    }
}
