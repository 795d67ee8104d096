//! Passes that make a model plain and small without changing what it computes.

pub(crate) mod eliminate_identities;
