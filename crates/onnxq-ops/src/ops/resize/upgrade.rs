//! Upsample and early Resize as Resize of today, with the same meaning.

use onnxq_ir::{Attr, ValueId};
use onnxq_tensor::Tensor;

use super::operators::scales_attr;
use crate::{UpgradeContext, UpgradeError, ops::numeric::Real};

pub(super) fn upsample(cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
    if cx.from() < 9 {
        let scales = scales_attr(cx.op());
        let scales = scales.ok_or_else(|| UpgradeError::new("it has no scales"))?;
        if cx.crosses(7) && cx.to() < 9 {
            set(cx, "scales", Attr::Floats(scales));
            for key in ["height_scale", "width_scale"] {
                cx.op_mut().attrs.shift_remove(key);
            }
            return Ok(());
        }
        if cx.to() >= 9 {
            for key in ["scales", "height_scale", "width_scale"] {
                cx.op_mut().attrs.shift_remove(key);
            }
            cx.set_constant(1, "scales", Tensor::vector(scales));
        }
    }
    if cx
        .op()
        .str("mode")
        .is_some_and(|m| m == "bilinear" || m == "trilinear")
    {
        set(cx, "mode", Attr::string("linear"));
    }
    if cx.crosses(10) {
        cx.op_mut().op_type = "Resize".to_owned();
    }
    if cx.crosses(11) {
        modern(cx)?;
    }
    Ok(())
}

pub(super) fn resize(cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
    if cx.crosses(11) {
        return modern(cx);
    }
    let mode = "coordinate_transformation_mode";
    if cx.crosses(13) && cx.op().str(mode) == Some("tf_half_pixel_for_nn") {
        // Without the shift by half a pixel; other rounding makes up for that.
        let rounding = match cx.op().str("nearest_mode").unwrap_or("round_prefer_floor") {
            "floor" => "round_prefer_ceil",
            "round_prefer_floor" => "ceil",
            other => {
                let reason = format!("'tf_half_pixel_for_nn' with rounding '{other}'");
                return Err(UpgradeError::new(reason));
            }
        };
        set(cx, mode, Attr::string("half_pixel"));
        set(cx, "nearest_mode", Attr::string(rounding));
    }
    Ok(())
}

/// From operands X, scales to X, roi, scales, with the attributes that say what was implied.
fn modern(cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
    let nearest = cx.op().str("mode").unwrap_or("nearest") == "nearest";
    let scales = cx.operand(1);
    let known = scales.and_then(|v| cx.graph.tensor(v));
    let known = known.and_then(|t| f32::read(t).ok());
    // `nearest` rounded down on axes that grow, and up on those that shrink.
    let shrinks = known.as_ref().is_some_and(|s| s.iter().any(|&s| s < 1.0));
    let grows = known.as_ref().is_some_and(|s| s.iter().any(|&s| s > 1.0));
    if nearest && shrinks && grows {
        return Err(UpgradeError::new(
            "it enlarges one axis and shrinks another",
        ));
    }
    set(
        cx,
        "coordinate_transformation_mode",
        Attr::string("asymmetric"),
    );
    if nearest {
        let rounding = if shrinks { "ceil" } else { "floor" };
        set(cx, "nearest_mode", Attr::string(rounding));
    }
    let x = cx.operand(0);
    // Until 13 the operand had to be there.
    let roi: Option<ValueId> = (cx.to() < 13).then(|| {
        let name = cx.derived("roi");
        cx.graph
            .add_constant(name, Tensor::vector::<f32>(Vec::new()))
    });
    cx.graph.set_operands(cx.node, &[x, roi, scales]);
    Ok(())
}

fn set(cx: &mut UpgradeContext<'_>, key: &str, value: Attr) {
    cx.op_mut().attrs.insert(key.to_owned(), value);
}
