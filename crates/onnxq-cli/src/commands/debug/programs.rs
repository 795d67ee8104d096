//! The figures of `onnxq-opt debug` for programs. Keys stay what they are; signal to noise is between
//! -200 and 200 dB, the ends standing for infinity.

use onnxq::{
    debug::{ActivationRow, DebugReport, WeightRow},
    distance::finite_db,
    matching::Role,
};
use serde_json::{Value, json};

use super::Args;
use crate::files;

pub(super) fn report(args: &Args, report: &DebugReport) -> Value {
    let worst = report.worst().map(|w| {
        json!({
            "node": w.node,
            "op": w.op,
            "tensor": w.name,
            "own_sqnr_db": finite_db(w.own_db),
            "sqnr_db": finite_db(w.figures.model.sqnr_db()),
            "inputs_sqnr_db": w.inputs_db,
            "drop_db": w.drop_db().filter(|db| db.is_finite()),
        })
    });
    json!({
        "float": files::name(&args.float),
        "quantized": files::name(&args.quantized),
        "samples": report.samples,
        "quantized_tensors": report.quantized_tensors,
        "unmatched": report.unmatched,
        "worst": worst,
        "activations": report.activations.iter().map(activation).collect::<Vec<_>>(),
        "weights": report.weights.iter().map(weight).collect::<Vec<_>>(),
    })
}

fn ends(range: Option<(f64, f64)>) -> Value {
    range.map_or(Value::Null, |(lo, hi)| json!([lo, hi]))
}

fn activation(row: &ActivationRow) -> Value {
    let f = &row.figures;
    json!({
        "tensor": row.name,
        "node": row.node,
        "op": row.op,
        "dtype": row.dtype().map(|d| d.name()),
        "layer_sqnr_db": finite_db(f.layer.sqnr_db()),
        "quantization_sqnr_db": f.quantization.map(|q| finite_db(q.sqnr_db())),
        "sqnr_db": finite_db(f.model.sqnr_db()),
        "inputs_sqnr_db": row.inputs_db,
        "cosine": f.model.cosine(),
        "max_abs": f.model.max_abs,
        "range": ends(f.range),
        "representable": ends(f.representable),
        "saturated": share(f.saturated, f.codes),
    })
}

fn weight(row: &WeightRow) -> Value {
    let f = &row.figures;
    let role = match row.role {
        Role::Weight => "weight",
        Role::Bias => "bias",
    };
    json!({
        "tensor": row.name,
        "codes": row.codes,
        "role": role,
        "node": row.node,
        "op": row.op,
        "dtype": f.dtype.name(),
        "dims": f.dims,
        "scales": f.scales,
        "sqnr_db": finite_db(f.distance.sqnr_db()),
        "max_abs": f.distance.max_abs,
        "cosine": f.distance.cosine(),
        "range": ends(Some(f.range)),
        "representable": ends(f.representable),
        "codes_used": f.codes_used,
        "saturated": share(f.saturated, f.distance.elements),
        "worst_channel": f.worst_channel.map(|(channel, db)| {
            json!({"channel": channel, "sqnr_db": finite_db(db)})
        }),
    })
}

fn share(part: u64, whole: u64) -> Value {
    match whole {
        0 => Value::Null,
        whole => json!(part as f64 / whole as f64),
    }
}
