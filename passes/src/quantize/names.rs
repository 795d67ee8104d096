//! Lists of node names in which `*` stands for anything.

use globset::{Glob, GlobSet, GlobSetBuilder};
use onnxq_pass::{Error, Options};

/// A list of names and patterns.
#[derive(Debug)]
pub(super) struct Names {
    texts: Vec<String>,
    set: GlobSet,
}

impl Names {
    /// The list given for option `key`; `None` where it is not given.
    pub(super) fn take(opts: &mut Options, key: &'static str) -> Result<Option<Names>, Error> {
        let Some(texts) = opts.take::<Option<Vec<String>>>(key, None)? else {
            return Ok(None);
        };
        let names = Names::new(texts);
        let error = |e| opts.invalid(key, format!("names of nodes ({e})"));
        names.map(Some).map_err(error)
    }

    fn new(texts: Vec<String>) -> Result<Names, globset::Error> {
        let mut builder = GlobSetBuilder::new();
        for text in &texts {
            // Names have brackets and question marks of their own; only the star is special.
            builder.add(Glob::new(&globset::escape(text).replace("[*]", "*"))?);
        }
        let set = builder.build()?;
        Ok(Names { texts, set })
    }

    /// Whether the list has `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.set.is_match(name)
    }

    /// The entries that none of `names` matches.
    pub(super) fn unmatched<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<&str> {
        let mut found = vec![false; self.texts.len()];
        for name in names {
            for i in self.set.matches(name) {
                found[i] = true;
            }
        }
        let texts = self.texts.iter().zip(found);
        texts.filter(|(_, f)| !f).map(|(t, _)| &**t).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Names {
        let texts: Vec<String> = texts.iter().map(|&t| t.to_owned()).collect();
        Names::new(texts).unwrap()
    }

    #[test]
    fn only_the_star_is_special() {
        let list = names(&["/layer[0]/*", "a?b", "{x,y}"]);
        assert!(list.has("/layer[0]/attention/MatMul"));
        assert!(!list.has("/layer0/MatMul"));
        assert!(list.has("a?b") && !list.has("axb"));
        assert!(list.has("{x,y}") && !list.has("x"));
    }

    #[test]
    fn entries_without_a_node_are_found() {
        let list = names(&["a*", "b", "c"]);
        assert_eq!(list.unmatched(["b", "abc"].into_iter()), ["c"]);
    }
}
