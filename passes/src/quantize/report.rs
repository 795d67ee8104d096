//! What is said about quantization: a table under `-v`, the same for programs, a line in any case.

use onnxq_pass::PassContext;
use serde_json::{Value, json};

use super::static_qdq::write::Written;

/// What became of a node.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) graph: String,
    /// Its name, or that of its result, and its operator.
    pub(super) node: String,
    pub(super) op: String,
    /// The names of its weights.
    pub(super) weights: Vec<String>,
    /// Bytes of the weights.
    pub(super) before: usize,
    /// Bytes of the codes, scales and zero points.
    pub(super) after: usize,
    pub(super) status: Status,
}

/// Whether a node is quantized.
#[derive(Clone, Debug)]
pub(super) enum Status {
    Quantized,
    Skipped(std::borrow::Cow<'static, str>),
}

impl Row {
    fn json(&self) -> Value {
        let mut json = json!({
            "graph": self.graph,
            "node": self.node,
            "op": self.op,
            "weights": self.weights,
            "bytes_before": self.before,
            "bytes_after": self.after,
            "status": "quantized",
        });
        if let Status::Skipped(reason) = &self.status {
            json["status"] = "skipped".into();
            json["reason"] = (**reason).into();
        }
        json
    }
}

/// Says what became of each node.
pub(super) fn rows(cx: &mut PassContext, rows: &[Row]) {
    cx.report("nodes", rows.iter().map(Row::json).collect::<Vec<_>>());
    if !cx.is_verbose() || rows.is_empty() {
        return;
    }
    let width = rows.iter().map(|r| r.node.chars().count()).max();
    let width = width.unwrap_or(0).clamp(4, 60);
    cx.verbose(format_args!(
        "{:width$}  {:>12}  {:>12}  result",
        "node", "bytes", "quantized"
    ));
    for row in rows {
        let (after, result) = match &row.status {
            Status::Quantized => (row.after.to_string(), "quantized".to_owned()),
            Status::Skipped(reason) => ("-".to_owned(), format!("left: {reason}")),
        };
        let before = match row.before {
            0 => "-".to_owned(),
            bytes => bytes.to_string(),
        };
        cx.verbose(format_args!(
            "{:width$}  {before:>12}  {after:>12}  {result}",
            row.node
        ));
    }
}

fn quantized(rows: &[Row]) -> usize {
    let count = |row: &&Row| matches!(row.status, Status::Quantized);
    rows.iter().filter(count).count()
}

/// Says how it went as a whole.
pub(super) fn summary(
    cx: &mut PassContext,
    rows: &[Row],
    weights: usize,
    before: usize,
    after: usize,
) {
    let quantized = quantized(rows);
    cx.report(
        "summary",
        json!({
            "quantized": quantized,
            "candidates": rows.len(),
            "weights": weights,
            "bytes_before": before,
            "bytes_after": after,
        }),
    );
    if quantized == 0 {
        let ops = super::options::DYNAMIC_OPS.join(", ");
        cx.warning(nothing(rows, &format!("{ops} with constant weights")));
        return;
    }
    let plural = if weights == 1 { "" } else { "s" };
    cx.note(format_args!(
        "quantized {quantized} of {} nodes, {weights} weight{plural}; constants of {} became {}",
        rows.len(),
        size(before),
        size(after)
    ));
}

/// Says how static quantization went as a whole.
pub(super) fn static_summary(
    cx: &mut PassContext,
    rows: &[Row],
    written: Written,
    before: usize,
    after: usize,
) {
    let quantized = quantized(rows);
    cx.report(
        "summary",
        json!({
            "quantized": quantized,
            "candidates": rows.len(),
            "activations": written.activations,
            "weights": written.weights,
            "biases": written.biases,
            "bytes_before": before,
            "bytes_after": after,
        }),
    );
    if written.activations + written.weights + written.biases == 0 {
        // A model that is quantized already has nothing more.
        if quantized == 0 {
            cx.warning(nothing(rows, "operator that static quantization knows"));
        }
        return;
    }
    cx.note(format_args!(
        "quantized {quantized} of {} nodes: {}, {}, {}; constants of {} became {}",
        rows.len(),
        count_of(written.activations, "activation"),
        count_of(written.weights, "constant"),
        match written.biases {
            1 => "1 bias".to_owned(),
            n => format!("{n} biases"),
        },
        size(before),
        size(after)
    ));
}

fn count_of(n: usize, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}

/// Why there was nothing to quantize; `what` is what the model has none of.
fn nothing(rows: &[Row], what: &str) -> String {
    let mut reasons = indexmap::IndexMap::<&str, usize>::new();
    for row in rows {
        if let Status::Skipped(reason) = &row.status {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    if reasons.is_empty() {
        return format!("nothing to quantize: the model has no {what}");
    }
    let reasons = reasons
        .iter()
        .map(|(reason, count)| format!("{reason} ({count})"));
    let reasons: Vec<String> = reasons.collect();
    format!("nothing to quantize: {}", reasons.join(", "))
}

/// A number of bytes for people.
fn size(bytes: usize) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
