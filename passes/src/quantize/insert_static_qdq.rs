//! Quantizes constants and what is computed, with parameters that are known beforehand.
//!
//! ```text
//! y = Relu(Conv(x, W, b))
//! =>
//! x_q = QuantizeLinear(x, x_scale, x_zero_point)
//! y_f = Conv(DequantizeLinear(x_q, ...), DequantizeLinear(W_quantized, ...), DequantizeLinear(b_quantized, ...))
//! y = DequantizeLinear(QuantizeLinear(y_f, y_scale, y_zero_point), ...)
//! ```
//!
//! Ranges come from the context ([`RangeSource`]): a table, or data to observe the model on. Given
//! the same ranges, scales, zero points, codes and biases are those of `quantize_static` of ONNX
//! Runtime 1.31, bit for bit. Which operators take part is told in [`rules`](super::static_qdq::rules).
//!
//! A Relu or Clip goes away where codes end where it does: its bounds hold 0, activations are
//! asymmetric, nothing else uses its operand, and the range of codes reaches no farther than its
//! bounds. A node stays float where a tensor of it has no range. What is quantized already, in a
//! model trained for it, keeps its parameters.
//!
//! Does nothing in dynamic mode. Raises the opset where Q/DQ need it: to 12, 13 for scales by
//! channel, 19 for scales that are not `float`, 21 for 4 and 16 bits and for blocks.

use onnxq_ir::Model;
use onnxq_ops::infer;
use onnxq_pass::{Error, Options, Pass, PassContext, PassError, PassInfo};
use onnxq_quant::Ranges;

use super::{
    collect::constant_bytes,
    require,
    source::RangeSource,
    static_qdq::{
        settings::{STATIC_OPTIONS, StaticSettings},
        smooth,
        work::Work,
    },
};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "insert-static-qdq",
    summary: "quantize constants and activations with parameters from calibrated ranges",
    options: STATIC_OPTIONS,
    build,
};

fn build(opts: &mut Options) -> Result<Box<dyn Pass>, Error> {
    let settings = StaticSettings::take(opts)?;
    Ok(Box::new(InsertStaticQdq { settings }))
}

struct InsertStaticQdq {
    settings: StaticSettings,
}

impl Pass for InsertStaticQdq {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        let settings = &self.settings;
        if !settings.mode.is_static(cx) {
            for key in &settings.static_only {
                cx.note(format_args!(
                    "`{key}` has no effect on dynamic quantization"
                ));
            }
            return Ok(());
        }
        let Some(source) = cx.get::<RangeSource>() else {
            let message = "static quantization needs calibration data or ranges";
            return Err(PassError::new(message).with_help(
                "give `--calibration-data` or `--ranges`, or quantize with `mode=dynamic`",
            ));
        };
        for complaint in settings.complaints(&model.graph) {
            cx.warning(complaint);
        }
        settings.overrides.check(model, settings.activation_type)?;
        let before = constant_bytes(model);
        // Only tensors that are known to be of floats are quantized.
        infer::annotate(model);
        let mut work = Work::new(model, settings);
        if require::opset(model, cx, work.least_opset())? {
            work = Work::new(model, settings);
        }
        let smoothed = match settings.smooth_alpha {
            Some(alpha) => {
                let smoothed = smooth::smooth(model, settings, alpha, &work.marks(), &source, cx)?;
                infer::annotate(model);
                work = Work::with(model, settings, smoothed.scalings);
                smoothed.table.map(RangeSource::Table)
            }
            None => None,
        };
        let source = smoothed.as_ref().unwrap_or(&source);
        let known = known(model, &work, source, cx)?;
        work.settle(model, &known, cx)?;
        let written = work.write(model, cx)?;
        if written.activations + written.weights > 0 {
            require::ir_version(model, IR_VERSION_OF_INITIALIZERS);
            if settings.contrib {
                model.opsets.entry("com.microsoft".to_owned()).or_insert(1);
            }
        }
        let after = constant_bytes(model);
        work.report(cx, written, before, after);
        Ok(())
    }
}

/// Before version 4 of the file format every initializer had to be an input as well.
const IR_VERSION_OF_INITIALIZERS: i64 = 4;

/// The ranges that are needed.
fn known(
    model: &Model,
    work: &Work<'_>,
    source: &RangeSource,
    cx: &mut PassContext,
) -> Result<Ranges, PassError> {
    match source {
        RangeSource::Table(ranges) => Ok(ranges.clone()),
        RangeSource::Data(data) => {
            let request = work.request(model);
            if request.tensors.is_empty() {
                return Ok(Ranges::default());
            }
            let mut progress = |done, total| cx.progress("samples", done, total);
            data.calibrate(model, &request, &mut progress)
                .map_err(PassError::new)
        }
    }
}
