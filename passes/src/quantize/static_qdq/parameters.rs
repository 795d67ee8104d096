//! Scale and zero point of each tensor whose parameters follow from a range.

use std::collections::HashMap;

use onnxq_ir::{Graph, NodeId, ValueId};
use onnxq_quant::{
    Error, FloatType, ParamSpec, Params, QRange, QuantType, Ranges, ValueRange, scale_tensor,
    zero_point_tensor,
};
use onnxq_tensor::{Dims, Tensor};

use super::{
    facts::{clip_bounds, is_dequantized},
    marks::{Constraints, Marks, Source},
    overrides::Override,
    ranges,
    settings::StaticSettings,
};

/// Scale and zero point of a tensor.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in crate::quantize) struct Encoding {
    pub(in crate::quantize) qtype: QuantType,
    pub(in crate::quantize) float: FloatType,
    pub(in crate::quantize) params: Params,
}

impl Encoding {
    /// Scale and zero point as tensors of rank 0.
    pub(in crate::quantize) fn tensors(&self) -> Result<(Tensor, Tensor), Error> {
        let scale = scale_tensor(self.float, Dims::new(), &[self.params.scale])?;
        let zero = zero_point_tensor(self.qtype, Dims::new(), &[self.params.zero_point])?;
        Ok((scale, zero))
    }
}

/// What a tensor is quantized with.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::quantize) struct Activation {
    pub(in crate::quantize) encoding: Encoding,
    /// What some of its users get instead, and their names; all users if there are none.
    pub(in crate::quantize) converted: Option<(Encoding, Option<Vec<String>>)>,
}

/// The parameters of a graph's tensors, and what stands against quantizing them all.
#[derive(Debug, Default)]
pub(in crate::quantize) struct Parameters {
    pub(in crate::quantize) activations: HashMap<ValueId, Activation>,
    /// Conversions of tensors that share the parameters of others.
    pub(in crate::quantize) conversions: HashMap<ValueId, (Encoding, Option<Vec<String>>)>,
    /// Tensors without a range.
    pub(in crate::quantize) missing: Vec<ValueId>,
    /// Relu and Clip that are removed and must not be.
    pub(in crate::quantize) needed: Vec<NodeId>,
}

/// Computes the parameters of the tensors of a graph.
///
/// # Errors
/// Names the tensor of which the range, or what overrides it, is of no use.
pub(in crate::quantize) fn parameters(
    graph: &Graph,
    settings: &StaticSettings,
    marks: &Marks,
    constraints: &Constraints,
    known: &Ranges,
) -> Result<Parameters, String> {
    let mut found = Parameters::default();
    let needed = ranges::needed(graph, settings, marks, constraints);
    for (&v, mark) in &marks.tensors {
        let name = &*graph.value(v).name;
        let at = |e: Error| format!("tensor `{name}`: {e}");
        let given = settings.overrides.get(name);
        let range = match needed.get(&v) {
            Some(&from) => match ranges::range(graph, known, v, from) {
                Some(range) => range,
                None => {
                    found.missing.push(v);
                    continue;
                }
            },
            None => ValueRange::EMPTY,
        };
        let conversion = given.and_then(|o| o.convert.as_ref());
        let converted = match conversion {
            Some(c) => Some((
                encoding(settings, &c.to, range, mark.float).map_err(at)?,
                c.users.clone(),
            )),
            None => None,
        };
        match mark.source {
            Source::Shared { .. } => {
                // Its range is needed for the conversion only.
                found.conversions.extend(converted.map(|c| (v, c)));
            }
            _ if mark.constant.is_some() => {}
            _ => {
                let default = Override::default();
                let given = given.unwrap_or(&default);
                let encoding = encoding(settings, given, range, mark.float).map_err(at)?;
                found.activations.insert(
                    v,
                    Activation {
                        encoding,
                        converted,
                    },
                );
            }
        }
    }
    found.needed = marks
        .removed
        .iter()
        .copied()
        .filter(|&n| !implies(graph, n, &found.activations, &needed, known))
        .collect();
    Ok(found)
}

/// Whether limiting codes to their range does what the removed Relu or Clip `n` does.
fn implies(
    graph: &Graph,
    n: NodeId,
    activations: &HashMap<ValueId, Activation>,
    needed: &indexmap::IndexMap<ValueId, ranges::RangeOf>,
    known: &Ranges,
) -> bool {
    let y = graph.result(n, 0);
    let Some(Activation { encoding, .. }) = activations.get(&y) else {
        // It is the operand of another one that is removed, or has no range.
        return true;
    };
    let codes = QRange::full(encoding.qtype);
    let Some((lo, hi)) = clip_bounds(graph, n) else {
        return false;
    };
    if encoding.qtype == QuantType::Float8E4M3FN {
        return false;
    }
    let Params { scale, zero_point } = encoding.params;
    // A range that ends where the operator does may be half a step off, as codes are.
    let real = |code: i32| (code - zero_point) as f32 * scale;
    let below = lo == f32::NEG_INFINITY || real(codes.min) >= lo - 0.5 * scale;
    let above = hi == f32::INFINITY || real(codes.max) <= hi + 0.5 * scale;
    // Values of 0 only need no codes.
    let flat = needed
        .get(&y)
        .and_then(|&from| ranges::range(graph, known, y, from))
        .is_some_and(|r| r.lo == 0.0 && r.hi == 0.0);
    below && (above || flat)
}

