//! Which files of `onnxq-kernels` a crate needs.

use std::collections::{BTreeMap, BTreeSet};

use onnxq_kernels::SOURCES;

/// The files that `items` need on tiers with these features, by path, and the root module.
pub(crate) struct Selection {
    pub(crate) root: String,
    pub(crate) files: BTreeMap<&'static str, String>,
}

/// The root of the crate, read for what it declares.
struct Root {
    /// Modules in order, with the attributes before them.
    modules: Vec<(String, &'static str)>,
    /// Lines that re-export items, by module.
    exports: BTreeMap<&'static str, String>,
    /// The module of each item.
    items: BTreeMap<&'static str, &'static str>,
}

/// What every crate needs.
const ALWAYS: [&str; 2] = ["Cpu", "Line"];

/// Selects files. `uses` is the text of the model's own code.
pub(crate) fn select(uses: &str, features: &BTreeSet<&str>) -> Selection {
    let root = Root::read();
    let mut pending: Vec<&str> = ALWAYS.iter().map(|item| root.items[item]).collect();
    pending.extend(root.items_in(uses).map(|item| root.items[item]));
    let declared = |module: &str| {
        let found = root.modules.iter().find(|(_, name)| *name == module);
        found.is_some_and(|(attributes, _)| is_enabled(attributes, features))
    };
    let mut chosen = BTreeSet::new();
    let mut files = BTreeMap::new();
    while let Some(module) = pending.pop() {
        if !declared(module) || !chosen.insert(module) {
            continue;
        }
        let mut parts = vec![module.to_owned()];
        while let Some(part) = parts.pop() {
            let Some((path, text)) = file(&part) else {
                continue;
            };
            let text = without_tests(text);
            pending.extend(references(text).filter_map(|name| root.module(name)));
            let children = modules(text).filter(|(attributes, _)| is_enabled(attributes, features));
            parts.extend(children.map(|(_, child)| format!("{part}/{child}")));
            files.insert(path, without_modules(text, features));
        }
    }
    Selection {
        root: root.write(&chosen),
        files,
    }
}

/// The items of the kernels that a text names, sorted.
pub(crate) fn items_in(text: &str) -> BTreeSet<&'static str> {
    Root::read().items_in(text).collect()
}

/// All items of the kernels.
pub(crate) fn all_items() -> Vec<&'static str> {
    Root::read().items.into_keys().collect()
}

impl Root {
    fn read() -> Root {
        let (_, text) = file("lib").expect("a crate has a root");
        let mut root = Root {
            modules: modules(text).collect(),
            exports: BTreeMap::new(),
            items: BTreeMap::new(),
        };
        for export in statements(text, "pub use ") {
            let Some((module, items)) = export.split_once("::") else {
                continue;
            };
            let module = module.rsplit(' ').next().unwrap_or(module);
            for item in words(items) {
                root.items.insert(item, module);
            }
            root.exports.insert(module, format!("{export};\n"));
        }
        root
    }

    /// The module of this name, or that of an item.
    fn module(&self, name: &str) -> Option<&'static str> {
        let module = self.modules.iter().find(|(_, module)| *module == name);
        module
            .map(|(_, module)| *module)
            .or_else(|| self.items.get(name).copied())
    }

    fn items_in<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'static str> + 'a {
        words(text).filter_map(|word| self.items.get_key_value(word).map(|(item, _)| *item))
    }

    fn write(&self, chosen: &BTreeSet<&str>) -> String {
        let mut text = String::from(
            "//! The kernels that this model needs, from `onnxq-kernels`.\n//!\n//! The portable body of \
             a kernel defines its result, and every tier is equal to it bit for bit.\n\n",
        );
        for (attributes, module) in &self.modules {
            if chosen.contains(module) {
                text.push_str(&format!("{attributes}pub(crate) mod {module};\n"));
            }
        }
        text.push('\n');
        for (module, export) in &self.exports {
            if chosen.contains(module) {
                text.push_str(export);
            }
        }
        text
    }
}

