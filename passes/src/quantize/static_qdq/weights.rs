//! Constants in codes, and biases.
//!
//! A constant is quantized once for each way in which it is to be, in however many graphs and
//! under however many names it stands.
//!
//! A bias is added to sums of products, so its scale is the product of their scales, and its codes
//! are of `int32`. Where a bias is too large for that the scale of the weight is enlarged: only
//! that of the channel concerned, which needs scales by channel, so that the others keep their
//! steps (the quantization tool of ONNX Runtime, and `compat`, enlarge the one scale of all).

use indexmap::IndexMap;
use onnxq_quant::{
    Error, FloatType, Granularity, QuantType, QuantizedWeight, WeightSpec, adjust_weight_scale,
    quantize_weight, quantize_weight_in_ranges, quantize_with, scale_tensor, weight_ranges,
    zero_point_tensor,
};
use onnxq_tensor::{Dims, Tensor};
use rayon::prelude::*;

use super::{
    marks::{Mark, Source},
    overrides::Override,
    settings::StaticSettings,
};

/// A constant, and how it is to be quantized.
#[derive(Clone, Debug)]
pub(in crate::quantize) struct Job {
    pub(in crate::quantize) name: String,
    pub(in crate::quantize) tensor: Tensor,
    pub(in crate::quantize) spec: WeightSpec,
    given: Vec<Override>,
}

/// What became of it.
#[derive(Clone, Debug)]
pub(in crate::quantize) struct Codes {
    pub(in crate::quantize) weight: QuantizedWeight,
    pub(in crate::quantize) granularity: Granularity,
}

/// What makes two uses of a constant the same job.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Key {
    memory: usize,
    dims: Dims,
    dtype: onnxq_tensor::DType,
    qtype: QuantType,
    symmetric: Option<bool>,
    granularity: Granularity,
    /// The name, where something is given for it.
    given: Option<String>,
}

/// The constants to quantize.
#[derive(Default)]
pub(in crate::quantize) struct Jobs {
    jobs: IndexMap<Key, Job>,
}

impl Jobs {
    /// The index of the job that a mark comes to.
    pub(in crate::quantize) fn add(
        &mut self,
        settings: &StaticSettings,
        name: &str,
        tensor: &Tensor,
        mark: &Mark,
    ) -> usize {
        let given = settings.overrides.channels(name).to_vec();
        let spec = spec(settings, tensor, mark, given.first());
        let key = Key {
            memory: tensor.bytes().as_ptr() as usize,
            dims: Dims::from_slice(tensor.dims()),
            dtype: tensor.dtype(),
            qtype: spec.qtype,
            symmetric: spec.symmetric,
            granularity: spec.granularity,
            given: (!given.is_empty()).then(|| name.to_owned()),
        };
        let entry = self.jobs.entry(key);
        let index = entry.index();
        entry.or_insert_with(|| Job {
            name: name.to_owned(),
            tensor: tensor.clone(),
            spec,
            given,
        });
        index
    }

    pub(in crate::quantize) fn get(&self, index: usize) -> Option<&Job> {
        self.jobs.get_index(index).map(|(_, job)| job)
    }

