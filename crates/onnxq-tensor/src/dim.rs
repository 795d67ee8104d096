//! Symbolic dimensions (first cut: constants and symbols; the polynomial form replaces it).

use std::fmt;

use smallvec::SmallVec;

/// One dimension.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Dim(Option<std::sync::Arc<str>>);

/// Dimensions of a shape whose rank is known.
pub type Shape = SmallVec<[Dim; 4]>;

impl Dim {
    /// A dimension of which nothing is known.
    pub const UNKNOWN: Dim = Dim(None);

    /// A constant.
    pub fn known(value: i64) -> Dim {
        Dim(Some(value.to_string().into()))
    }

    /// Reads a `dim_param`: a name, or an expression such as `3*N`.
    pub fn parse(text: &str) -> Dim {
        Dim(Some(text.into()))
    }

    /// The value, if this is a constant.
    pub fn as_const(&self) -> Option<i64> {
        self.0.as_deref()?.parse().ok()
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("?"))
    }
}
