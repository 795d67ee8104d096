//! Types and parameters that a user gives for single tensors, in a JSON file.
//!
//! The meaning is that of `TensorQuantOverrides` of the quantization tool of ONNX Runtime: for
//! each tensor a list of one object, or, for a constant with an `axis`, of one for each channel.

use std::fs;

use indexmap::IndexMap;
use onnxq_ir::{Graph, Model};
use onnxq_pass::{Error, Options, PassError};
use onnxq_quant::QuantType;
use serde_json::{Map, Value};

use super::{super::unfold::literal, settings::type_named};

/// What is given, by tensor.
#[derive(Clone, Debug, Default)]
pub(in crate::quantize) struct Overrides {
    tensors: IndexMap<String, Vec<Override>>,
}

/// What is given for a tensor, or for a channel of it.
#[derive(Clone, PartialEq, Debug, Default)]
pub(in crate::quantize) struct Override {
    pub(in crate::quantize) qtype: Option<QuantType>,
    /// Scale and zero point.
    pub(in crate::quantize) params: Option<(f32, i32)>,
    pub(in crate::quantize) rmin: Option<f32>,
    pub(in crate::quantize) rmax: Option<f32>,
    pub(in crate::quantize) symmetric: Option<bool>,
    pub(in crate::quantize) reduce_range: Option<bool>,
    pub(in crate::quantize) axis: Option<i64>,
    pub(in crate::quantize) convert: Option<Box<Convert>>,
}

/// Another type for some of the users of a tensor.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::quantize) struct Convert {
    pub(in crate::quantize) to: Override,
    /// The users by name; all where they are not given.
    pub(in crate::quantize) users: Option<Vec<String>>,
}

impl Overrides {
    /// Reads the file that the option names.
    pub(in crate::quantize) fn take(opts: &mut Options) -> Result<Overrides, Error> {
        let Some(path) = opts.take::<Option<String>>("overrides", None)? else {
            return Ok(Overrides::default());
        };
        let invalid = |e: String| opts.invalid("overrides", format!("a JSON file ({e})"));
        let text = fs::read_to_string(&path).map_err(|e| invalid(e.to_string()))?;
        Overrides::parse(&text).map_err(invalid)
    }

    fn parse(text: &str) -> Result<Overrides, String> {
        let json: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let Value::Object(object) = json else {
            return Err("expected an object of tensors".to_owned());
        };
        let mut tensors = IndexMap::new();
        for (name, entries) in object {
            let at = |e: String| format!("tensor `{name}`: {e}");
            let Value::Array(entries) = entries else {
                return Err(at("expected a list".to_owned()));
            };
            let entries: Result<Vec<Override>, String> = entries.iter().map(entry).collect();
            let entries = entries.and_then(check_channels).map_err(at)?;
            if entries.first().is_some_and(|e| *e != Override::default()) {
                tensors.insert(name, entries);
            }
        }
        Ok(Overrides { tensors })
    }

    /// Whether anything is given for a tensor.
    pub(in crate::quantize) fn has(&self, tensor: &str) -> bool {
        self.tensors.contains_key(tensor)
    }

    /// What is given for a tensor as a whole.
    pub(in crate::quantize) fn get(&self, tensor: &str) -> Option<&Override> {
        self.tensors.get(tensor)?.first()
    }

    /// What is given for the channels of a tensor; one stands for all.
    pub(in crate::quantize) fn channels(&self, tensor: &str) -> &[Override] {
        self.tensors.get(tensor).map_or(&[], Vec::as_slice)
    }

    /// `None` if nothing is given for the tensor; else the axis of its channels, if it has one.
    pub(in crate::quantize) fn axis(&self, tensor: &str) -> Option<Option<i64>> {
        self.get(tensor).map(|first| first.axis)
    }

    /// Whether some users of the tensor get it in another type.
    pub(in crate::quantize) fn converts(&self, tensor: &str) -> bool {
        self.get(tensor).is_some_and(|o| o.convert.is_some())
    }

    /// The types that are given.
    pub(in crate::quantize) fn types(&self) -> impl Iterator<Item = QuantType> {
        self.tensors.values().flatten().flat_map(|o| {
            let to = o.convert.as_ref().and_then(|c| c.to.qtype);
            o.qtype.into_iter().chain(to)
        })
    }

