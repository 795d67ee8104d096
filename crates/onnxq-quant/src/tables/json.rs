//! `RANGES.json`: ranges, and what is needed to merge them with others.
//!
//! One object that two programs read: `ranges` is ours, by name `[lo, hi]` or
//! `{"axis", "lo", "hi"}`; `data`, `calibration_method` and `smooth_quant` are what
//! `onnxruntime.quantization` 1.31 reads as its calibration cache. Read as well: that program's
//! own cache, and the plain `{tensor: [lo, hi]}`.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize, ser::SerializeMap};
use serde_json::Value;

use crate::{CalibrationSpec, Error, Method, Ranges, Result, TensorRange, ValueRange};

/// What a table of ranges holds.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RangeTable {
    /// The ranges.
    pub ranges: Ranges,
    /// How they were found.
    pub spec: Option<CalibrationSpec>,
    /// On how many samples.
    pub samples: Option<usize>,
    /// The SHA-256 of the model that was observed, in hexadecimal digits.
    pub model: Option<String>,
}

#[derive(Serialize)]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<usize>,
    ranges: OurRanges<'a>,
    #[serde(rename = "CLS")]
    class: &'static str,
    calibration_method: Tagged,
    smooth_quant: bool,
    data: TheirRanges<'a>,
}

#[derive(Serialize)]
struct Tagged {
    #[serde(rename = "CLS")]
    class: &'static str,
    value: &'static str,
}

struct OurRanges<'a>(&'a Ranges);

impl Serialize for OurRanges<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Entry {
            Tensor([f32; 2]),
            Channels {
                axis: i64,
                lo: Vec<f32>,
                hi: Vec<f32>,
            },
        }
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (name, range) in self.0.iter() {
            let entry = match range {
                TensorRange::Tensor(r) => Entry::Tensor([r.lo, r.hi]),
                TensorRange::Channels { axis, ranges } => Entry::Channels {
                    axis: *axis,
                    lo: ranges.iter().map(|r| r.lo).collect(),
                    hi: ranges.iter().map(|r| r.hi).collect(),
                },
            };
            map.serialize_entry(name, &entry)?;
        }
        map.end()
    }
}

struct TheirRanges<'a>(&'a Ranges);

impl Serialize for TheirRanges<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Array {
            data: Vec<f32>,
            dtype: &'static str,
            #[serde(rename = "CLS")]
            class: &'static str,
        }
        #[derive(Serialize)]
        struct TensorData {
            lowest: Array,
            highest: Array,
            #[serde(rename = "CLS")]
            class: &'static str,
        }
        let array = |data| Array {
            data,
            dtype: "float32",
            class: "numpy.array",
        };
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (name, range) in self.0.iter() {
            let ranges = match range {
                TensorRange::Tensor(range) => std::slice::from_ref(range),
                TensorRange::Channels { ranges, .. } => ranges,
            };
            let entry = TensorData {
                lowest: array(ranges.iter().map(|r| r.lo).collect()),
                highest: array(ranges.iter().map(|r| r.hi).collect()),
                class: "TensorData",
            };
            map.serialize_entry(name, &entry)?;
        }
        map.end()
    }
}

impl RangeTable {
    /// The text of the file, the same for the same table.
    pub fn to_json(&self) -> String {
        let method = self.spec.map_or(Method::MINMAX, |s| s.method);
        let written = Written {
            model: self.model.as_deref(),
            samples: self.samples,
            ranges: OurRanges(&self.ranges),
            class: "TensorsData",
            calibration_method: Tagged {
                class: "CalibrationMethod",
                value: match method {
                    Method::MinMax { .. } | Method::Mse { .. } => "CalibrationMethod.MinMax",
                    Method::Entropy { .. } => "CalibrationMethod.Entropy",
                    Method::Percentile { .. } => "CalibrationMethod.Percentile",
                    Method::Distribution { .. } => "CalibrationMethod.Distribution",
                },
            },
            smooth_quant: false,
            data: TheirRanges(&self.ranges),
        };
        let mut text = serde_json::to_string_pretty(&written)
            .expect("maps have strings as keys, and the writer is memory");
        text.push('\n');
        text
    }

