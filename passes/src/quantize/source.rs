//! Where static quantization has its ranges from.
//!
//! No pass runs a model. Whoever starts a pipeline provides a [`RangeSource`] through the context,
//! and thereby makes `quantize` static.

use indexmap::IndexMap;
use onnxq_ir::Model;
use onnxq_quant::{CalibrationSpec, Ranges};

/// What makes `quantize` static: ranges, or a way to get them.
pub enum RangeSource {
    /// Ranges that are known.
    Table(Ranges),
    /// Data to observe the model on, as it enters `quantize`.
    Data(Box<dyn Calibrate>),
}

/// Observes a model on data.
pub trait Calibrate: Send + Sync {
    /// The ranges that the tensors of the request have, `progress` being told of how many samples
    /// are done, of how many.
    ///
    /// # Errors
    /// The data does not fit the model, the model does not run on it, or a value is not finite;
    /// the message names file, tensor and sample.
    fn calibrate(
        &self,
        model: &Model,
        request: &RangeRequest,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Ranges, String>;
}

/// What is to be known of a model.
#[derive(Clone, PartialEq, Debug)]
pub struct RangeRequest {
    /// The tensors by name, in any of the model's graphs, in graph order; for those that are to
    /// have a range for each channel, the axis.
    pub tensors: IndexMap<String, Option<i64>>,
    /// What to do with what is observed.
    pub spec: CalibrationSpec,
}
