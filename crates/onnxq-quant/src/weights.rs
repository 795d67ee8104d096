//! Quantizing constant tensors: per tensor, per channel, or in blocks.
//!
//! Every function reads the weight in the order of memory and makes no other copy of it than
//! the codes. Large models are quantized one weight at a time on each thread.

use onnxq_tensor::Tensor;

use crate::{
    Error, FloatType, Granularity, ParamSpec, Params, QRange, QuantType, Result, ValueRange, data,
    encode::{GroupParams, WIDE, encode},
    float8,
    floats::{Floats, scratch},
    granularity::Layout,
    params::{scale_tensor, zero_point_tensor},
};

/// How a weight is quantized.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct WeightSpec {
    /// The type of the codes.
    pub qtype: QuantType,
    /// Whether the zero point is in the middle of the codes; by default iff they have a sign.
    pub symmetric: Option<bool>,
    /// Leave the highest bit of the codes unused.
    pub reduce_range: bool,
    /// The least distance between the ends of a range.
    pub min_real_range: Option<f64>,
    /// Which elements share a scale.
    pub granularity: Granularity,
}

impl WeightSpec {
    /// The defaults for a type, per tensor.
    pub fn new(qtype: QuantType) -> WeightSpec {
        WeightSpec {
            qtype,
            symmetric: None,
            reduce_range: false,
            min_real_range: None,
            granularity: Granularity::PerTensor,
        }
    }

    /// The same per channel.
    #[must_use]
    pub fn per_channel(self, axis: i64) -> WeightSpec {
        WeightSpec {
            granularity: Granularity::PerChannel { axis },
            ..self
        }
    }

    /// The same in blocks.
    #[must_use]
    pub fn blocked(self, axis: i64, block: usize) -> WeightSpec {
        WeightSpec {
            granularity: Granularity::Blocked { axis, block },
            ..self
        }
    }

    /// How scale and zero point follow from a range.
    pub fn params(&self) -> ParamSpec {
        ParamSpec {
            symmetric: self.symmetric.unwrap_or(self.qtype.is_signed()),
            reduce_range: self.reduce_range,
            min_real_range: self.min_real_range,
            ..ParamSpec::new(self.qtype)
        }
    }
}

/// A weight in codes. `scale` has the float type that the weight had, and the shape that its
/// [`Granularity`] gives; `zero_point` has the same shape.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct QuantizedWeight {
    pub data: Tensor,
    pub scale: Tensor,
    pub zero_point: Tensor,
}

/// Quantizes a weight over the ranges of its own values.
pub fn quantize_weight(weight: &Tensor, spec: &WeightSpec) -> Result<QuantizedWeight> {
    let layout = Layout::new(weight.dims(), spec.granularity)?;
    let floats = Floats::new(weight)?;
    let ranges = scan(&floats, &layout)?;
    in_ranges(&floats, weight.dims(), &layout, spec, &ranges)
}

/// Quantizes a weight over given ranges, one for each group; values outside saturate.
pub fn quantize_weight_in_ranges(
    weight: &Tensor,
    spec: &WeightSpec,
    ranges: &[ValueRange],
) -> Result<QuantizedWeight> {
    let layout = Layout::new(weight.dims(), spec.granularity)?;
    expect_count("ranges", layout.groups, ranges.len())?;
    in_ranges(&Floats::new(weight)?, weight.dims(), &layout, spec, ranges)
}

/// The range of the values of each group, in the order of the parameters. NaN and infinity are
/// an error that names the first such element.
pub fn weight_ranges(weight: &Tensor, granularity: Granularity) -> Result<Vec<ValueRange>> {
    scan(
        &Floats::new(weight)?,
        &Layout::new(weight.dims(), granularity)?,
    )
}

/// Quantizes a weight with given scales and zero points, one of each for every group (a user's
/// overrides, or scales that were adjusted).
pub fn quantize_with(
    weight: &Tensor,
    granularity: Granularity,
    scale: &Tensor,
    zero_point: &Tensor,
) -> Result<Tensor> {
    let layout = Layout::new(weight.dims(), granularity)?;
    let (qtype, params) = read_params(&layout, scale, zero_point)?;
    encode(
        &Floats::new(weight)?,
        weight.dims(),
        &layout,
        qtype,
        &params,
    )
}

