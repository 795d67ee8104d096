//! What observers have seen, in a form for files.
//!
//! The form depends on what was seen alone: kept values are sorted. Bytes are numbers of 7 bits
//! at a time, the lowest first (LEB128), in base64: of kept values, the differences of successive
//! ones; of cells, their counts, where 0 is followed by how many more there are of it.

use std::collections::BTreeSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Extremes, Observers, State, TensorObserver,
    cells::{Cells, exponent},
    magnitude,
    values::{Capacity, Form, Values, least_magnitude},
};
use crate::{CalibrationSpec, Error, Result, ValueRange, data::min_max};

/// Of [`Observers`].
#[derive(Serialize, Deserialize)]
pub(crate) struct ObserversState {
    spec: CalibrationSpec,
    /// How many values of a tensor are kept.
    keep: usize,
    /// The first and the last of each run of successive samples.
    samples: Vec<[usize; 2]>,
    tensors: Vec<TensorState>,
}

#[derive(Serialize, Deserialize)]
struct TensorState {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    axis: Option<i64>,
    /// By channel; none where no value was seen.
    ranges: Vec<Option<[f32; 2]>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    by_sample: Vec<(usize, Vec<Option<[f32; 2]>>)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    values: Vec<ValuesState>,
}

#[derive(Serialize, Deserialize)]
struct ValuesState {
    count: u64,
    least: f32,
    /// That of cells; kept values have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exponent: Option<i32>,
    bytes: String,
}

/// A file that claims more samples is not ours.
const MAX_SAMPLES: usize = 1 << 26;

impl ObserversState {
    pub(crate) fn of(observers: &Observers) -> ObserversState {
        let named: Vec<_> = observers.iter().collect();
        let mut samples: Vec<[usize; 2]> = Vec::new();
        for sample in observers.done().iter().copied() {
            match samples.last_mut() {
                Some([_, last]) if *last + 1 == sample => *last = sample,
                _ => samples.push([sample, sample]),
            }
        }
        ObserversState {
            spec: observers.spec(),
            keep: observers.keep(),
            samples,
            tensors: named
                .into_par_iter()
                .map(|(name, observer)| TensorState::of(name, observer))
                .collect(),
        }
    }

    /// # Errors
    /// The parts contradict each other; the message names the tensor.
    pub(crate) fn restore(self) -> Result<Observers> {
        self.spec.method.check()?;
        let mut samples = BTreeSet::new();
        for [first, last] in self.samples {
            let len = last.checked_sub(first).unwrap_or(usize::MAX);
            if len >= MAX_SAMPLES - samples.len() {
                return Err(bad("the numbers of samples are not valid".to_owned()));
            }
            samples.extend(first..=last);
        }
        let restore = |tensor: TensorState| {
            let name = tensor.name.clone();
            match tensor.restore(self.spec, self.keep) {
                Some(observer) => Ok((name, observer)),
                None => Err(bad(format!("the observations of `{name}` are not valid"))),
            }
        };
        let tensors = self.tensors.into_par_iter().map(restore);
        let tensors: Vec<_> = tensors.collect::<Result<_>>()?;
        Ok(Observers::restored(self.spec, self.keep, tensors, samples))
    }
}

fn bad(message: String) -> Error {
    Error::Table(message)
}

impl TensorState {
    fn of(name: &str, observer: &TensorObserver) -> TensorState {
        let state = observer.state();
        let ranges = |all: &[ValueRange]| -> Vec<Option<[f32; 2]>> {
            let one = |r: &ValueRange| (!r.is_empty()).then_some([r.lo, r.hi]);
            all.iter().map(one).collect()
        };
        let by_sample = state.extremes.by_sample.iter();
        TensorState {
            name: name.to_owned(),
            axis: observer.axis,
            ranges: ranges(&state.extremes.all),
            by_sample: by_sample.map(|(&i, all)| (i, ranges(all))).collect(),
            values: state.values.iter().map(ValuesState::of).collect(),
        }
    }

    fn restore(self, spec: CalibrationSpec, keep: usize) -> Option<TensorObserver> {
        let observer = TensorObserver::new(spec, self.axis, keep).ok()?;
        let channels = self.ranges.len();
        if self.axis.is_none() && channels > 1 {
            return None;
        }
        let mut extremes = Extremes {
            all: restore_ranges(self.ranges)?,
            ..Extremes::default()
        };
        for (sample, ranges) in self.by_sample {
            if ranges.len() != channels {
                return None;
            }
            extremes.by_sample.insert(sample, restore_ranges(ranges)?);
        }
        let mut values = Vec::new();
        if let Some(capacity) = observer.capacity(channels) {
            if self.values.len() != channels {
                return None;
            }
            for (state, &range) in self.values.into_iter().zip(&extremes.all) {
                values.push(state.restore(range, capacity)?);
            }
        }
        *observer.state() = State { extremes, values };
        Some(observer)
    }
}

