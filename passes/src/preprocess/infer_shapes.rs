//! Infers the type and shape of every value and writes them on the values.
//!
//! It never fails. What cannot be known stays unknown; under `-v` a line names the node and says
//! why. Where an annotation of the file contradicts what is inferred, a warning names both and the
//! inferred one counts. Annotations of values that no longer exist are gone, since types live on
//! the values themselves.

use onnxq_ir::Model;
use onnxq_ops::infer;
use onnxq_pass::{Pass, PassContext, PassError, PassInfo};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "infer-shapes",
    summary: "infer the types and shapes of all values",
    options: &[],
    build: |_| Ok(Box::new(InferShapes)),
};

struct InferShapes;

impl Pass for InferShapes {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        annotate(model, cx);
        Ok(())
    }
}

/// Writes inferred types into the model and says what contradicts what.
pub(super) fn annotate(model: &mut Model, cx: &mut PassContext) {
    for note in infer::annotate(model).notes {
        let place = match note.graph.as_str() {
            "" => String::new(),
            graph => format!("graph '{graph}', "),
        };
        let text = format!("{place}node {}: {}", note.node, note.message);
        if note.contradiction {
            cx.warning(text);
        } else {
            cx.verbose(text);
        }
    }
}