/// The reals that codes stand for.
pub fn dequantize(
    codes: &Tensor,
    granularity: Granularity,
    scale: &Tensor,
    zero_point: &Tensor,
) -> Result<Vec<f32>> {
    let layout = Layout::new(codes.dims(), granularity)?;
    let (qtype, params) = read_params(&layout, scale, zero_point)?;
    if codes.dtype() != qtype.dtype() {
        return Err(Error::NotQuantType(codes.dtype()));
    }
    let bytes = codes.bytes();
    let pair = |i: usize| [bytes[2 * i], bytes[2 * i + 1]];
    let nibble = |i: usize| (bytes[i / 2] >> (i % 2 * 4)) & 0xf;
    let code = |i: usize| match qtype {
        QuantType::Int8 => f32::from(bytes[i] as i8),
        QuantType::UInt8 => f32::from(bytes[i]),
        QuantType::Int16 => f32::from(i16::from_le_bytes(pair(i))),
        QuantType::UInt16 => f32::from(u16::from_le_bytes(pair(i))),
        QuantType::Int4 => f32::from((nibble(i) << 4) as i8 >> 4),
        QuantType::UInt4 => f32::from(nibble(i)),
        QuantType::Float8E4M3FN => float8::f8e4m3fn_to_f32(bytes[i]),
    };
    let mut values = Vec::with_capacity(codes.len());
    layout.try_runs(|run| {
        for (at, i) in run.span.clone().enumerate() {
            let group = run.group + at / run.width;
            values.push((code(i) - params.zeros[group]) * params.scales[group]);
        }
        Ok(())
    })?;
    Ok(values)
}

fn expect_count(what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found {
        Ok(())
    } else {
        Err(Error::Count {
            what,
            expected,
            found,
        })
    }
}

fn read_params(
    layout: &Layout,
    scale: &Tensor,
    zero_point: &Tensor,
) -> Result<(QuantType, GroupParams)> {
    let dtype = zero_point.dtype();
    let qtype = QuantType::from_dtype(dtype).ok_or(Error::NotQuantType(dtype))?;
    expect_count("scales", layout.groups, scale.len())?;
    expect_count("zero points", layout.groups, zero_point.len())?;
    let scales = read_scales(scale)?;
    let zeros = if qtype == QuantType::Float8E4M3FN {
        if zero_point.bytes().iter().any(|&b| b & 0x7f != 0) {
            return Err(Error::Float8("zero point but 0"));
        }
        vec![0.0; layout.groups]
    } else {
        zero_point.to_i64s()?.iter().map(|&z| z as f32).collect()
    };
    Ok((qtype, GroupParams { scales, zeros }))
}

/// The scales, each of which must be a positive number.
pub(crate) fn read_scales(scale: &Tensor) -> Result<Vec<f32>> {
    let floats = Floats::new(scale)?;
    let scales: Vec<f32> = (0..scale.len()).map(|i| floats.get(i)).collect();
    let bad = |s: f32| !(s.is_finite() && s > 0.0);
    match scales.iter().position(|&s| bad(s)) {
        Some(index) => Err(Error::Scale {
            index,
            value: scales[index],
        }),
        None => Ok(scales),
    }
}

/// The range of the values of each group. The first NaN or infinity is an error.
pub(crate) fn scan(floats: &Floats<'_>, layout: &Layout) -> Result<Vec<ValueRange>> {
    let mut lo = vec![f32::INFINITY; layout.groups];
    let mut hi = vec![f32::NEG_INFINITY; layout.groups];
    let mut buffer = scratch();
    layout.try_runs(|run| {
        let values = floats.load(run.span.clone(), &mut buffer);
        let (lo, hi) = (&mut lo[run.groups()], &mut hi[run.groups()]);
        let nan = match run.width {
            1 => data::scan_each(values, lo, hi),
            2..WIDE => data::scan_rows(values, run.width, lo, hi),
            width => {
                let mut nan = false;
                for ((row, lo), hi) in values.chunks(width).zip(&mut *lo).zip(&mut *hi) {
                    let (range, found) = data::scan(row);
                    let range = range.merge(ValueRange::new(*lo, *hi));
                    (*lo, *hi) = (range.lo, range.hi);
                    nan |= found;
                }
                nan
            }
        };
        if nan {
            first_not_finite(values, run.span.start)
        } else {
            Ok(())
        }
    })?;
    let ranges: Vec<ValueRange> = lo
        .into_iter()
        .zip(hi)
        .map(|(lo, hi)| ValueRange { lo, hi })
        .collect();
    let finite = |r: &ValueRange| r.is_empty() || r.lo.is_finite() && r.hi.is_finite();
    if !ranges.iter().all(finite) {
        layout.try_runs(|run| {
            first_not_finite(floats.load(run.span.clone(), &mut buffer), run.span.start)
        })?;
    }
    Ok(ranges)
}

