//! `RANGES.json`: ranges, and what is needed to merge them with others.
//!
//! One object that two programs read. Ours are `ranges`, by name `[lo, hi]`, and, for tensors of
//! which more is known, `channels`, by name `{"axis", "lo", "hi"}`, which `ranges` may hold as
//! well; `data`, `calibration_method` and `smooth_quant` are what
//! `onnxruntime.quantization` 1.31 reads as its calibration cache. Read as well: that program's
//! own cache, and the plain `{tensor: [lo, hi]}`.

use serde::{Serialize, de::DeserializeOwned, ser::SerializeMap};
use serde_json::{Map, Value};

use super::lines::to_lines;
use crate::{
    CalibrationSpec, Error, Method, Moments, Observers, Ranges, Result, TensorRange, ValueRange,
    observe::ObserversState,
};

/// What a table of ranges holds.
#[derive(Debug, Default)]
pub struct RangeTable {
    /// The ranges.
    pub ranges: Ranges,
    /// How they were found.
    pub spec: Option<CalibrationSpec>,
    /// On how many samples.
    pub samples: Option<usize>,
    /// The SHA-256 of the model that was observed, in hexadecimal digits.
    pub model: Option<String>,
    /// What merging needs.
    pub observers: Option<Observers>,
}

#[derive(Serialize)]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<CalibrationSpec>,
    ranges: Wholes<'a>,
    #[serde(skip_serializing_if = "Channels::is_empty")]
    channels: Channels<'a>,
    #[serde(rename = "CLS")]
    class: &'static str,
    calibration_method: Tagged,
    smooth_quant: bool,
    data: TheirRanges<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observers: Option<ObserversState>,
}

#[derive(Serialize)]
struct Tagged {
    #[serde(rename = "CLS")]
    class: &'static str,
    value: &'static str,
}

struct Wholes<'a>(&'a Ranges);

impl Serialize for Wholes<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        let whole = |range: &TensorRange| {
            let range = range.whole();
            [range.lo, range.hi]
        };
        to.collect_map(self.0.iter().map(|(name, range)| (name, whole(range))))
    }
}

struct Channels<'a>(&'a Ranges);

impl<'a> Channels<'a> {
    fn iter(&self) -> impl Iterator<Item = (&'a str, i64, &'a [ValueRange])> {
        self.0.iter().filter_map(|(name, range)| match range {
            TensorRange::Channels { axis, ranges } => Some((name, *axis, &**ranges)),
            TensorRange::Tensor(_) => None,
        })
    }

    fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl Serialize for Channels<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Entry {
            axis: i64,
            lo: Vec<f32>,
            hi: Vec<f32>,
        }
        let entry = |(name, axis, ranges): (_, _, &[ValueRange])| {
            let lo = ranges.iter().map(|r| r.lo).collect();
            let hi = ranges.iter().map(|r| r.hi).collect();
            (name, Entry { axis, lo, hi })
        };
        to.collect_map(self.iter().map(entry))
    }
}

struct TheirRanges<'a>(&'a Ranges);

impl Serialize for TheirRanges<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Array {
            data: [f32; 1],
            dtype: &'static str,
            #[serde(rename = "CLS")]
            class: &'static str,
        }
        #[derive(Serialize)]
        struct TensorData {
            lowest: Array,
            highest: Array,
            #[serde(skip_serializing_if = "Option::is_none")]
            avg: Option<Array>,
            #[serde(skip_serializing_if = "Option::is_none")]
            std: Option<Array>,
            #[serde(rename = "CLS")]
            class: &'static str,
        }
        let array = |v| Array {
            data: [v],
            dtype: "float32",
            class: "numpy.array",
        };
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (name, range) in self.0.iter() {
            // That program takes no ranges of channels.
            let range = range.whole();
            let moments = self.0.moments(name);
            let entry = TensorData {
                lowest: array(range.lo),
                highest: array(range.hi),
                avg: moments.map(|m| array(m.mean)),
                std: moments.map(|m| array(m.deviation)),
                class: "TensorData",
            };
            map.serialize_entry(name, &entry)?;
        }
        map.end()
    }
}

