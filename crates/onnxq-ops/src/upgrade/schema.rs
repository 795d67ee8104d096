//! The schemas of the standard operators at all their versions: what a node may have at an opset.
//!
//! They are a file, `schemas.txt`, that is made from the ONNX package; a test holds it against it.

use std::{collections::HashMap, sync::OnceLock};

use onnxq_tensor::DType;

/// An operand or result.
#[derive(Clone, Debug)]
pub(super) struct Formal {
    pub(super) name: &'static str,
    pub(super) is_required: bool,
    is_repeated: bool,
    types: &'static str,
}

impl Formal {
    /// Whether a tensor of these elements is allowed.
    pub(super) fn takes(&self, dtype: DType) -> bool {
        self.types.split(' ').any(|name| name == dtype.name())
    }
}

/// An operator from one opset on.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    pub(super) since: i64,
    pub(super) is_deprecated: bool,
    operands: Vec<Formal>,
    results: Vec<Formal>,
    /// Attributes with the text of their default, where they have one.
    attributes: Vec<(&'static str, Option<&'static str>)>,
}

impl Schema {
    fn at(formals: &[Formal], i: usize) -> Option<&Formal> {
        formals
            .get(i)
            .or_else(|| formals.last().filter(|last| last.is_repeated))
    }

    /// The operand at position `i`.
    pub(super) fn operand(&self, i: usize) -> Option<&Formal> {
        Schema::at(&self.operands, i)
    }

    /// The result at position `i`.
    pub(super) fn result(&self, i: usize) -> Option<&Formal> {
        Schema::at(&self.results, i)
    }

    /// How many operands there must be.
    pub(super) fn required(&self) -> usize {
        let last = self
            .operands
            .iter()
            .rposition(|f| f.is_required && !f.is_repeated);
        last.map_or(0, |last| last + 1)
    }

    /// An attribute: the text of its default, where it has one.
    pub(super) fn attribute(&self, name: &str) -> Option<Option<&'static str>> {
        let found = self.attributes.iter().find(|(n, _)| *n == name);
        found.map(|(_, default)| *default)
    }

    /// The attribute of this name, written in capitals or not.
    pub(super) fn attribute_like(&self, name: &str) -> Option<&'static str> {
        let mut names = self.attributes.iter().map(|(n, _)| *n);
        names.find(|n| n.eq_ignore_ascii_case(name))
    }

    /// Attributes that have a default.
    pub(super) fn defaults(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.attributes
            .iter()
            .filter_map(|(n, d)| Some((*n, (*d)?)))
    }
}

/// The schema of an operator that counts at `opset`; `None` where it does not exist there.
pub(super) fn schema(op_type: &str, opset: i64) -> Option<&'static Schema> {
    versions(op_type)?.iter().rev().find(|s| s.since <= opset)
}

/// All versions of an operator, ascending.
pub(super) fn versions(op_type: &str) -> Option<&'static [Schema]> {
    static TABLE: OnceLock<HashMap<&'static str, Vec<Schema>>> = OnceLock::new();
    TABLE.get_or_init(read).get(op_type).map(Vec::as_slice)
}

fn read() -> HashMap<&'static str, Vec<Schema>> {
    let mut lines = include_str!("schemas.txt").lines();
    let sets: Vec<&str> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let mut table = HashMap::<_, Vec<Schema>>::new();
    for line in lines {
        let mut parts = line.split('|').map(str::split_whitespace);
        let mut part = || parts.next().into_iter().flatten();
        let mut head = part();
        let (name, since) = (head.next(), head.next());
        let is_deprecated = head.next().is_some();
        let formal = |text| formal(text, &sets);
        let schema = Schema {
            since: since.and_then(|s| s.parse().ok()).unwrap_or_default(),
            is_deprecated,
            operands: part().map(formal).collect(),
            results: part().map(formal).collect(),
            attributes: part()
                .map(|text| match text.split_once('=') {
                    Some((name, default)) => (name, Some(default)),
                    None => (text, None),
                })
                .collect(),
        };
        table
            .entry(name.unwrap_or_default())
            .or_default()
            .push(schema);
    }
    table
}

fn formal(text: &'static str, sets: &[&'static str]) -> Formal {
    let (name, set) = text.split_once(':').unwrap_or((text, ""));
    let set = set.parse().ok().and_then(|i: usize| sets.get(i).copied());
    let bare = name.trim_end_matches(['?', '*']);
    Formal {
        name: bare,
        is_required: !name.ends_with('?'),
        is_repeated: name.ends_with('*'),
        types: set.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_read() {
        let pad = schema("Pad", 12).expect("it exists");
        assert_eq!((pad.since, pad.required()), (11, 2));
        assert_eq!(pad.attribute("mode"), Some(Some("constant")));
        assert!(
            pad.operand(2)
                .is_some_and(|f| f.name == "constant_value" && !f.is_required)
        );
        assert!(schema("Pad", 12).is_some_and(|s| !s.operands[0].takes(DType::Bool)));
        assert!(schema("Pad", 13).is_some_and(|s| s.operands[0].takes(DType::Bool)));
        assert!(schema("Concat", 13).is_some_and(|s| s.operand(7).is_some()));
        assert!(schema("Upsample", 10).is_some_and(|s| s.is_deprecated));
        assert!(schema("Gelu", 19).is_none());
    }

    /// The table and the operators agree on when schemas changed.
    #[test]
    fn operators_have_these_versions() {
        for operator in crate::all().filter(|o| o.domain().is_empty()) {
            // ONNX Runtime has operators of its own in the standard domain.
            let Some(listed) = versions(operator.name()) else {
                continue;
            };
            let listed: Vec<i64> = listed
                .iter()
                .filter(|s| !s.is_deprecated)
                .map(|s| s.since)
                .collect();
            let known = operator.since().iter().filter(|s| {
                let at = schema(operator.name(), **s);
                at.is_none_or(|s| !s.is_deprecated)
            });
            assert_eq!(
                listed,
                known.copied().collect::<Vec<_>>(),
                "{}",
                operator.name()
            );
        }
    }
}
