//! Passes that make a model plain and small without changing what it computes.

pub(crate) mod constants_to_initializers;
pub(crate) mod eliminate_common_subexpressions;
pub(crate) mod eliminate_identities;
pub(crate) mod fold_constants;
mod graft;
pub(crate) mod infer_shapes;
pub(crate) mod inline_functions;
pub(crate) mod share_equal_initializers;
pub(crate) mod upgrade_opset;
