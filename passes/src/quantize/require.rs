//! What the file format must offer for what is about to be inserted.

use onnxq_ir::{Graph, Model};
use onnxq_ops::{infer, upgrade};
use onnxq_pass::{PassContext, PassError};

/// Brings the model to opset `least` of the standard domain, if it is below, and says so.
pub(crate) fn opset(
    model: &mut Model,
    cx: &mut PassContext,
    least: i64,
) -> Result<bool, PassError> {
    let from = model.opset("").unwrap_or(1);
    if from >= least {
        return Ok(false);
    }
    ir_version(model, upgrade::ir_version_for(least));
    // Some conversions depend on types.
    infer::annotate(model);
    upgrade::upgrade(model, least).map_err(|obstacles| {
        let nodes: Vec<String> = obstacles
            .iter()
            .map(|o| format!("{} in graph '{}': {}", o.node, o.graph, o.reason))
            .collect();
        PassError::new(format_args!(
            "opset {least} is needed and the model, of opset {from}, cannot be converted: {}",
            nodes.join("; ")
        ))
    })?;
    cx.note(format_args!(
        "converted from opset {from} to {least}, which the quantized form needs"
    ));
    Ok(true)
}

/// Raises the version of the file format to at least `least`.
///
/// Up to version 3 every initializer is also listed as an input and none can be overridden; from
/// version 4 on being listed means that callers may. They could not, so they are taken off the
/// list.
pub(crate) fn ir_version(model: &mut Model, least: i64) {
    if model.ir_version >= least {
        return;
    }
    if model.ir_version < 4 {
        model.for_each_graph_mut(|graph: &mut Graph| {
            for n in graph.inputs().to_vec() {
                graph.unlist_constant(n);
            }
        });
    }
    model.ir_version = least;
}
