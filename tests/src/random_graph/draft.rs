//! What recipes write with.

use onnxq_tensor::DType;

use super::{Generator, Group, Known, type_text};
use crate::random::Random;

/// A value that a recipe reads.
#[derive(Clone, Debug)]
pub(super) struct Operand {
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) dims: Vec<usize>,
}

impl Operand {
    pub(super) fn rank(&self) -> usize {
        self.dims.len()
    }
}

/// A group of nodes being written.
pub(super) struct Draft<'a> {
    pub(super) generator: &'a mut Generator,
    group: Group,
}

impl Draft<'_> {
    pub(super) fn new(generator: &mut Generator) -> Draft<'_> {
        Draft {
            generator,
            group: Group::default(),
        }
    }

    pub(super) fn random(&mut self) -> &mut Random {
        &mut self.generator.random
    }

    pub(super) fn opset(&self) -> i64 {
        self.generator.opset
    }

    /// A value with this property, sooner one that nothing reads yet.
    pub(super) fn find(&mut self, fits: impl Fn(&Known) -> bool) -> Option<Operand> {
        let (sooner, at) = (self.random().below(3) > 0, self.random().any() >> 16);
        let fitting: Vec<&Known> = self.generator.everything().filter(|k| fits(k)).collect();
        let fresh: Vec<&Known> = fitting.iter().filter(|k| !k.is_used).copied().collect();
        let from = if sooner && !fresh.is_empty() {
            fresh
        } else {
            fitting
        };
        let known = from.get(at as usize % from.len().max(1))?;
        Some(Operand {
            name: known.name.clone(),
            dtype: known.dtype(),
            dims: known.dims().to_vec(),
        })
    }

    /// A value of floats with one of these ranks.
    pub(super) fn float(&mut self, ranks: std::ops::RangeInclusive<usize>) -> Option<Operand> {
        let any = self.random().one_in(6);
        self.find(|k| {
            let fits = if any {
                k.dtype().is_float()
            } else {
                k.dtype() == DType::F32
            };
            fits && ranks.contains(&k.dims().len()) && !k.traces[0].is_empty()
        })
    }

    /// A constant of pseudo-random elements; now and then one that is there, or equal to one.
    pub(super) fn constant(&mut self, dtype: DType, dims: &[usize], lo: f64, hi: f64) -> String {
        let seed = self.random().below(5);
        let spec = format!(r#"["seed": "{seed}", "lo": "{lo}", "hi": "{hi}"]"#);
        self.initializer(&type_text(dtype, dims), &spec)
    }

    /// A constant that is one number everywhere.
    pub(super) fn fill(&mut self, dtype: DType, dims: &[usize], value: f64) -> String {
        let spec = format!(r#"["fill": "{value}"]"#);
        self.initializer(&type_text(dtype, dims), &spec)
    }

    /// A vector of these integers.
    pub(super) fn ints(&mut self, values: &[i64]) -> String {
        let list: Vec<String> = values.iter().map(i64::to_string).collect();
        if self.opset() >= 12 && !values.is_empty() && self.random().one_in(4) {
            let list = list.join(", ");
            return self.node(&format!("Constant <value_ints: ints = [{list}]>"), &[]);
        }
        let ty = format!("int64[{}]", values.len());
        self.initializer(&ty, &format!("{{{}}}", list.join(", ")))
    }

    fn initializer(&mut self, ty: &str, spec: &str) -> String {
        let is_same = |declared: &str| {
            declared.starts_with(&format!("{ty} ")) && declared.ends_with(&format!("= {spec}"))
        };
        if self.random().one_in(2) {
            let scopes = self.generator.scopes.iter().map(|s| &s.constants);
            let mut all = scopes.chain([&self.group.constants]).flatten();
            if let Some((name, _)) = all.find(|(_, declared)| is_same(declared)) {
                return name.clone();
            }
        }
        let name = self.generator.name("c");
        let declared = format!("{ty} {name} = {spec}");
        self.group.constants.insert(name.clone(), declared);
        name
    }

    /// A node with one result, whose name it gives. `op` may have attributes.
    pub(super) fn node(&mut self, op: &str, operands: &[&str]) -> String {
        self.nodes(op, operands, 1).remove(0)
    }

    /// A node with several results.
    pub(super) fn nodes(&mut self, op: &str, operands: &[&str], results: usize) -> Vec<String> {
        let names: Vec<String> = (0..results).map(|_| self.generator.name("v")).collect();
        let line = format!("{} = {op} ({})", names.join(", "), operands.join(", "));
        self.group.lines.push(line);
        names
    }

    /// A function as it is.
    pub(super) fn function(&mut self, function: String) {
        self.group.functions.push(function);
    }

    /// Integers that were an attribute before opset `since`, and are operand 1 from it on.
    pub(super) fn listed(
        &mut self,
        op: &str,
        attrs: &str,
        x: &str,
        key: &str,
        since: i64,
        v: &[i64],
    ) -> String {
        let (op, operands) = self.with_list(op, attrs, key, since, v);
        self.node(&op, &[x, &operands])
    }

    /// The same, where the node has several results.
    pub(super) fn with_list(
        &mut self,
        op: &str,
        attrs: &str,
        key: &str,
        since: i64,
        v: &[i64],
    ) -> (String, String) {
        if self.opset() >= since {
            let list = self.ints(v);
            return (attributes(op, &[attrs]), list);
        }
        let list: Vec<String> = v.iter().map(i64::to_string).collect();
        let list = format!("{key}: ints = [{}]", list.join(", "));
        (attributes(op, &[&list, attrs]), "\"\"".to_owned())
    }

    /// The group, with these results for others to read.
    pub(super) fn done(mut self, results: &[String]) -> Option<Group> {
        for result in results {
            if !self.group.results.contains(result) {
                self.group.results.push(result.clone());
            }
        }
        Some(self.group)
    }
}

/// An operator with attributes, of which some may be empty.
pub(super) fn attributes(op: &str, attrs: &[&str]) -> String {
    let given: Vec<&str> = attrs.iter().filter(|a| !a.is_empty()).copied().collect();
    match given.is_empty() {
        true => op.to_owned(),
        false => format!("{op} <{}>", given.join(", ")),
    }
}