    /// Refuses what does not fit the model.
    pub(in crate::quantize) fn check(
        &self,
        model: &Model,
        default: QuantType,
    ) -> Result<(), PassError> {
        if self.tensors.is_empty() {
            return Ok(());
        }
        // By tensor: its dimensions if it is constant.
        let mut known: IndexMap<&str, Option<Vec<usize>>> = IndexMap::new();
        model.graph.for_each_graph(&mut |graph: &Graph| {
            for n in graph.node_ids() {
                for i in 0..graph.node(n).results.len() {
                    let v = graph.result(n, i);
                    let name = &*graph.value(v).name;
                    if let Some((name, _)) = self.tensors.get_key_value(name) {
                        let dims = literal(graph, v).map(|t| t.dims().to_vec());
                        known.insert(name, dims);
                    }
                }
            }
        });
        for (name, entries) in &self.tensors {
            let Some(dims) = known.get(&**name) else {
                return Err(PassError::new(format_args!(
                    "overrides name tensor `{name}`, which the model does not have"
                )));
            };
            check_tensor(entries, dims.as_deref(), default)
                .map_err(|e| PassError::new(format_args!("overrides of tensor `{name}`: {e}")))?;
        }
        Ok(())
    }
}

fn check_tensor(
    entries: &[Override],
    dims: Option<&[usize]>,
    default: QuantType,
) -> Result<(), String> {
    let Some(first) = entries.first() else {
        return Ok(());
    };
    let per_channel = entries.len() > 1 || first.axis.is_some();
    let Some(dims) = dims else {
        if per_channel {
            return Err("it is not constant, so its channels cannot differ".to_owned());
        }
        if first.reduce_range.is_some() {
            return Err("`reduce_range` is for constants, and it is none".to_owned());
        }
        return match &first.convert {
            Some(c) if c.to.qtype.is_none() => Err("`convert` needs a `quant_type`".to_owned()),
            Some(c) if c.to.qtype == Some(first.qtype.unwrap_or(default)) => {
                Err("`convert` is to the type that it has".to_owned())
            }
            Some(c) if c.to.reduce_range.is_some() => {
                Err("`reduce_range` is for constants, and it is none".to_owned())
            }
            _ => Ok(()),
        };
    };
    if first.convert.is_some() {
        return Err("`convert` is not for constants".to_owned());
    }
    if !per_channel {
        return Ok(());
    }
    let Some(axis) = first.axis else {
        return Err("the first channel gives no `axis`".to_owned());
    };
    let rank = dims.len() as i64;
    let at = if axis < 0 { axis + rank } else { axis };
    let Some(&channels) = usize::try_from(at).ok().and_then(|a| dims.get(a)) else {
        return Err(format!("axis {axis} is out of bounds for rank {rank}"));
    };
    if entries.len() > 1 && entries.len() != channels {
        return Err(format!(
            "expected {channels} channels, found {}",
            entries.len()
        ));
    }
    Ok(())
}

/// All channels must agree in what is not their own.
fn check_channels(entries: Vec<Override>) -> Result<Vec<Override>, String> {
    let Some(first) = entries.first() else {
        return Ok(entries);
    };
    if entries.len() > 1 && first.rmin.is_some() != first.rmax.is_some() {
        return Err("`rmin` and `rmax` of channels come together".to_owned());
    }
    for (i, e) in entries.iter().enumerate().skip(1) {
        let differs = |what: &str| Err(format!("channel {i} has another {what} than the first"));
        if e.qtype.is_some() && e.qtype != first.qtype {
            return differs("`quant_type`");
        }
        if e.axis.is_some() && e.axis != first.axis {
            return differs("`axis`");
        }
        if e.symmetric.is_some() && e.symmetric != first.symmetric {
            return differs("`symmetric`");
        }
        if e.reduce_range.is_some() && e.reduce_range != first.reduce_range {
            return differs("`reduce_range`");
        }
        if e.params.is_some() != first.params.is_some() {
            return Err("either every channel gives `scale` and `zero_point`, or none".to_owned());
        }
        if (e.rmin.is_some(), e.rmax.is_some()) != (first.rmin.is_some(), first.rmax.is_some()) {
            return Err("either every channel gives `rmin` and `rmax`, or none".to_owned());
        }
        if e.convert.is_some() {
            return Err("`convert` is not for channels".to_owned());
        }
    }
    Ok(entries)
}

fn entry(json: &Value) -> Result<Override, String> {
    let Value::Object(object) = json else {
        return Err("expected an object".to_owned());
    };
    let mut found = fields(object, &["convert"])?;
    if let Some(convert) = object.get("convert") {
        let Value::Object(convert) = convert else {
            return Err("`convert`: expected an object".to_owned());
        };
        let users = match convert.get("recv_nodes") {
            None | Some(Value::Null) => None,
            Some(Value::Array(names)) => {
                let name = |v: &Value| v.as_str().map(str::to_owned);
                let names: Option<Vec<String>> = names.iter().map(name).collect();
                Some(names.ok_or("`recv_nodes`: expected names of nodes")?)
            }
            Some(_) => return Err("`recv_nodes`: expected a list".to_owned()),
        };
        let to = fields(convert, &["recv_nodes"])?;
        found.convert = Some(Box::new(Convert { to, users }));
    }
    Ok(found)
}

