//! Names of values and nodes as names of Rust.

use std::collections::BTreeSet;

/// Words that are no names.
#[rustfmt::skip]
static RESERVED: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true",
    "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Letters of a name, at most.
const LONGEST: usize = 48;

/// Whether a word is no name.
pub(crate) fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// Names that are each taken once.
#[derive(Default)]
pub(crate) struct Names(BTreeSet<String>);

impl Names {
    /// Names of which some are taken.
    pub(crate) fn without<'a>(taken: impl IntoIterator<Item = &'a str>) -> Names {
        Names(taken.into_iter().map(str::to_owned).collect())
    }

    /// A name in snake case like `text`, with a number if it is taken; `other` where nothing is left of it.
    pub(crate) fn add(&mut self, text: &str, other: &str) -> String {
        let mut name = snake(text);
        // The end of a path says most.
        while name.len() > LONGEST {
            match name.split_once('_') {
                Some((_, rest)) if !rest.is_empty() => name = rest.to_owned(),
                _ => name.truncate(LONGEST),
            }
        }
        if name.is_empty() || is_reserved(&name) || name.starts_with(|c: char| c.is_ascii_digit()) {
            name = match name.is_empty() {
                true => other.to_owned(),
                false => format!("{other}_{name}"),
            };
        }
        let mut unique = name.clone();
        let mut number = 2;
        while !self.0.insert(unique.clone()) {
            unique = format!("{name}_{number}");
            number += 1;
        }
        unique
    }
}

/// Words of letters and digits, parted by `_`.
fn snake(text: &str) -> String {
    let mut name = String::new();
    let mut lower = false;
    for c in text.chars() {
        if !c.is_ascii_alphanumeric() {
            if !name.is_empty() && !name.ends_with('_') {
                name.push('_');
            }
            lower = false;
            continue;
        }
        // A capital after a small letter begins a word.
        if c.is_ascii_uppercase() && lower {
            name.push('_');
        }
        lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        name.push(c.to_ascii_lowercase());
    }
    name.trim_end_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_identifiers() {
        let mut names = Names::without(["step"]);
        assert_eq!(
            names.add("/body/body.0/dw/Conv", "step"),
            "body_body_0_dw_conv"
        );
        assert_eq!(names.add("input_3:01", "step"), "input_3_01");
        assert_eq!(names.add("QuantizeLinear", "step"), "quantize_linear");
        assert_eq!(names.add("quantize/Linear", "step"), "quantize_linear_2");
        assert_eq!(names.add("//", "step"), "step_2");
        assert_eq!(names.add("match", "step"), "step_match");
        assert_eq!(names.add("7x7", "step"), "step_7x7");
        let long = names.add(
            "bert/encoder/layer.0/attention/self/query/MatMul_quant",
            "step",
        );
        assert_eq!(long, "layer_0_attention_self_query_mat_mul_quant");
        assert!(names.add(&"x".repeat(200), "step").len() <= LONGEST);
    }
}
