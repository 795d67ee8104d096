//! Products as source text.

use onnxq_kernels::{Activation, Geometry, Line};

use super::PackedWeights;
use crate::program::{
    source::{Code, Expr, record},
    steps::added::Added,
};

/// A product as source text, into `product`. `left`, `offset` and `zero` are expressions for slices.
#[expect(clippy::too_many_arguments, reason = "the parts of a product")]
pub(in crate::program::steps) fn write_product(
    code: &mut Code<'_>,
    left: impl Into<Expr>,
    signed: bool,
    geometry: &Geometry,
    right: Expr,
    strides: [usize; 2],
    offset: impl Into<Expr>,
    zero: impl Into<Expr>,
) {
    let left = record!(Left {
        data: left,
        signed: signed,
        geometry: geometry,
    });
    let epilogue = record!(Epilogue {
        offset: offset,
        zero: zero,
    });
    let product = record!(Product {
        left: left,
        right: right,
        strides: strides,
        epilogue: epilogue,
    });
    code.bind("product", product);
}

/// Computes the offsets and the scales of each column as source text, into `offset` and `scales`, from expressions for the
/// zero point and the slice of scales of the left operand.
pub(in crate::program::steps) fn write_columns(
    code: &mut Code<'_>,
    weights: &PackedWeights,
    weight_zeros: Expr,
    weight_scale: &[f32],
    zero: &str,
    scale: &str,
) {
    code.scratch();
    let (columns, lines) = (weights.columns, Line::count(4 * weights.columns));
    code.line(&format!(
        "let (offset, scratch) = scratch.split_at_mut({lines});"
    ));
    code.bind(
        "offset",
        format!("&mut elements_mut::<i32>(offset)[..{columns}]"),
    );
    let sums = code.integers(&weights.sums);
    let depth = weights.column_len().into();
    let arguments = vec![zero.into(), sums, weight_zeros, depth, "offset".into()];
    code.call("zero_offsets", arguments);
    code.line(&format!(
        "let (scales, scratch) = scratch.split_at_mut({lines});"
    ));
    code.bind(
        "scales",
        format!("&mut elements_mut::<f32>(scales)[..{columns}]"),
    );
    let weight_scale = code.floats(weight_scale);
    code.call(
        "column_scales",
        vec![scale.into(), weight_scale, "scales".into()],
    );
}

/// How sums become bytes as source text, into `requantize`. `other` is an expression for the slice that
/// `added` adds, where the result does not have it.
pub(in crate::program::steps) fn write_requantize(
    code: &mut Code<'_>,
    scale: &[f32],
    zero: i32,
    bounds: [i32; 2],
    added: Option<(Added, Expr)>,
) {
    let residual = added.map(|(added, other)| added.write(other));
    let requantize = record!(Requantize {
        scale: code.floats(scale),
        zero: zero,
        bounds: bounds,
        residual: residual,
    });
    code.bind("requantize", requantize);
}

/// The operands `x`, `scale` and `zero` of a product with computed parameters, and its result `y`, as
/// parameters; gives an expression for the zero point.
pub(in crate::program::steps) fn write_dynamic_operands(
    code: &mut Code<'_>,
    has_zero: bool,
    signed: bool,
) -> &'static str {
    code.operand(0, "x", "u8");
    code.operand(1, "scale", "f32");
    if has_zero {
        code.operand(2, "zero", "u8");
    }
    code.result(0, "y", "f32");
    match (has_zero, signed) {
        (false, _) => "0",
        (true, false) => "i32::from(zero[0])",
        (true, true) => "i32::from(zero[0] as i8)",
    }
}

/// How sums become floats `y` as source text, into `output`.
pub(in crate::program::steps) fn write_floats(
    code: &mut Code<'_>,
    scale: impl Into<Expr>,
    bias: impl Into<Expr>,
    activation: Activation,
) {
    let fields = vec![
        ("y", "y".into()),
        ("scale", scale.into()),
        ("bias", bias.into()),
        ("activation", activation.into()),
    ];
    code.bind("output", Expr::Struct("Output::Floats", fields));
}

/// Runs `product` to `output`, as source text.
pub(in crate::program::steps) fn write_run(code: &mut Code<'_>, output: &str) {
    let arguments = vec![code.cpu(), output.into(), code.scratch()];
    code.call("product.run", arguments);
}
