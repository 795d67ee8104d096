//! From floats to codes, group by group, into the form that tensors have.

use onnxq_tensor::{DType, Tensor};

use crate::{
    QRange, QuantType, Result,
    data::{self, Code},
    float8,
    floats::{BLOCK, Floats, scratch},
    granularity::{Layout, Run},
};

/// Scales and zero points by group; both are exact in `f32`.
pub(crate) struct GroupParams {
    pub(crate) scales: Vec<f32>,
    pub(crate) zeros: Vec<f32>,
}

/// Rows of at least this many elements are worth a loop of their own.
pub(crate) const WIDE: usize = 32;

/// The codes of a tensor, packed as tensors are.
pub(crate) fn encode(
    floats: &Floats<'_>,
    dims: &[usize],
    layout: &Layout,
    qtype: QuantType,
    params: &GroupParams,
) -> Result<Tensor> {
    match qtype {
        QuantType::Int8 => Ok(Tensor::from_vec(
            dims,
            codes::<i8>(floats, layout, params)?,
        )?),
        QuantType::UInt8 => Ok(Tensor::from_vec(
            dims,
            codes::<u8>(floats, layout, params)?,
        )?),
        QuantType::Int16 => Ok(Tensor::from_vec(
            dims,
            codes::<i16>(floats, layout, params)?,
        )?),
        QuantType::UInt16 => Ok(Tensor::from_vec(
            dims,
            codes::<u16>(floats, layout, params)?,
        )?),
        QuantType::Int4 | QuantType::UInt4 => {
            let bytes = nibbles(floats, layout, qtype, params)?;
            Ok(Tensor::new(qtype.dtype(), dims, bytes)?)
        }
        QuantType::Float8E4M3FN => Ok(Tensor::new(
            DType::F8E4M3FN,
            dims,
            float8_codes(floats, layout, params)?,
        )?),
    }
}

fn codes<T: Code>(floats: &Floats<'_>, layout: &Layout, params: &GroupParams) -> Result<Vec<T>> {
    let mut out = vec![T::zeroed(); layout.len];
    let mut buffer = scratch();
    let mut encoder = Encoder::new(params, QRange::full(T::QTYPE));
    layout.try_runs(|run| {
        let values = floats.load(run.span.clone(), &mut buffer);
        encoder.run(&run, values, &mut out[run.span.clone()]);
        Ok(())
    })?;
    Ok(out)
}

/// Codes of 4 bits, two in a byte, the first in the low half.
fn nibbles(
    floats: &Floats<'_>,
    layout: &Layout,
    qtype: QuantType,
    params: &GroupParams,
) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(layout.len.div_ceil(2));
    let mut buffer = scratch();
    let mut encoder = Encoder::new(params, QRange::full(qtype));
    // One code more than a run: one may be waiting for its other half.
    let mut waiting = [0u8; BLOCK + 1];
    let mut count = 0;
    layout.try_runs(|run| {
        let values = floats.load(run.span.clone(), &mut buffer);
        let end = count + values.len();
        encoder.run(&run, values, &mut waiting[count..end]);
        let (pairs, rest) = waiting[..end].as_chunks::<2>();
        out.extend(pairs.iter().map(|[a, b]| (a & 0xf) | (b << 4)));
        count = rest.len();
        if count == 1 {
            waiting[0] = waiting[end - 1];
        }
        Ok(())
    })?;
    if count == 1 {
        out.push(waiting[0] & 0xf);
    }
    Ok(out)
}

fn float8_codes(floats: &Floats<'_>, layout: &Layout, params: &GroupParams) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(layout.len);
    let mut buffer = scratch();
    layout.try_runs(|run| {
        let values = floats.load(run.span.clone(), &mut buffer);
        for (row, scale) in values.chunks(run.width).zip(&params.scales[run.groups()]) {
            out.extend(row.iter().map(|v| float8::f32_to_f8e4m3fn(v / scale)));
        }
        Ok(())
    })?;
    Ok(out)
}

/// Quantizes runs. Rows too short for a loop of their own get their parameters spelled out for
/// every element.
struct Encoder<'a> {
    params: &'a GroupParams,
    range: QRange,
    scales: Vec<f32>,
    zeros: Vec<f32>,
    /// The groups and the width that are spelled out.
    spelled: (usize, usize, usize),
}

impl<'a> Encoder<'a> {
    fn new(params: &'a GroupParams, range: QRange) -> Encoder<'a> {
        Encoder {
            params,
            range,
            scales: Vec::new(),
            zeros: Vec::new(),
            spelled: (0, 0, 0),
        }
    }

    fn run<T: Code>(&mut self, run: &Run, values: &[f32], out: &mut [T]) {
        let scales = &self.params.scales[run.groups()];
        let zeros = &self.params.zeros[run.groups()];
        match run.width {
            1 => data::quantize_each(values, scales, zeros, self.range, out),
            2..WIDE => {
                self.spell(run);
                let (scales, zeros) = (&self.scales, &self.zeros);
                data::quantize_each(values, scales, zeros, self.range, out);
            }
            width => {
                let rows = values.chunks(width).zip(out.chunks_mut(width));
                for ((values, out), (&scale, &zero)) in rows.zip(scales.iter().zip(zeros)) {
                    data::quantize_in(values, scale, zero, self.range, out);
                }
            }
        }
    }

    fn spell(&mut self, run: &Run) {
        let groups = run.groups();
        let key = (groups.start, groups.end, run.width);
        if self.spelled == key {
            return;
        }
        self.spelled = key;
        let len = groups.len() * run.width;
        self.scales.resize(len, 0.0);
        self.zeros.resize(len, 0.0);
        let rows = self.scales.chunks_exact_mut(run.width);
        let rows = rows.zip(self.zeros.chunks_exact_mut(run.width));
        let params = self.params.scales[groups.clone()]
            .iter()
            .zip(&self.params.zeros[groups]);
        for ((scales, zeros), (&scale, &zero)) in rows.zip(params) {
            scales.fill(scale);
            zeros.fill(zero);
        }
    }
}
