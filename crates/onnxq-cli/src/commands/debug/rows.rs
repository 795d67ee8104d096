//! The figures of `onnxq-opt debug` for people: the columns, and a row of cells for each tensor.

use onnxq::{
    debug::{ActivationRow, WeightRow},
    matching::Role,
};

use crate::table::{Align, decibels};

pub(super) const ACTIVATIONS: [(&str, Align); 10] = [
    ("layer", Align::Left),
    ("op", Align::Left),
    ("tensor", Align::Left),
    ("layer adds", Align::Right),
    ("codes add", Align::Right),
    ("in model", Align::Right),
    ("cosine", Align::Right),
    ("float range", Align::Right),
    ("codes' range", Align::Right),
    ("saturated", Align::Right),
];

pub(super) const WEIGHTS: [(&str, Align); 11] = [
    ("weight", Align::Left),
    ("node", Align::Left),
    ("op", Align::Left),
    ("type", Align::Left),
    ("SQNR", Align::Right),
    ("max abs", Align::Right),
    ("cosine", Align::Right),
    ("float range", Align::Right),
    ("codes' range", Align::Right),
    ("saturated", Align::Right),
    ("worst channel", Align::Right),
];

pub(super) fn activation(row: &ActivationRow) -> [String; 10] {
    let f = &row.figures;
    let dash = || "-".to_owned();
    let op = if row.op.is_empty() { "input" } else { &row.op };
    [
        row.layer().to_owned(),
        op.to_owned(),
        row.name.clone(),
        decibels(f.layer.sqnr_db()),
        f.quantization.map_or_else(dash, |q| decibels(q.sqnr_db())),
        decibels(f.model.sqnr_db()),
        format!("{:.6}", f.model.cosine()),
        f.range.map_or_else(dash, range),
        f.representable.map_or_else(dash, range),
        match f.codes {
            0 => dash(),
            codes => percent(f.saturated, codes),
        },
    ]
}

pub(super) fn weight(row: &WeightRow) -> [String; 11] {
    let f = &row.figures;
    let dash = || "-".to_owned();
    let worst = |(channel, db): (usize, f64)| format!("{channel}: {}", decibels(db));
    [
        row.name.clone(),
        row.node.clone(),
        row.op.clone(),
        f.dtype.name().to_owned(),
        decibels(f.distance.sqnr_db()),
        format!("{:.3e}", f.distance.max_abs),
        format!("{:.6}", f.distance.cosine()),
        range(f.range),
        f.representable.map_or_else(dash, range),
        match row.role {
            Role::Weight => percent(f.saturated, f.distance.elements),
            Role::Bias => dash(),
        },
        f.worst_channel.map_or_else(dash, worst),
    ]
}

fn range((lo, hi): (f64, f64)) -> String {
    let end = |x: f64| {
        if x == 0.0 || (1e-3..1e5).contains(&x.abs()) {
            let digits = if x.abs() < 1.0 { 4 } else { 3 };
            format!("{x:.digits$}")
        } else {
            format!("{x:.2e}")
        }
    };
    format!("{} .. {}", end(lo), end(hi))
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.2} %", 100.0 * part as f64 / whole.max(1) as f64)
}
