use crate::Operator;
pub(super) static OPERATORS: &[&dyn Operator] = &[];
