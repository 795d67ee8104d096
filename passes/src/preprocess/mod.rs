//! Passes that make a model plain and small without changing what it computes.

mod batch_norm;
pub(crate) mod channels;
pub(crate) mod constants_to_initializers;
pub(crate) mod downgrade_opset;
pub(crate) mod eliminate_common_subexpressions;
pub(crate) mod eliminate_identities;
pub(crate) mod fold_constants;
pub(crate) mod fuse_bn_conv;
pub(crate) mod fuse_conv_bn;
pub(crate) mod fuse_conv_mul_add;
pub(crate) mod fuse_matmul_add;
pub(crate) mod fuse_pad;
mod graft;
pub(crate) mod infer_shapes;
pub(crate) mod inline_functions;
mod linear;
pub(crate) mod merge_constant_operands;
pub(crate) mod recognize_gelu;
pub(crate) mod recognize_normalization;
pub(crate) mod share_equal_initializers;
pub(crate) mod upgrade_opset;