/// What follows from a range and what a user gives.
fn encoding(
    settings: &StaticSettings,
    given: &Override,
    range: ValueRange,
    float: FloatType,
) -> Result<Encoding, Error> {
    let qtype = given.qtype.unwrap_or(settings.activation_type);
    let symmetric = given.symmetric.unwrap_or(settings.activation_symmetric);
    let params = match given.params {
        Some((scale, zero_point)) => Params { scale, zero_point },
        None if qtype == QuantType::Float8E4M3FN => Params {
            scale: float8_scale(range, float)?,
            zero_point: 0,
        },
        None => {
            let spec = ParamSpec {
                qtype,
                symmetric,
                reduce_range: given.reduce_range.unwrap_or(false),
                min_real_range: settings.min_real_range,
                restricted_asymmetric: settings.restricted_asymmetric,
            };
            let range = ValueRange::new(
                given.rmin.unwrap_or(range.lo),
                given.rmax.unwrap_or(range.hi),
            );
            spec.compute(range, float)?
        }
    };
    Ok(Encoding {
        qtype,
        float,
        params,
    })
}

/// The scale by which the farther end of a range becomes the largest number of float8.
fn float8_scale(range: ValueRange, float: FloatType) -> Result<f32, Error> {
    const LARGEST: f64 = 448.0;
    let ValueRange { lo, hi } = range;
    let finite = lo.is_finite() && hi.is_finite();
    if !finite && !range.is_empty() {
        return Err(Error::Range { lo, hi });
    }
    let scale = f64::from(hi.max(-lo).max(0.0)) / LARGEST;
    Ok(match scale < float.min_positive() {
        true => 1.0,
        false => float.round(scale),
    })
}

/// Where the parameters of a value are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::quantize) enum Place {
    /// They are those of this tensor.
    Own(ValueId),
    /// They are those that this tensor is converted to.
    Converted(ValueId),
    /// They are operands of this DequantizeLinear.
    Existing(NodeId),
}

/// Finds places, walking over each tensor that shares parameters once.
pub(in crate::quantize) struct Places<'a> {
    graph: &'a Graph,
    marks: &'a Marks,
    parameters: &'a Parameters,
    known: HashMap<ValueId, Option<Place>>,
}

impl<'a> Places<'a> {
    pub(in crate::quantize) fn new(
        graph: &'a Graph,
        marks: &'a Marks,
        parameters: &'a Parameters,
    ) -> Self {
        Places {
            graph,
            marks,
            parameters,
            known: HashMap::new(),
        }
    }

    /// Where the parameters are that `v` has for `user`.
    pub(in crate::quantize) fn of(&mut self, v: ValueId, user: NodeId) -> Option<Place> {
        match self.is_converted(v, user) {
            true => Some(Place::Converted(v)),
            false => self.original(v),
        }
    }

    fn is_converted(&self, v: ValueId, user: NodeId) -> bool {
        let own = self.parameters.activations.get(&v);
        let converted = own.and_then(|a| a.converted.as_ref());
        match converted.or_else(|| self.parameters.conversions.get(&v)) {
            Some((_, Some(users))) => users.contains(&self.graph.node(user).name),
            Some((_, None)) => true,
            None => false,
        }
    }

    /// Where the parameters are that `v` is quantized with.
    pub(in crate::quantize) fn original(&mut self, v: ValueId) -> Option<Place> {
        let mut path = Vec::new();
        let mut at = v;
        let place = loop {
            if let Some(&place) = self.known.get(&at) {
                break place;
            }
            let before = *self.marks.quantized.get(&at).unwrap_or(&at);
            if is_dequantized(self.graph, before) {
                break Some(Place::Existing(before.node));
            }
            let Some(mark) = self.marks.tensors.get(&at) else {
                break None;
            };
            path.push(at);
            match mark.source {
                Source::Shared { provider, user } => {
                    if self.is_converted(provider, user) {
                        break Some(Place::Converted(provider));
                    }
                    at = provider;
                }
                _ => break Some(Place::Own(at)),
            }
        };
        for v in path {
            self.known.insert(v, place);
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float8_reaches_the_farther_end() {
        let scale = |lo, hi| float8_scale(ValueRange::new(lo, hi), FloatType::F32).unwrap();
        assert_eq!(scale(-448.0, 1.0), 1.0);
        assert_eq!(scale(0.0, 896.0), 2.0);
        assert_eq!(scale(0.0, 0.0), 1.0);
        assert!(float8_scale(ValueRange::new(0.0, f32::NAN), FloatType::F32).is_err());
    }
}
