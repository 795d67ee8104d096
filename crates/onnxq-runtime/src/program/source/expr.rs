//! Expressions and statements of Rust, laid out as rustfmt does.
//!
//! Only the forms that steps need: nothing is broken but lists of fields, arguments and elements,
//! so that the rules are few.

use std::fmt;

/// Columns of a line.
const WIDTH: usize = 100;

/// What a list of arguments or elements may take on one line.
const LIST_WIDTH: usize = 60;

/// What the fields of a struct may take on one line.
const FIELDS_WIDTH: usize = 18;

/// An expression.
#[derive(Clone, Debug)]
pub(in crate::program) enum Expr {
    /// Anything that stays on one line.
    Text(String),
    /// A struct with its fields.
    Struct(&'static str, Vec<(&'static str, Expr)>),
    /// A call, or a variant with its value.
    Call(String, Vec<Expr>),
    /// A list of elements.
    Array(Vec<Expr>),
}

impl Expr {
    /// The text, which is to begin at column `at` of a line that is indented by `indent`, and has
    /// `after` more columns behind it.
    pub(super) fn layout(&self, indent: usize, at: usize, after: usize) -> String {
        if let Some(line) = self.line()
            && at + line.len() + after <= WIDTH
        {
            return line;
        }
        match self {
            Expr::Text(text) => text.clone(),
            Expr::Struct(name, fields) => {
                let fields = fields.iter().map(|(name, value)| match value {
                    Expr::Text(text) if text == name => text.clone(),
                    value => {
                        let at = indent + 4 + name.len() + 2;
                        format!("{name}: {}", value.layout(indent + 4, at, 1))
                    }
                });
                format!("{name} {}", vertical('{', '}', fields, indent))
            }
            Expr::Call(name, arguments) => {
                // A single argument opens on the same line.
                if let [only @ (Expr::Struct(..) | Expr::Call(..))] = &arguments[..] {
                    let inner = only.layout(indent, at + name.len() + 1, after + 1);
                    return format!("{name}({inner})");
                }
                let arguments = arguments
                    .iter()
                    .map(|a| a.layout(indent + 4, indent + 4, 1));
                format!("{name}{}", vertical('(', ')', arguments, indent))
            }
            Expr::Array(elements) => {
                let elements = elements.iter().map(|e| e.layout(indent + 4, indent + 4, 1));
                vertical('[', ']', elements, indent)
            }
        }
    }

    /// The text, if it may be one line by its parts.
    fn line(&self) -> Option<String> {
        let list = |items: &[Expr]| -> Option<String> {
            let items: Option<Vec<String>> = items.iter().map(Expr::line).collect();
            let text = items?.join(", ");
            (text.len() <= LIST_WIDTH).then_some(text)
        };
        match self {
            Expr::Text(text) => Some(text.clone()),
            Expr::Struct(name, fields) => {
                let fields = fields.iter().map(|(name, value)| match value {
                    Expr::Text(text) if text == name => Some(text.clone()),
                    value => Some(format!("{name}: {}", value.line()?)),
                });
                let fields = fields.collect::<Option<Vec<_>>>()?.join(", ");
                (fields.len() <= FIELDS_WIDTH).then(|| format!("{name} {{ {fields} }}"))
            }
            Expr::Call(name, arguments) => Some(format!("{name}({})", list(arguments)?)),
            Expr::Array(elements) => Some(format!("[{}]", list(elements)?)),
        }
    }
}

/// Items one below the other, each with a comma.
fn vertical(open: char, close: char, items: impl Iterator<Item = String>, indent: usize) -> String {
    let (margin, end) = (" ".repeat(indent + 4), " ".repeat(indent));
    let items: String = items.map(|item| format!("{margin}{item},\n")).collect();
    format!("{open}\n{items}{end}{close}")
}

impl From<String> for Expr {
    fn from(text: String) -> Expr {
        Expr::Text(text)
    }
}

impl From<&str> for Expr {
    fn from(text: &str) -> Expr {
        Expr::Text(text.to_owned())
    }
}

/// Numbers and truth values as literals.
pub(in crate::program) trait Literal {
    /// The literal.
    fn literal(&self) -> String;
}

macro_rules! literals {
    ($($ty:ty)*) => {$(
        impl Literal for $ty {
            fn literal(&self) -> String {
                self.to_string()
            }
        }

        impl From<$ty> for Expr {
            fn from(value: $ty) -> Expr {
                Expr::Text(value.literal())
            }
        }
    )*};
}

literals!(bool u8 i32 u32 usize isize i64);

impl Literal for f32 {
    /// Exactly this number.
    fn literal(&self) -> String {
        match self.classify() {
            std::num::FpCategory::Nan => "f32::NAN".to_owned(),
            std::num::FpCategory::Infinite if *self > 0.0 => "f32::INFINITY".to_owned(),
            std::num::FpCategory::Infinite => "f32::NEG_INFINITY".to_owned(),
            _ => format!("{self:?}"),
        }
    }
}

impl From<f32> for Expr {
    fn from(value: f32) -> Expr {
        Expr::Text(value.literal())
    }
}

impl<T: Literal, const N: usize> From<[T; N]> for Expr {
    fn from(values: [T; N]) -> Expr {
        Expr::Array(values.iter().map(|v| Expr::Text(v.literal())).collect())
    }
}

impl<T: Into<Expr>> From<Option<T>> for Expr {
    fn from(value: Option<T>) -> Expr {
        match value {
            None => Expr::Text("None".to_owned()),
            Some(value) => Expr::Call("Some".to_owned(), vec![value.into()]),
        }
    }
}

impl fmt::Display for Expr {
    /// On one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.layout(0, 0, 0))
    }
}

/// An expression for a struct: `record!(Name { field: value, ... })`.
macro_rules! record {
    ($name:ident { $($field:ident: $value:expr),* $(,)? }) => {
        $crate::program::source::Expr::Struct(
            stringify!($name),
            vec![$((stringify!($field), Into::<$crate::program::source::Expr>::into($value))),*],
        )
    };
}
pub(in crate::program) use record;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_break_where_they_are_too_long() {
        let short = Expr::Call("f".to_owned(), vec!["a".into(), [1, 2, 3].into()]);
        assert_eq!(short.layout(4, 4, 1), "f(a, [1, 2, 3])");
        let long = Expr::Call(
            "f".to_owned(),
            vec!["a".repeat(30).into(), "b".repeat(30).into()],
        );
        let (a, b) = ("a".repeat(30), "b".repeat(30));
        assert_eq!(
            long.layout(4, 4, 1),
            format!("f(\n        {a},\n        {b},\n    )")
        );
    }

    #[test]
    fn structs_are_rarely_short() {
        let small = record!(Small {
            a: 1usize,
            b: 2usize
        });
        assert_eq!(small.layout(0, 0, 0), "Small { a: 1, b: 2 }");
        let large = record!(Large {
            first: [1usize, 2],
            data: "data"
        });
        assert_eq!(
            large.layout(0, 0, 0),
            "Large {\n    first: [1, 2],\n    data,\n}"
        );
    }

    #[test]
    fn floats_are_exact() {
        for x in [0.1f32, -0.0, 1e-42, f32::MAX, f32::MIN_POSITIVE] {
            assert_eq!(x.literal().parse::<f32>().unwrap().to_bits(), x.to_bits());
        }
        assert_eq!(f32::NEG_INFINITY.literal(), "f32::NEG_INFINITY");
    }
}