const KEYS: &[&str] = &[
    "quant_type",
    "scale",
    "zero_point",
    "rmin",
    "rmax",
    "symmetric",
    "reduce_range",
    "axis",
];

fn fields(object: &Map<String, Value>, more: &[&str]) -> Result<Override, String> {
    if let Some(key) = object
        .keys()
        .find(|k| !KEYS.contains(&k.as_str()) && !more.contains(&k.as_str()))
    {
        let known = KEYS.join("`, `");
        return Err(format!("there is no `{key}` among `{known}`"));
    }
    let qtype = match object.get("quant_type") {
        None | Some(Value::Null) => None,
        Some(name) => {
            let found = name.as_str().and_then(type_named);
            Some(found.ok_or_else(|| format!("`quant_type`: {name} is no type"))?)
        }
    };
    let number = |key: &str| match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(v) => match v.as_f64().filter(|v| v.is_finite()) {
            Some(v) => Ok(Some(v)),
            None => Err(format!("`{key}`: expected a number, found {v}")),
        },
    };
    let integer = |key: &str| match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(v) => match v.as_i64() {
            Some(v) => Ok(Some(v)),
            None => Err(format!("`{key}`: expected an integer, found {v}")),
        },
    };
    let flag = |key: &str| match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(v) => match v.as_bool() {
            Some(v) => Ok(Some(v)),
            None => Err(format!("`{key}`: expected true or false, found {v}")),
        },
    };
    let params = match (number("scale")?, integer("zero_point")?) {
        (None, None) => None,
        (Some(scale), Some(zero)) => {
            let beside = ["rmin", "rmax", "symmetric", "reduce_range"];
            if let Some(key) = beside.iter().find(|k| object.contains_key(**k)) {
                return Err(format!(
                    "`scale` and `zero_point` leave no room for `{key}`"
                ));
            }
            if !(scale as f32).is_normal() || scale < 0.0 {
                return Err(format!("`scale`: {scale} is not a positive number"));
            }
            let zero = i32::try_from(zero).map_err(|_| format!("`zero_point`: {zero}"))?;
            Some((scale as f32, zero))
        }
        _ => return Err("`scale` and `zero_point` come together".to_owned()),
    };
    Ok(Override {
        qtype,
        params,
        rmin: number("rmin")?.map(|v| v as f32),
        rmax: number("rmax")?.map(|v| v as f32),
        symmetric: flag("symmetric")?,
        reduce_range: flag("reduce_range")?,
        axis: integer("axis")?,
        convert: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Overrides::parse(text).unwrap_err()
    }

    #[test]
    fn reads_what_the_reference_reads() {
        let text = r#"{"x": [{"quant_type": "QUInt16", "convert":
            {"quant_type": "uint8", "recv_nodes": ["a"]}}], "W": [{}], "b": [{"scale": 0.5, "zero_point": 3}]}"#;
        let overrides = Overrides::parse(text).unwrap();
        let x = overrides.get("x").unwrap();
        assert_eq!(x.qtype, Some(QuantType::UInt16));
        let convert = x.convert.as_ref().unwrap();
        assert_eq!(convert.to.qtype, Some(QuantType::UInt8));
        assert_eq!(convert.users.as_deref(), Some(&["a".to_owned()][..]));
        assert!(!overrides.has("W"));
        assert_eq!(overrides.get("b").unwrap().params, Some((0.5, 3)));
        assert_eq!(overrides.types().count(), 2);
    }

    #[test]
    fn refusals_name_the_item() {
        assert!(refused("[]").contains("object"));
        assert!(refused(r#"{"x": {}}"#).contains("tensor `x`"));
        assert!(refused(r#"{"x": [{"scale": 1.0}]}"#).contains("together"));
        assert!(refused(r#"{"x": [{"scale": 1.0, "zero_point": 0, "rmax": 1}]}"#).contains("rmax"));
        assert!(refused(r#"{"x": [{"qtype": "int8"}]}"#).contains("`qtype`"));
        assert!(refused(r#"{"x": [{"quant_type": "int9"}]}"#).contains("int9"));
        assert!(
            refused(r#"{"x": [{"axis": 0, "symmetric": true}, {"symmetric": false}]}"#)
                .contains("channel 1")
        );
    }
}
