//! [`Session`]: a pipeline, with what static quantization needs and with whom to tell.

use onnxq_ir::Model;
use onnxq_pass::{
    Config, Instrumentation, Message, PassContext, PassManager, Pipeline, Progress, Registry,
    Summary,
};
use onnxq_passes::{Calibrate, RangeSource};
use onnxq_quant::Ranges;

use crate::{Error, calibrate::Calibrator, data::Data};

/// A run of a pipeline over a model. Given ranges, or data to find them on, `quantize` is static.
///
/// ```
/// use onnxq::{Session, data::Data, tensor::Tensor};
///
/// let mut model = onnxq::parse(
///     r#"<ir_version: 10, opset_import: ["": 21]>
///     main (float[N, 2] x) => (float[N, 2] y)
///     <float[2, 2] w = {1, -2, 3, 4}>
///     { y = MatMul (x, w) }"#,
/// )?;
/// let samples = [[1.0f32, 2.0], [-0.5, 3.0]]
///     .map(|x| vec![Some(Tensor::from_vec([1, 2].as_slice(), x.to_vec()).unwrap())]);
/// Session::new("preprocess,quantize")
///     .calibration_data(Data::from_samples(samples))
///     .run(&mut model)?;
/// # Ok::<(), onnxq::Error>(())
/// ```
///
/// Files of calibration data are read sample by sample:
///
/// ```no_run
/// use onnxq::{Calibrator, Session, data::Batch};
///
/// let mut model = onnxq::load("model.onnx")?;
/// Session::new("preprocess,quantize{calibration-method=percentile},fuse")
///     .calibrator(Calibrator::files(["calib.npz"], Batch::Auto))
///     .on_progress(|p| eprintln!("{p:?}"))
///     .run(&mut model)?;
/// # Ok::<(), onnxq::Error>(())
/// ```
pub struct Session<'a> {
    pipeline: &'a str,
    registry: Option<&'a Registry>,
    threads: usize,
    ranges: Option<RangeSource>,
    cx: PassContext,
}

impl<'a> Session<'a> {
    /// A run of `pipeline`, such as `preprocess,quantize,fuse`.
    pub fn new(pipeline: &'a str) -> Session<'a> {
        Session {
            pipeline,
            registry: None,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            ranges: None,
            cx: PassContext::new(),
        }
    }

    /// With the passes in `registry`, which may have some of your own.
    #[must_use]
    pub fn registry(mut self, registry: &'a Registry) -> Session<'a> {
        self.registry = Some(registry);
        self
    }

    /// With this many threads instead of one for each core.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Session<'a> {
        self.threads = threads.max(1);
        self
    }

    /// With ranges for static quantization, such as a [`RangeTable`](onnxq_quant::tables::RangeTable)
    /// holds.
    #[must_use]
    pub fn ranges(mut self, ranges: Ranges) -> Session<'a> {
        self.ranges = Some(RangeSource::Table(ranges));
        self
    }

    /// With data to calibrate static quantization on.
    #[must_use]
    pub fn calibration_data(self, data: Data) -> Session<'a> {
        let threads = self.threads;
        self.calibrator(Calibrator::data(data).threads(threads))
    }

    /// With a way of your own, or a [`Calibrator`] of files, to find the ranges for static
    /// quantization.
    #[must_use]
    pub fn calibrator(mut self, calibrator: impl Calibrate + 'static) -> Session<'a> {
        self.ranges = Some(RangeSource::Data(Box::new(calibrator)));
        self
    }

    /// With a function that gets each message at once.
    #[must_use]
    pub fn on_message(mut self, f: impl FnMut(&Message) + 'static) -> Session<'a> {
        self.cx = self.cx.on_message(f);
        self
    }

    /// With a function that learns how far the work has come.
    #[must_use]
    pub fn on_progress(mut self, f: impl FnMut(Progress<'_>) + 'static) -> Session<'a> {
        self.cx = self.cx.on_progress(f);
        self
    }

    /// Runs the pipeline.
    ///
    /// # Errors
    /// The pipeline is misspelt, or a pass fails; the model is in no particular state then.
    pub fn run(self, model: &mut Model) -> Result<Summary, Error> {
        let own;
        let registry = match self.registry {
            Some(registry) => registry,
            None => {
                own = crate::registry();
                &own
            }
        };
        let pipeline = Pipeline::parse(self.pipeline)?;
        let mut manager = PassManager::new(registry, &pipeline, &Config::default())?;
        let mut cx = self.cx.with_threads(self.threads);
        if let Some(ranges) = self.ranges {
            cx.provide(ranges);
        }
        Ok(manager.run(model, &mut cx, &mut Instrumentation::default())?)
    }
}
