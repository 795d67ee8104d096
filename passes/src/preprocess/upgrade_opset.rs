//! Brings the model to a later opset of the standard domain, so that later passes meet one form of
//! each operator: 21 by default, where 16- and 4-bit types and blocked scales can be written.
//!
//! A model that is there or later is left alone. Never below 12: a target under it counts as 12.
//! Operators of other domains, and unknown ones, pass through.
//!
//! Where nodes cannot be brought to the target a warning names all of them, and the model goes to
//! the latest opset that every node can be brought to. It is an error if that is below 12.
//!
//! A model that is quantized already goes to 20 unless a target is given. From 21 on ONNX Runtime
//! (1.31 at least) refuses to load some of them: where it moves a DequantizeLinear of `int8` behind
//! a Transpose, it makes a QuantizeLinear of another type than its zero point.
//!
//! The version of the file format is raised to the one that came out with the opset. No import is
//! added.

use onnxq_ir::Model;
use onnxq_ops::upgrade::{self, Obstacle};
use onnxq_pass::{OptionInfo, OptionKind, Options, Pass, PassContext, PassError, PassInfo};

use super::constants_to_initializers::unlist_initializers;

pub(crate) const INFO: PassInfo = PassInfo {
    name: "upgrade-opset",
    summary: "bring the model to a later opset",
    options: &[OptionInfo {
        name: "target",
        kind: OptionKind::Int,
        default: "21",
        help: "the opset of the standard domain; 12 at least (20 if already quantized)",
    }],
    build,
};

/// Below this, operators take as attributes what they take as operands later, and quantized ones
/// are missing.
const LOWEST: i64 = 12;

/// What ONNX Runtime loads with any Q/DQ, whatever moves them.
const QUANTIZED: i64 = 20;

fn build(opts: &mut Options) -> Result<Box<dyn Pass>, onnxq_pass::Error> {
    let given = opts.is_given("target");
    let target = opts.take("target", 21)?;
    if !(1..=1000).contains(&target) {
        return Err(opts.invalid("target", "an opset version"));
    }
    Ok(Box::new(UpgradeOpset {
        target: target.max(LOWEST),
        given,
    }))
}

struct UpgradeOpset {
    target: i64,
    /// Whether somebody asked for this target.
    given: bool,
}

impl Pass for UpgradeOpset {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        let target = match !self.given && is_quantized(model) {
            true => QUANTIZED,
            false => self.target,
        };
        let from = |opset: Option<i64>| opset.is_some_and(|v| v < target);
        let behind = from(model.opset(""))
            || model
                .functions
                .values()
                .any(|f| from(f.opsets.get("").copied()));
        if !behind || !cx.begin_rewrite("upgrade-opset", format_args!("opset {}", target)) {
            return Ok(());
        }
        unlist_initializers(model, cx);
        forget_unused(model);
        let Err(obstacles) = upgrade::upgrade(model, target) else {
            return Ok(());
        };
        let lowest = model.opset("").unwrap_or(LOWEST).max(LOWEST);
        let mut nearest = (target - 1).max(lowest);
        while let Err(in_the_way) = upgrade::upgrade(model, nearest) {
            if nearest <= lowest {
                return Err(PassError::new(format_args!(
                    "the model cannot be brought to opset {lowest}: {}",
                    list(&in_the_way)
                ))
                .with_help(
                    "replace these nodes, or convert the model with the tool that wrote it",
                ));
            }
            nearest -= 1;
        }
        cx.warning(format_args!(
            "the model stays at opset {nearest} instead of {}: {}",
            target,
            list(&obstacles)
        ));
        Ok(())
    }
}

fn is_quantized(model: &Model) -> bool {
    let mut found = false;
    model.for_each_graph(|graph| {
        found |= graph.node_ids().any(|n| graph.is(n, "DequantizeLinear"));
    });
    found
}

/// Takes the types from results without uses: some change with the opset (the mask of a
/// `Dropout`), and nobody asks.
fn forget_unused(model: &mut Model) {
    model.for_each_graph_mut(|graph| {
        for n in graph.op_order() {
            for i in 0..graph.node(n).results.len() {
                let v = graph.result(n, i);
                if !graph.is_used(v) {
                    graph.set_type(v, None);
                }
            }
        }
    });
}

/// All obstacles in a line.
pub(super) fn list(obstacles: &[Obstacle]) -> String {
    let line = |o: &Obstacle| match o.graph.as_str() {
        "" => format!("node {}: {}", o.node, o.reason),
        graph => format!("graph '{graph}', node {}: {}", o.node, o.reason),
    };
    obstacles.iter().map(line).collect::<Vec<_>>().join("; ")
}
