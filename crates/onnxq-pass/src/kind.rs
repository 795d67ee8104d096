//! [`OptionKind`] and [`FromOption`]: the types that options have.

use std::fmt;

use crate::{Item, Value, options::quote_list};

/// What the values of an option are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OptionKind {
    /// `key=true`, `key=false`, or `key` alone for true.
    Bool,
    /// An integer.
    Int,
    /// An integer of at least 0.
    UInt,
    /// A finite number.
    Float,
    /// Any text.
    Text,
    /// A list of texts; one text alone is a list of one.
    List,
    /// A list of names with integers, `[MatMul:1,Conv:0]`.
    Table,
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl OptionKind {
    /// What a value must be, for a message.
    pub(crate) fn expected(self) -> String {
        match self {
            OptionKind::Bool => "`true` or `false`".into(),
            OptionKind::Int => "an integer".into(),
            OptionKind::UInt => "an integer of at least 0".into(),
            OptionKind::Float => "a number".into(),
            OptionKind::Text => "a text".into(),
            OptionKind::List => "a list such as `[a,b]`".into(),
            OptionKind::Table => "a table such as `[MatMul:1,Conv:0]`".into(),
            OptionKind::Choice(names) => quote_list(names),
        }
    }
}

impl fmt::Display for OptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OptionKind::Bool => "bool",
            OptionKind::Int => "int",
            OptionKind::UInt => "uint",
            OptionKind::Float => "float",
            OptionKind::Text => "text",
            OptionKind::List => "list",
            OptionKind::Table => "table",
            OptionKind::Choice(names) => return f.write_str(&names.join("|")),
        })
    }
}

/// A type that the value of an option can have.
pub trait FromOption: Sized {
    /// What values of this type look like.
    const KIND: OptionKind;

    /// Reads a value; `None` stands for a key without one. The result is `None` where the value
    /// is not of this type.
    fn from_option(value: Option<&Value>) -> Option<Self>;

    /// The value in pipeline text, to compare defaults with their declarations; `None` where a
    /// default is words (`every op that the mode supports`).
    fn show(&self) -> Option<String> {
        None
    }
}

fn text(value: Option<&Value>) -> Option<&str> {
    match value {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

impl FromOption for bool {
    const KIND: OptionKind = OptionKind::Bool;

    fn from_option(value: Option<&Value>) -> Option<bool> {
        match value {
            None => Some(true),
            value => text(value)?.parse().ok(),
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl FromOption for i64 {
    const KIND: OptionKind = OptionKind::Int;

    fn from_option(value: Option<&Value>) -> Option<i64> {
        text(value)?.parse().ok()
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl FromOption for usize {
    const KIND: OptionKind = OptionKind::UInt;

    fn from_option(value: Option<&Value>) -> Option<usize> {
        text(value)?.parse().ok()
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl FromOption for f64 {
    const KIND: OptionKind = OptionKind::Float;

    fn from_option(value: Option<&Value>) -> Option<f64> {
        text(value)?.parse().ok().filter(|v: &f64| v.is_finite())
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl FromOption for String {
    const KIND: OptionKind = OptionKind::Text;

    fn from_option(value: Option<&Value>) -> Option<String> {
        text(value).map(str::to_owned)
    }

    fn show(&self) -> Option<String> {
        Some(self.clone())
    }
}

impl<T: FromOption> FromOption for Option<T> {
    const KIND: OptionKind = T::KIND;

    fn from_option(value: Option<&Value>) -> Option<Option<T>> {
        T::from_option(value).map(Some)
    }
}

impl FromOption for Vec<String> {
    const KIND: OptionKind = OptionKind::List;

    fn from_option(value: Option<&Value>) -> Option<Vec<String>> {
        let element = |item: &Item| match item {
            Item {
                key: None,
                value: Value::Text(text),
            } => Some(text.clone()),
            _ => None,
        };
        match value? {
            Value::Text(text) => Some(vec![text.clone()]),
            Value::List(items) => items.iter().map(element).collect(),
        }
    }
}

impl FromOption for Vec<(String, i64)> {
    const KIND: OptionKind = OptionKind::Table;

    fn from_option(value: Option<&Value>) -> Option<Vec<(String, i64)>> {
        let entry = |item: &Item| {
            let text = text(Some(&item.value))?;
            // A name may contain colons; an integer does not.
            let (key, number) = match &item.key {
                Some(key) => (key.as_str(), text),
                None => text.rsplit_once(':')?,
            };
            Some((key.to_owned(), number.trim().parse().ok()?))
        };
        match value? {
            Value::Text(_) => None,
            Value::List(items) => items.iter().map(entry).collect(),
        }
    }
}
