//! The passes, by stage, and the pipelines made of them.
//!
//! `preprocess/` makes a model plain and small without changing what it computes, `quantize/`
//! inserts QuantizeLinear and DequantizeLinear, `fuse/` lowers them to integer operators. To add a
//! pass: one file, and one line in [`PASSES`]; `docs/passes.md` has the recipe.
//!
//! *Invariant*: no pass reaches the runtime or the kernels. What a pass needs from outside, such as
//! calibrated ranges, comes through its context.

use onnxq_pass::{PassInfo, PipelineInfo, Registry};

mod fuse;
mod preprocess;
mod quantize;

pub use quantize::{Calibrate, RangeRequest, RangeSource, feature_axis};

/// Every pass.
pub const PASSES: &[PassInfo] = &[
    // preprocess
    preprocess::inline_functions::INFO,
    preprocess::constants_to_initializers::INFO,
    preprocess::infer_shapes::INFO,
    preprocess::upgrade_opset::INFO,
    preprocess::downgrade_opset::INFO,
    preprocess::fold_constants::INFO,
    preprocess::eliminate_identities::INFO,
    preprocess::eliminate_common_subexpressions::INFO,
    preprocess::share_equal_initializers::INFO,
    preprocess::fuse_pad::INFO,
    preprocess::fuse_conv_bn::INFO,
    preprocess::fuse_matmul_add::INFO,
    preprocess::fuse_conv_mul_add::INFO,
    preprocess::fuse_bn_conv::INFO,
    preprocess::merge_constant_operands::INFO,
    preprocess::recognize_gelu::INFO,
    preprocess::recognize_normalization::INFO,
    // quantize
    quantize::fold_quantized_constants::INFO,
    quantize::insert_static_qdq::INFO,
    quantize::quantize_weights::INFO,
    quantize::insert_dynamic_qdq::INFO,
    // fuse
    fuse::fuse_clamp_quantize::INFO,
    fuse::eliminate_redundant_qdq::INFO,
    fuse::unsign_activations::INFO,
    fuse::carry_codes::INFO,
    fuse::fuse_dynamic_quantize::INFO,
    fuse::lower_gather::INFO,
    fuse::lower_matmul::INFO,
    fuse::lower_gemm::INFO,
    fuse::lower_conv::INFO,
    fuse::lower_lstm::INFO,
    fuse::lower_qgemm::INFO,
    fuse::lower_qlinear_conv::INFO,
    fuse::lower_qlinear_matmul::INFO,
    fuse::lower_qlinear_contrib::INFO,
    fuse::raise_qoperator::INFO,
];

/// Every pipeline. The order of passes matters; comments say where and why.
pub const PIPELINES: &[PipelineInfo] = &[
    PipelineInfo {
        name: "preprocess",
        summary: "make the model plain and small, computing the same",
        text: PREPROCESS,
    },
    PipelineInfo {
        name: "quantize",
        summary: "insert QuantizeLinear and DequantizeLinear",
        text: QUANTIZE,
    },
    PipelineInfo {
        name: "fuse",
        summary: "lower QuantizeLinear and DequantizeLinear to integer operators",
        text: FUSE,
    },
];

/// - Calls are inlined first, since weights and operators inside are to be seen.
/// - Constants come next: everything after looks for them in one form.
/// - Upgrading asks for ranks, so shapes are inferred before it; and again after, because new
///   nodes have none and types decide what can be folded and dropped.
/// - Dropping what does nothing lets more be constant (a `CastLike` of a constant), folding makes
///   shapes constant, by which more does nothing: hence it comes before and after.
/// - Common subexpressions are found by operands, so equal constants are shared before.
/// - Decomposed operators are recognized before arithmetic is fused into what is around them.
/// - Arithmetic is fused where operands and types are final. Of what could go into the operator
///   before or behind it, the one before comes first: it has no conditions on padding.
/// - What is left of arithmetic with constants is merged when nothing could take it up.
/// - Of models that are quantized already, weights become codes, and what says nothing new is dropped.
/// - Types at the end are those of what is left.
const PREPROCESS: &str = "inline-functions,constants-to-initializers,\
    infer-shapes,upgrade-opset,infer-shapes,\
    eliminate-identities,fold-constants,infer-shapes,eliminate-identities,\
    share-equal-initializers,eliminate-common-subexpressions,\
    recognize-gelu,recognize-normalization,\
    fuse-pad,fuse-conv-bn,fuse-matmul-add,fuse-conv-mul-add,fuse-bn-conv,merge-constant-operands,\
    fold-quantized-constants,eliminate-redundant-qdq,\
    infer-shapes";

/// Static quantization does it all in one pass, and then the passes of dynamic quantization nothing;
/// or the other way round. Dynamic: weights first, since what is multiplied with one in codes is
/// quantized after it.
const QUANTIZE: &str =
    "fold-quantized-constants,insert-static-qdq,quantize-weights,insert-dynamic-qdq";

/// - What is redundant goes first: a product is lowered where nothing is between it and the
///   QuantizeLinear of its result, and that is the only one. Clamps go before, since two of those
///   may be equal once nothing is between.
/// - Codes get another type while all that reads them is DequantizeLinear.
/// - Codes are carried before tables are looked up, which gives floats.
/// - What quantizes activations while the model runs comes before what looks for it.
/// - QGemm takes a Gemm with all it has, QLinearMatMul those without a bias. Otherwise the lowerings do
///   not depend on each other.
const FUSE: &str = "fuse-clamp-quantize,eliminate-redundant-qdq,\
    unsign-activations,carry-codes,\
    fuse-dynamic-quantize,\
    lower-gather,lower-matmul,lower-gemm,lower-conv,lower-lstm,\
    lower-qgemm,lower-qlinear-conv,lower-qlinear-matmul,lower-qlinear-contrib";

/// The registry of all passes and pipelines.
pub fn registry() -> Registry {
    Registry::new(PASSES, PIPELINES)
}

#[cfg(test)]
mod tests {
    #[test]
    fn declarations_are_consistent() {
        super::registry().check().unwrap();
    }
}
