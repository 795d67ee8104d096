//! placeholder
/// placeholder
#[derive(Clone, PartialEq, Debug)]
pub struct Graph;