    /// Quantizes every constant, on so many threads.
    ///
    /// # Errors
    /// Names the constant that cannot be quantized.
    pub(in crate::quantize) fn run(&self, threads: usize) -> Vec<Result<Codes, Error>> {
        let jobs: Vec<&Job> = self.jobs.values().collect();
        let run = |job: &&Job| {
            let codes = quantize(job);
            job.tensor.release();
            codes
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        match pool {
            Ok(pool) if threads > 1 => pool.install(|| jobs.par_iter().map(run).collect()),
            _ => jobs.iter().map(run).collect(),
        }
    }
}

/// How a constant is quantized.
fn spec(
    settings: &StaticSettings,
    tensor: &Tensor,
    mark: &Mark,
    given: Option<&Override>,
) -> WeightSpec {
    let default = Override::default();
    let given = given.unwrap_or(&default);
    let (qtype, symmetric, axis) = match mark.source {
        Source::Weight { axis } => (settings.weight_type, settings.weight_symmetric, axis),
        _ => (
            settings.activation_type,
            Some(settings.activation_symmetric),
            None,
        ),
    };
    let is_weight = matches!(mark.source, Source::Weight { .. });
    let granularity = match axis {
        // Rows of blocks along the channels, as the tool of ONNX Runtime has them.
        _ if is_weight && settings.block_size > 0 && tensor.rank() == 2 => Granularity::Blocked {
            axis: axis.unwrap_or(0) as i64,
            block: settings.block_size,
        },
        Some(axis) => Granularity::PerChannel { axis: axis as i64 },
        None => Granularity::PerTensor,
    };
    // Integer operators take one zero point for all channels.
    let symmetric = match axis {
        Some(_) => Some(true),
        None => symmetric,
    };
    WeightSpec {
        qtype: given.qtype.unwrap_or(qtype),
        symmetric: given.symmetric.or(symmetric),
        reduce_range: given.reduce_range.unwrap_or(settings.reduce_range),
        min_real_range: settings.min_real_range,
        granularity,
    }
}

fn quantize(job: &Job) -> Result<Codes, Error> {
    let Job {
        tensor,
        spec,
        given,
        ..
    } = job;
    let granularity = spec.granularity;
    let done = |weight| Codes {
        weight,
        granularity,
    };
    let first = given.first();
    if let Some(params) = first.and_then(|o| o.params) {
        let channels = match granularity {
            Granularity::PerChannel { axis } => tensor.dims().get(axis as usize).copied(),
            _ => None,
        };
        let count = channels.unwrap_or(1);
        let of = |i: usize| given.get(i).and_then(|o| o.params).unwrap_or(params);
        let (scales, zeros): (Vec<f32>, Vec<i32>) = (0..count).map(of).unzip();
        let dims = channels.map_or(Dims::new(), |c| Dims::from_slice(&[c]));
        let float = FloatType::from_dtype(tensor.dtype())?;
        let scale = scale_tensor(float, dims.clone(), &scales)?;
        let zero_point = zero_point_tensor(spec.qtype, dims, &zeros)?;
        let data = quantize_with(tensor, granularity, &scale, &zero_point)?;
        return Ok(done(QuantizedWeight {
            data,
            scale,
            zero_point,
        }));
    }
    if given.iter().any(|o| o.rmin.is_some() || o.rmax.is_some()) {
        let mut ranges = weight_ranges(tensor, granularity)?;
        for (i, range) in ranges.iter_mut().enumerate() {
            let Some(given) = given.get(i) else {
                continue;
            };
            range.lo = given.rmin.unwrap_or(range.lo);
            range.hi = given.rmax.unwrap_or(range.hi);
        }
        return quantize_weight_in_ranges(tensor, spec, &ranges).map(done);
    }
    quantize_weight(tensor, spec).map(done)
}

/// Enlarges the scales of a weight so that a bias fits; whether that was needed.
///
/// `channels` is the axis of the weight's output channels, if it has one of its own.
pub(in crate::quantize) fn make_room(
    job: &Job,
    codes: &mut Codes,
    bias: &Tensor,
    input_scale: f32,
    channels: Option<usize>,
    settings: &StaticSettings,
) -> Result<bool, Error> {
    let zero = codes.weight.zero_point.to_i64s()?.iter().all(|&z| z == 0);
    if !zero || !matches!(job.spec.qtype, QuantType::Int8 | QuantType::Int16) {
        return Ok(false);
    }
    if matches!(codes.granularity, Granularity::Blocked { .. }) {
        return Ok(false);
    }
    let per_tensor = codes.granularity == Granularity::PerTensor;
    let (scale, granularity) = match channels {
        Some(axis) if per_tensor && !settings.compat && bias.len() > 1 => {
            // Each channel by itself.
            let float = FloatType::from_dtype(codes.weight.scale.dtype())?;
            let scale = codes.weight.scale.to_f32s()?;
            let count = job.tensor.dims()[axis];
            let scales = vec![scale.first().copied().unwrap_or(1.0); count];
            let scale = scale_tensor(float, Dims::from_slice(&[count]), &scales)?;
            (scale, Granularity::PerChannel { axis: axis as i64 })
        }
        _ => (codes.weight.scale.clone(), codes.granularity),
    };
    let groups = bias.len() / scale.len().max(1);
    let tiled = tile(&scale, bias)?;
    let Some(enlarged) = adjust_weight_scale(bias, input_scale, &tiled)? else {
        return Ok(false);
    };
    let scale = untile(&enlarged, &scale, groups)?;
    let zero_point = zero_point_tensor(
        job.spec.qtype,
        Dims::from_slice(scale.dims()),
        &vec![0; scale.len()],
    )?;
    let data = quantize_with(&job.tensor, granularity, &scale, &zero_point)?;
    *codes = Codes {
        weight: QuantizedWeight {
            data,
            scale,
            zero_point,
        },
        granularity,
    };
    Ok(true)
}

/// The scales of a weight's channels, as often as there are groups of them in the bias: a
/// ConvTranspose has the channels of one group along the axis of its weight.
pub(in crate::quantize) fn tile(scale: &Tensor, bias: &Tensor) -> Result<Tensor, Error> {
    let (channels, wanted) = (scale.len(), bias.len());
    if channels <= 1 || wanted <= channels || !wanted.is_multiple_of(channels) {
        return Ok(scale.clone());
    }
    let float = FloatType::from_dtype(scale.dtype())?;
    let scales = scale.to_f32s()?.repeat(wanted / channels);
    scale_tensor(float, Dims::from_slice(&[wanted]), &scales)
}

/// The scales of one group: the largest of all groups for each channel.
fn untile(tiled: &Tensor, scale: &Tensor, groups: usize) -> Result<Tensor, Error> {
    if tiled.len() == scale.len() || groups <= 1 {
        return Ok(tiled.clone());
    }
    let float = FloatType::from_dtype(tiled.dtype())?;
    let all = tiled.to_f32s()?;
    let largest: Vec<f32> = (0..scale.len())
        .map(|c| {
            let of_groups = all.iter().skip(c).step_by(scale.len());
            of_groups.fold(0.0f32, |a, &b| a.max(b))
        })
        .collect();
    scale_tensor(float, Dims::from_slice(scale.dims()), &largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(values: &[f32]) -> Tensor {
        Tensor::vector(values.to_vec())
    }

    #[test]
    fn scales_of_groups_are_repeated_and_merged() {
        let scale = vector(&[1.0, 2.0]);
        let bias = vector(&[0.0; 6]);
        let tiled = tile(&scale, &bias).unwrap();
        assert_eq!(*tiled.to_f32s().unwrap(), [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        let enlarged = vector(&[1.0, 2.0, 3.0, 2.0, 1.0, 5.0]);
        let merged = untile(&enlarged, &scale, 3).unwrap();
        assert_eq!(*merged.to_f32s().unwrap(), [3.0, 5.0]);
        // One scale is for all, and what does not come out even is left to be refused.
        assert_eq!(tile(&Tensor::scalar(1.0f32), &bias).unwrap().len(), 1);
        assert_eq!(tile(&vector(&[1.0; 4]), &bias).unwrap().len(), 4);
    }
}
