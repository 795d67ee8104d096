//! [`Summary`]: what each pass took and did.

use std::{fmt, time::Duration};

use onnxq_ir::Model;

/// What a pipeline did, pass by pass.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// The passes, in the order in which they ran.
    pub passes: Vec<PassSummary>,
}

/// What one pass did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PassSummary {
    /// Its name.
    pub name: String,
    /// How long it took, the sweep after it included.
    pub time: Duration,
    /// Operations in all graphs before it.
    pub nodes_before: usize,
    /// Operations in all graphs after it.
    pub nodes_after: usize,
}

/// The number of operations in all graphs of a model.
pub(crate) fn count_ops(model: &Model) -> usize {
    let mut count = 0;
    model.for_each_graph(|graph| {
        count += graph.node_ids().filter(|&n| graph.op(n).is_some()).count();
    });
    count
}

/// The table of `--time-passes`.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.passes.iter().map(|p| p.name.chars().count());
        let width = names.chain(["total".len()]).max().unwrap_or(0);
        let mut row = |name: &str, time: &str, before: &str, after: &str| {
            writeln!(f, "{name:width$}  {time:>12}  {before:>9}  {after:>9}")
        };
        row("pass", "time", "nodes", "after")?;
        let millis = |time: Duration| format!("{:.3} ms", time.as_secs_f64() * 1e3);
        for p in &self.passes {
            row(
                &p.name,
                &millis(p.time),
                &p.nodes_before.to_string(),
                &p.nodes_after.to_string(),
            )?;
        }
        if let (Some(first), Some(last)) = (self.passes.first(), self.passes.last()) {
            row(
                "total",
                &millis(self.passes.iter().map(|p| p.time).sum()),
                &first.nodes_before.to_string(),
                &last.nodes_after.to_string(),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_a_table() {
        let pass = |name: &str, micros, nodes_before, nodes_after| PassSummary {
            name: name.into(),
            time: Duration::from_micros(micros),
            nodes_before,
            nodes_after,
        };
        let summary = Summary {
            passes: vec![
                pass("drop-identity", 1500, 120, 100),
                pass("x", 250, 100, 7),
            ],
        };
        let expected = "\
pass                   time      nodes      after
drop-identity      1.500 ms        120        100
x                  0.250 ms        100          7
total              1.750 ms        120          7
";
        assert_eq!(summary.to_string(), expected);
    }
}
