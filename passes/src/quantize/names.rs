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
        let mut builder = GlobSetBuilder::new();
        for text in &texts {
            // Names have brackets and question marks of their own; only the star is special.
            let pattern = globset::escape(text).replace("[*]", "*");
            let glob = Glob::new(&pattern);
            builder.add(glob.map_err(|e| opts.invalid(key, format!("names of nodes ({e})")))?);
        }
        let set = builder.build();
        let set = set.map_err(|e| opts.invalid(key, format!("names of nodes ({e})")))?;
        Ok(Some(Names { texts, set }))
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
