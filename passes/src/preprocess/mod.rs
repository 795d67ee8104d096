//! Passes that make a model plain and small without changing what it computes.

pub(crate) mod constants_to_initializers;
pub(crate) mod eliminate_identities;
pub(crate) mod infer_shapes;
pub(crate) mod upgrade_opset;