/// A file of the kernels by its module: path and text.
fn file(module: &str) -> Option<(&'static str, &'static str)> {
    let is_it = |path: &str| {
        let path = path.strip_suffix(".rs").unwrap_or(path);
        path == module || path.strip_suffix("/mod") == Some(module)
    };
    let source = SOURCES.iter().find(|source| is_it(source.path))?;
    Some((source.path, source.text))
}

fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or(text)
}

/// A file without the declarations of modules that are for other features.
fn without_modules(text: &'static str, features: &BTreeSet<&str>) -> String {
    let mut kept = format!("{}\n", text.trim_end());
    for (attributes, module) in modules(text) {
        if !is_enabled(&attributes, features) {
            kept = kept.replace(&format!("{attributes}mod {module};\n"), "");
        }
    }
    kept
}

/// The modules that a file declares, with the attributes before them.
fn modules(text: &'static str) -> impl Iterator<Item = (String, &'static str)> {
    let mut attributes = String::new();
    text.lines().filter_map(move |line| {
        let declared = line
            .strip_suffix(';')
            .and_then(|line| line.rsplit_once("mod "));
        if let Some((before, module)) = declared
            && matches!(before, "" | "pub " | "pub(crate) ")
        {
            return Some((std::mem::take(&mut attributes), module));
        }
        let inside = line.starts_with([' ', ')']) && !attributes.is_empty();
        match line.starts_with("#[cfg") || inside {
            true => attributes.push_str(&format!("{line}\n")),
            false => attributes.clear(),
        }
        None
    })
}

/// Whether attributes ask for none of the features, or for one of these.
fn is_enabled(attributes: &str, features: &BTreeSet<&str>) -> bool {
    let mut asked = attributes.split("feature = \"").skip(1).peekable();
    asked.peek().is_none()
        || asked.any(|rest| features.contains(rest.split('"').next().unwrap_or("")))
}

/// What follows `crate::` anywhere: a name, or each first name in braces.
fn references(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split("crate::").skip(1).flat_map(|rest| {
        let mut depth = 0usize;
        let end = rest.find(|c: char| {
            depth = match c {
                '{' => depth + 1,
                '}' => depth.saturating_sub(1),
                _ => depth,
            };
            depth == 0 && !c.is_ascii_alphanumeric() && c != '_' && c != '}'
        });
        words(&rest[..end.unwrap_or(rest.len())])
    })
}

/// The statements of a file that begin with `start`, without the semicolon.
fn statements(text: &'static str, start: &str) -> impl Iterator<Item = &'static str> {
    text.match_indices(start)
        .filter(|&(at, _)| at == 0 || text[..at].ends_with('\n'))
        .filter_map(|(at, _)| text[at..].split(';').next())
}

/// Words of letters, digits and `_`.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_is_needed() {
        let little = select("lookup(cpu, x, table, y);", &BTreeSet::new());
        let files: Vec<&str> = little.files.keys().copied().collect();
        assert_eq!(files, ["isa.rs", "lookup.rs", "memory.rs", "tiers.rs"]);
        assert!(!little.root.contains("product"), "{}", little.root);
    }

    #[test]
    fn tiers_bring_their_tiles() {
        let files = |features: &[&'static str]| {
            let features = features.iter().copied().collect();
            let selection = select("Product", &features);
            let tiles = selection
                .files
                .into_keys()
                .filter(|path| path.starts_with("tile/"));
            tiles.collect::<Vec<_>>()
        };
        assert_eq!(files(&[]), ["tile/mod.rs", "tile/portable.rs"]);
        let amx = files(&["amx", "avx512vnni"]);
        assert_eq!(
            amx,
            [
                "tile/amx.rs",
                "tile/amx/mode.rs",
                "tile/amx/registers.rs",
                "tile/avx512vnni.rs",
                "tile/mod.rs",
                "tile/portable.rs"
            ]
        );
    }
}
