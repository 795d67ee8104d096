//! Brings the model to an earlier opset of the standard domain, for a runtime that knows no later
//! one. It is part of no pipeline. Never below 7.
//!
//! What came later goes where it says nothing (an attribute that has its default), is said as it
//! was said then (an attribute that became an operand, where that is constant), or by operators that
//! there were (`CastLike`, `HardSwish`, `Gelu`, ...). Types tell what is allowed, so `infer-shapes`
//! comes before.
//!
//! Where nodes cannot be brought to the target a warning names all of them, and the model goes to
//! the earliest opset that every node can be brought to.

use onnxq_ir::Model;
use onnxq_ops::upgrade;
use onnxq_pass::{OptionInfo, OptionKind, Options, Pass, PassContext, PassError, PassInfo};

use super::upgrade_opset::list;

pub(crate) const INFO: PassInfo = PassInfo {
    name: "downgrade-opset",
    summary: "bring the model to an earlier opset",
    options: &[OptionInfo {
        name: "target",
        kind: OptionKind::Int,
        default: "13",
        help: "the opset of the standard domain; 7 at least",
    }],
    build,
};

/// Before, broadcasting and much else was said in other ways.
const LOWEST: i64 = 7;

fn build(opts: &mut Options) -> Result<Box<dyn Pass>, onnxq_pass::Error> {
    let target = opts.take("target", 13)?;
    if !(LOWEST..=1000).contains(&target) {
        return Err(opts.invalid("target", "an opset version from 7 on"));
    }
    Ok(Box::new(DowngradeOpset { target }))
}

struct DowngradeOpset {
    target: i64,
}

impl Pass for DowngradeOpset {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        let target = self.target;
        let of_functions = model.functions.values().map(|f| f.opsets.get("").copied());
        let opsets = of_functions.chain([model.opset("")]);
        let latest = opsets.flatten().max().unwrap_or(target);
        if latest <= target || !cx.begin_rewrite("downgrade-opset", format_args!("opset {target}"))
        {
            return Ok(());
        }
        let Err(obstacles) = upgrade::downgrade(model, target) else {
            return Ok(());
        };
        let nearest = (target + 1..latest).find(|&opset| upgrade::downgrade(model, opset).is_ok());
        cx.warning(format_args!(
            "the model stays at opset {} instead of {target}: {}",
            nearest.unwrap_or(latest),
            list(&obstacles)
        ));
        Ok(())
    }
}