    /// Reads any of the three forms.
    ///
    /// # Errors
    /// The text is not JSON, or not one of the forms; the message names the tensor.
    pub fn from_json(text: &[u8]) -> Result<RangeTable> {
        let value: Value = serde_json::from_slice(text)
            .map_err(|e| Error::Table(format!("this is not JSON: {e}")))?;
        let Value::Object(object) = value else {
            return Err(Error::Table(
                "expected an object of ranges by tensor".to_owned(),
            ));
        };
        if let Some(ranges) = object.get("ranges").and_then(Value::as_object)
            && !ranges.contains_key("lo")
        {
            return Ok(RangeTable {
                ranges: each(ranges, our_range)?,
                spec: None,
                samples: object
                    .get("samples")
                    .and_then(|v| usize::deserialize(v).ok()),
                model: object
                    .get("model")
                    .and_then(|v| String::deserialize(v).ok()),
            });
        }
        let class = object.get("CLS").and_then(Value::as_str);
        let (ranges, read): (_, fn(&Value) -> Option<TensorRange>) = match class {
            Some("TensorsData") => match object.get("data").and_then(Value::as_object) {
                Some(data) => (data, their_range),
                None => {
                    return Err(Error::Table(
                        "this calibration cache has no `data`".to_owned(),
                    ));
                }
            },
            _ => (&object, our_range),
        };
        Ok(RangeTable {
            ranges: each(ranges, read)?,
            ..RangeTable::default()
        })
    }
}

fn each(
    object: &serde_json::Map<String, Value>,
    read: fn(&Value) -> Option<TensorRange>,
) -> Result<Ranges> {
    let mut found = IndexMap::with_capacity(object.len());
    for (name, value) in object {
        let range = read(value).ok_or_else(|| {
            let text = value.to_string();
            let text: String = text.chars().take(60).collect();
            Error::Table(format!(
                "the range of `{name}`: expected [lo, hi] of finite numbers with lo <= hi, found {text}"
            ))
        })?;
        found.insert(name.clone(), range);
    }
    Ok(found.into_iter().collect())
}

fn our_range(value: &Value) -> Option<TensorRange> {
    match value {
        Value::Array(ends) => match ends.as_slice() {
            [lo, hi] => Some(TensorRange::Tensor(range(number(lo)?, number(hi)?)?)),
            _ => None,
        },
        Value::Object(channels) => Some(TensorRange::Channels {
            axis: channels.get("axis")?.as_i64()?,
            ranges: pairs(numbers(channels.get("lo")?)?, numbers(channels.get("hi")?)?)?,
        }),
        _ => None,
    }
}

/// `lowest` and `highest` are each a number, or an array: of one number for a tensor, of more
/// for its channels, which that program has along axis 1.
fn their_range(value: &Value) -> Option<TensorRange> {
    let end = |name| match value.get(name)? {
        Value::Object(array) => numbers(array.get("data")?),
        plain => numbers(plain),
    };
    let ranges = pairs(end("lowest")?, end("highest")?)?;
    Some(match ranges.as_slice() {
        [one] => TensorRange::Tensor(*one),
        _ => TensorRange::Channels { axis: 1, ranges },
    })
}

fn pairs(lo: Vec<f32>, hi: Vec<f32>) -> Option<Vec<ValueRange>> {
    if lo.len() != hi.len() {
        return None;
    }
    lo.into_iter().zip(hi).map(|(l, h)| range(l, h)).collect()
}

fn range(lo: f32, hi: f32) -> Option<ValueRange> {
    (lo <= hi).then_some(ValueRange { lo, hi })
}

/// A number that `f32` can hold.
fn number(value: &Value) -> Option<f32> {
    Some(value.as_f64()? as f32).filter(|v| v.is_finite())
}

/// A number, or an array of them (of rank 1, or nested with one element at each level).
fn numbers(value: &Value) -> Option<Vec<f32>> {
    match value {
        Value::Array(all) => match all.as_slice() {
            [inner @ Value::Array(_)] => numbers(inner),
            all => all.iter().map(number).collect(),
        },
        one => Some(vec![number(one)?]),
    }
}