/// An error for the first NaN or infinity among `values`, the elements from `start` on.
fn first_not_finite(values: &[f32], start: usize) -> Result<()> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(at) => Err(Error::NotFinite {
            index: start + at,
            value: values[at],
        }),
        None => Ok(()),
    }
}

fn in_ranges(
    floats: &Floats<'_>,
    dims: &[usize],
    layout: &Layout,
    spec: &WeightSpec,
    ranges: &[ValueRange],
) -> Result<QuantizedWeight> {
    let blocked = matches!(spec.granularity, Granularity::Blocked { .. });
    let rule = spec.params();
    let params: Vec<Params> = if spec.qtype == QuantType::Float8E4M3FN {
        float8_params(floats, layout, spec, ranges)?
    } else {
        let one = |&range| match blocked {
            true => block_params(&rule, range, floats.float),
            false => rule.compute(range, floats.float),
        };
        ranges.iter().map(one).collect::<Result<_>>()?
    };
    let scales: Vec<f32> = params.iter().map(|p| p.scale).collect();
    let zeros: Vec<i32> = params.iter().map(|p| p.zero_point).collect();
    let scale = scale_tensor(floats.float, layout.param_dims.clone(), &scales)?;
    let zero_point = zero_point_tensor(spec.qtype, layout.param_dims.clone(), &zeros)?;
    let params = GroupParams {
        scales,
        zeros: zeros.iter().map(|&z| z as f32).collect(),
    };
    let data = encode(floats, dims, layout, spec.qtype, &params)?;
    Ok(QuantizedWeight {
        data,
        scale,
        zero_point,
    })
}

/// Blocks differ from other groups in their arithmetic: the range is subtracted and the scale
/// rounded in the weight's type, the zero point follows from the rounded scale, and a symmetric
/// zero point is in the middle even where all is 0. Neither the reduced range nor the minimum
/// real range applies to them.
fn block_params(rule: &ParamSpec, range: ValueRange, float: FloatType) -> Result<Params> {
    let Some(ValueRange { mut lo, mut hi }) = range.with_zero()? else {
        return Ok(Params::DEGENERATE);
    };
    if rule.symmetric {
        hi = hi.max(-lo);
        lo = -hi;
    }
    let codes = QRange::of(rule.qtype, rule.symmetric, false);
    let mut distance = f64::from(float.round_f32(hi - lo));
    if distance.is_infinite() {
        // The reference lets it overflow.
        distance = f64::from(hi) - f64::from(lo);
    }
    let scale = float.round(distance / f64::from(codes.steps()));
    let tiny = f64::from(scale) < float.min_positive();
    let scale = if tiny { 1.0 } else { scale };
    let zero_point = match (rule.symmetric, tiny) {
        (true, _) => codes.middle(),
        (false, true) => 0,
        (false, false) => {
            let zero = f64::from(codes.min) - f64::from(lo) / f64::from(scale);
            (zero.round_ties_even() as i32).clamp(codes.min, codes.max)
        }
    };
    Ok(Params { scale, zero_point })
}

fn float8_params(
    floats: &Floats<'_>,
    layout: &Layout,
    spec: &WeightSpec,
    ranges: &[ValueRange],
) -> Result<Vec<Params>> {
    if spec.reduce_range {
        return Err(Error::Float8("reduced range"));
    }
    if matches!(spec.granularity, Granularity::Blocked { .. }) {
        return Err(Error::Float8("blocks"));
    }
    if let (Some(values), &[range]) = (floats.aligned, ranges) {
        let deviation = float8::standard_deviation(values);
        let scale = float8::float8_scale(deviation, range, floats.float);
        return Ok(vec![Params {
            scale,
            zero_point: 0,
        }]);
    }
    let mut groups: Vec<Vec<f32>> = vec![Vec::new(); layout.groups];
    let mut buffer = scratch();
    layout.try_runs(|run| {
        let values = floats.load(run.span.clone(), &mut buffer);
        for (row, group) in values.chunks(run.width).zip(&mut groups[run.groups()]) {
            group.extend_from_slice(row);
        }
        Ok(())
    })?;
    let params = |(values, &range): (&Vec<f32>, &ValueRange)| {
        let deviation = float8::standard_deviation(values);
        Params {
            scale: float8::float8_scale(deviation, range, floats.float),
            zero_point: 0,
        }
    };
    Ok(groups.iter().zip(ranges).map(params).collect())
}