fn restore_ranges(ranges: Vec<Option<[f32; 2]>>) -> Option<Vec<ValueRange>> {
    let one = |range: Option<[f32; 2]>| match range {
        None => Some(ValueRange::EMPTY),
        Some([lo, hi]) => {
            let range = ValueRange::new(lo, hi);
            (lo <= hi && lo.is_finite() && hi.is_finite()).then_some(range)
        }
    };
    ranges.into_iter().map(one).collect()
}

impl ValuesState {
    fn of(values: &Values) -> ValuesState {
        let mut bytes = Vec::new();
        let exponent = match &values.form {
            Form::Kept(pieces) => {
                let mut keys: Vec<u32> = pieces.iter().flatten().map(|&v| key(v)).collect();
                keys.sort_unstable();
                let mut last = 0;
                for key in keys {
                    put(&mut bytes, u64::from(key - last));
                    last = key;
                }
                None
            }
            Form::Counted(cells) => {
                for run in cells.counts().chunk_by(|a, b| *a == 0 && *b == 0) {
                    put(&mut bytes, run[0]);
                    if run[0] == 0 {
                        put(&mut bytes, run.len() as u64 - 1);
                    }
                }
                Some(cells.exponent())
            }
        };
        ValuesState {
            count: values.count,
            least: values.least,
            exponent,
            bytes: BASE64_STANDARD.encode(bytes),
        }
    }

    /// The values, which are to lie in `range`.
    fn restore(self, range: ValueRange, capacity: Capacity) -> Option<Values> {
        let bytes = BASE64_STANDARD.decode(&self.bytes).ok()?;
        let form = match self.exponent {
            None if self.count <= capacity.keep => {
                let kept = restore_kept(&bytes)?;
                let found = min_max(&kept).ok()?;
                let least = match kept.is_empty() {
                    true => 0.0,
                    false => least_magnitude(&kept),
                };
                if (kept.len() as u64, found, least) != (self.count, range, self.least) {
                    return None;
                }
                Form::Kept(vec![kept])
            }
            Some(found) if self.count > capacity.keep && found == exponent(magnitude(range)) => {
                let counts = restore_counts(&bytes, 2 * capacity.half)?;
                let sum = counts.iter().try_fold(0u64, |sum, &n| sum.checked_add(n))?;
                let least = 0.0..=magnitude(range);
                if sum != self.count || !least.contains(&self.least) || range.is_empty() {
                    return None;
                }
                Form::Counted(Cells::from_counts(capacity.half, found, counts)?)
            }
            _ => return None,
        };
        Some(Values {
            count: self.count,
            least: self.least,
            form,
        })
    }
}

fn restore_kept(mut bytes: &[u8]) -> Option<Vec<f32>> {
    let (mut kept, mut last) = (Vec::new(), 0u32);
    while !bytes.is_empty() {
        last = last.checked_add(u32::try_from(take(&mut bytes)?).ok()?)?;
        kept.push(unkey(last));
    }
    Some(kept)
}

/// As many counts as there are to be, or none.
fn restore_counts(mut bytes: &[u8], len: usize) -> Option<Vec<u64>> {
    let mut counts = Vec::new();
    while !bytes.is_empty() {
        let count = take(&mut bytes)?;
        let more = match count {
            0 => usize::try_from(take(&mut bytes)?).ok()?,
            _ => 0,
        };
        if more >= len - counts.len() {
            return None;
        }
        counts.resize(counts.len() + 1 + more, count);
    }
    (counts.len() == len).then_some(counts)
}

/// The bits of a float in the order of values.
fn key(v: f32) -> u32 {
    let bits = v.to_bits();
    match bits >> 31 {
        0 => bits | 1 << 31,
        _ => !bits,
    }
}

fn unkey(key: u32) -> f32 {
    f32::from_bits(match key >> 31 {
        0 => !key,
        _ => key & !(1 << 31),
    })
}

fn put(bytes: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        bytes.push(v as u8 | 0x80);
        v >>= 7;
    }
    bytes.push(v as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut v = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            return None;
        }
        v |= part << shift;
        if byte < 0x80 {
            return Some(v);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_in_the_order_of_values() {
        let values = [f32::MIN, -1.0, -1e-45, -0.0, 0.0, 1e-45, 2.0, f32::MAX];
        assert!(values.map(key).is_sorted());
        assert_eq!(
            values.map(|v| unkey(key(v)).to_bits()),
            values.map(f32::to_bits)
        );
    }

    proptest! {
        #[test]
        fn numbers_go_both_ways(values in prop::collection::vec((any::<u64>(), 0..64u32), 0..20)) {
            let values: Vec<u64> = values.iter().map(|(v, shift)| v >> shift).collect();
            let mut bytes = Vec::new();
            values.iter().for_each(|&v| put(&mut bytes, v));
            let mut rest = bytes.as_slice();
            let found: Option<Vec<u64>> = values.iter().map(|_| take(&mut rest)).collect();
            prop_assert_eq!(found, Some(values));
            prop_assert!(rest.is_empty() && take(&mut rest).is_none());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            _ = restore_kept(&bytes);
            _ = restore_counts(&bytes, 16);
        }
    }
}
