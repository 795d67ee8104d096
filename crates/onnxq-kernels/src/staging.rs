//! Rows of a product that are copied before they are multiplied.
//!
//! Chunks of one size are copied, also where fewer bytes are left: what a row has too many is overwritten by what
//! follows, or meets weights that are zero.

use core::ptr::copy_nonoverlapping;

use crate::{
    Cpu,
    product::{Geometry, Left},
    tiers::tiers,
    walk::Walk,
};

/// Where copies go.
#[derive(Clone, Copy)]
pub(crate) struct Staging {
    /// Bytes from row to row.
    pub(crate) pitch: usize,
    /// Bytes from segment to segment of a row.
    pub(crate) segment: usize,
    /// Whether 128 is added to each byte.
    pub(crate) flip: bool,
}

impl Left<'_> {
    /// Copies the first `rows` rows of a group to the start of `to`.
    pub(crate) fn stage(
        &self,
        cpu: Cpu,
        walk: &Walk,
        group: usize,
        rows: usize,
        how: Staging,
        to: &mut [u8],
    ) {
        let starts = &walk.starts(group)[..rows];
        copy(cpu, self.data, &self.geometry, starts, how, to);
        if how.flip {
            for v in &mut to[..rows * how.pitch] {
                *v ^= 0x80;
            }
        }
    }
}

tiers! {
    fn copy(data: &[u8], g: &Geometry, starts: &[usize], how: Staging, to: &mut [u8]) {
        match g.depth {
            0..=16 => chunks::<16>(data, g, starts, how, to),
            17..=32 => chunks::<32>(data, g, starts, how, to),
            _ => chunks::<64>(data, g, starts, how, to),
        }
    }
}

#[inline(always)]
#[expect(unsafe_code, reason = "copies of a size that the compiler knows")]
fn chunks<const CHUNK: usize>(
    data: &[u8],
    g: &Geometry,
    starts: &[usize],
    how: Staging,
    to: &mut [u8],
) {
    let Staging { pitch, segment, .. } = how;
    let segments = g.segments[0] * g.segments[1];
    let depth = g.depth.next_multiple_of(CHUNK);
    let last = starts.iter().copied().max().unwrap_or(0);
    let end = last.saturating_add(g.last_segment() + depth);
    let used = (segments - 1) * segment + depth;
    if end > data.len() || used > pitch || starts.len() * pitch > to.len() {
        for (&start, to) in starts.iter().zip(to.chunks_mut(pitch)) {
            exactly(data, g, start, segment, to);
        }
        return;
    }
    for s in 0..segments {
        let (from, to) = (&data[g.segment(s)..], &mut to[s * segment..]);
        for (row, &start) in starts.iter().enumerate() {
            let from = from.as_ptr().wrapping_add(start);
            let to = to.as_mut_ptr().wrapping_add(row * pitch);
            let mut at = 0;
            loop {
                let (from, to) = (from.wrapping_add(at), to.wrapping_add(at));
                // SAFETY: the last of these chunks ends at `end`, which is within the data, and at `used` of a
                // row, all of which are within `to`.
                unsafe { copy_nonoverlapping::<[u8; CHUNK]>(from.cast(), to.cast(), 1) };
                at += CHUNK;
                if CHUNK < 64 || at >= depth {
                    break;
                }
            }
        }
    }
}

/// The bytes of a row and no others. Bytes and rows beyond the data are nobody's.
fn exactly(data: &[u8], g: &Geometry, start: usize, segment: usize, to: &mut [u8]) {
    for s in 0..g.segments[0] * g.segments[1] {
        let start = start.saturating_add(g.segment(s));
        let from = data.get(start..).unwrap_or_default();
        let to = to.get_mut(s * segment..).unwrap_or_default();
        let len = from.len().min(g.depth).min(to.len());
        to[..len].copy_from_slice(&from[..len]);
    }
}