impl RangeTable {
    /// What observers have found, with what they have seen if the table is `to_merge`.
    pub fn of(observers: Observers, model: Option<String>, to_merge: bool) -> RangeTable {
        RangeTable {
            ranges: observers.ranges(),
            spec: Some(observers.spec()),
            samples: Some(observers.samples()),
            model,
            observers: to_merge.then_some(observers),
        }
    }

    /// The table of what both have seen, on different samples: that of a single run.
    ///
    /// # Errors
    /// One has nothing to merge, or they differ in more than the samples.
    pub fn merge(self, other: RangeTable) -> Result<RangeTable> {
        if self.model != other.model {
            return Err(Error::Merge("they are of different models"));
        }
        match (self.observers, other.observers) {
            (Some(observers), Some(others)) => {
                observers.merge(others)?;
                Ok(RangeTable::of(observers, self.model, true))
            }
            _ => Err(Error::Merge("one has ranges alone")),
        }
    }

    /// The text of the file, the same for the same table.
    pub fn to_json(&self) -> String {
        let method = self.spec.map_or(Method::MINMAX, |s| s.method);
        to_lines(&Written {
            model: self.model.as_deref(),
            samples: self.samples,
            spec: self.spec,
            ranges: Wholes(&self.ranges),
            channels: Channels(&self.ranges),
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
            observers: self.observers.as_ref().map(ObserversState::of),
        })
    }

    /// Reads any of the three forms.
    ///
    /// # Errors
    /// The text is not JSON, or not one of the forms; the message names the tensor.
    pub fn from_json(text: &[u8]) -> Result<RangeTable> {
        let value: Value = serde_json::from_slice(text)
            .map_err(|e| Error::Table(format!("this is not JSON: {e}")))?;
        let Value::Object(mut object) = value else {
            let message = "expected an object of ranges by tensor";
            return Err(Error::Table(message.to_owned()));
        };
        let theirs = object.get("CLS").and_then(Value::as_str) == Some("TensorsData");
        let mut table = RangeTable::default();
        if let Some(Value::Object(ranges)) = object.get("ranges")
            && (theirs || our_range(&object["ranges"]).is_none())
        {
            table.ranges = each(ranges, our_range)?;
            if let Some(Value::Object(channels)) = object.get("channels") {
                for (name, range) in each(channels, our_range)?.iter() {
                    table.ranges.insert(name, range.clone());
                }
            }
            table.model = part(&mut object, "model")?;
            table.samples = part(&mut object, "samples")?;
            table.spec = part(&mut object, "spec")?;
            let state: Option<ObserversState> = part(&mut object, "observers")?;
            table.observers = state.map(ObserversState::restore).transpose()?;
        } else if !theirs {
            table.ranges = each(&object, our_range)?;
        }
        if theirs {
            let Some(Value::Object(data)) = object.get("data") else {
                let message = "this calibration cache has no `data`";
                return Err(Error::Table(message.to_owned()));
            };
            if table.ranges.is_empty() {
                table.ranges = each(data, their_range)?;
            }
            for (name, value) in data {
                if let Some(moments) = their_moments(value) {
                    table.ranges.set_moments(name, moments);
                }
            }
        }
        Ok(table)
    }
}

/// A part of our form, taken out.
fn part<T: DeserializeOwned>(object: &mut Map<String, Value>, key: &str) -> Result<Option<T>> {
    let value = object.remove(key).map(serde_json::from_value);
    value
        .transpose()
        .map_err(|e| Error::Table(format!("`{key}`: {e}")))
}

fn each(object: &Map<String, Value>, read: fn(&Value) -> Option<TensorRange>) -> Result<Ranges> {
    let one = |(name, value): (&String, &Value)| match read(value) {
        Some(range) => Ok((name.clone(), range)),
        None => {
            let found: String = value.to_string().chars().take(60).collect();
            Err(Error::Table(format!(
                "the range of `{name}`: expected [lo, hi] of finite numbers with lo <= hi, \
                 found {found}"
            )))
        }
    };
    object.iter().map(one).collect()
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

/// A cache by Distribution has them.
fn their_moments(value: &Value) -> Option<Moments> {
    let one = |name| match value.get(name)? {
        Value::Object(array) => numbers(array.get("data")?)?.first().copied(),
        plain => number(plain),
    };
    Some(Moments {
        mean: one("avg")?,
        deviation: one("std")?,
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
