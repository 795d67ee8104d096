
/// An index that is out of bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexError {
    /// The node that looks for it.
    pub node: &'static str,
    /// The index.
    pub index: i64,
    /// How many entries there are.
    pub entries: usize,
}

impl core::fmt::Display for IndexError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let IndexError {
            node,
            index,
            entries,
        } = self;
        write!(f, "{node}: index {index} of {entries} entries")
    }
}

impl core::error::Error for IndexError {}
