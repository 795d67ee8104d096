//! Weights of depthwise convolutions, in the layouts of the plain loop and of dot products.

use super::CHUNK;
use crate::image::Window;

/// Rows that are interleaved: the bytes of a dot product.
pub(super) const DOT: usize = 4;

/// Bytes of the interleaved pixels of one position: four registers.
pub(super) const POSITION: usize = 4 * 64;

/// Lines of scales, offsets and biases of a block.
pub(super) const PARAMETERS: usize = 12;

/// Interleaved pixels that fit the first-level cache beside all else.
const INTERLEAVED_BYTES: usize = 28 << 10;

/// How a window is cut for dot products.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// Rows of the result that are computed together.
    pub(super) rows: usize,
    /// Groups of four rows of the image that they need.
    pub(super) groups: usize,
    /// Rows of the image between those of a group.
    #[cfg(target_arch = "x86_64")]
    pub(super) row_step: usize,
    /// Columns of the image are kept apart by their remainder by the stride.
    pub(super) phases: usize,
    /// The last column of a window, counted in columns of its phase.
    pub(super) reach: usize,
    /// Registers of 64 bytes that one row of results is cut in.
    pub(super) tile: usize,
}

/// The most positions of a window, by groups of rows, that dot products are used for.
pub(super) const MAX_POSITIONS: usize = 64;

impl Plan {
    /// None for windows that are left to the plain loop.
    pub(super) fn of(window: &Window) -> Option<Plan> {
        let [kernel, width] = window.kernel;
        let groups = kernel.div_ceil(DOT);
        let rows = match window.dilations[0] {
            1 => (groups * DOT - kernel) / window.strides[0] + 1,
            _ => 1,
        };
        let phases = window.strides[1];
        let reach = (width - 1) * window.dilations[1] / phases;
        let fit = INTERLEAVED_BYTES / (groups * phases * POSITION);
        let common = phases <= 4 && reach <= 64 && groups * width <= MAX_POSITIONS;
        common.then_some(Plan {
            rows: [1, 2, 2, 4][rows.min(4) - 1],
            groups,
            #[cfg(target_arch = "x86_64")]
            row_step: window.dilations[0],
            phases,
            reach,
            tile: fit.saturating_sub(reach).max(8),
        })
    }

    /// Lines of one plane of one phase of one group.
    pub(super) fn plane_lines(&self) -> usize {
        self.tile + self.reach
    }

    /// Lines of all planes.
    pub(super) fn lines(&self) -> usize {
        self.groups * self.phases * 4 * self.plane_lines()
    }

    /// Whether a phase is read at all.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn uses(&self, window: &Window, phase: usize) -> bool {
        let mut used = self.phases == 1;
        for j in 0..window.kernel[1] {
            used |= j * window.dilations[1] % self.phases == phase;
        }
        used
    }

    /// Planes, numbers that make bytes of sums, and a copy of the weights of a block.
    pub(super) fn scratch_lines(&self, window: &Window) -> usize {
        self.lines() + PARAMETERS + self.block_bytes(window) / 64
    }

    /// Bytes of the weights of one block of channels.
    pub(super) fn block_bytes(&self, window: &Window) -> usize {
        self.rows * self.groups * window.kernel[1] * POSITION
    }
}

/// Channels that are computed together.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) first: usize,
    /// How many there are.
    pub(super) count: usize,
    /// How many bytes of a register a pixel takes: 64, or 32 or 16 with several pixels beside each other.
    pub(super) width: usize,
}

/// Blocks of 64 channels, then smaller ones.
pub(super) fn blocks(channels: usize) -> impl Iterator<Item = Block> {
    let mut first = 0;
    core::iter::from_fn(move || {
        let left = channels - first;
        let width = match left {
            0 => return None,
            1..=16 => 16,
            17..=48 => 32,
            _ => 64,
        };
        let count = left.min(width);
        let block = Block {
            first,
            count,
            width,
        };
        first += count;
        Some(block)
    })
}

/// Packed weights of a depthwise convolution.
#[derive(Clone, Copy, Debug)]
pub struct DepthwiseWeights<'a> {
    /// As [`pack_depthwise`] wrote them.
    pub data: &'a [u8],
    /// How many channels.
    pub channels: usize,
    /// The window that they are packed for.
    pub window: Window,
    /// Whether all weights less their zero points are within `-128..=127`.
    pub narrow: bool,
}

/// Where the parts of packed weights are.
struct Parts {
    plain: usize,
    sums: usize,
    blocks: usize,
}

impl Parts {
    fn of(window: &Window, channels: usize) -> Parts {
        let padded = channels.next_multiple_of(CHUNK);
        Parts {
            plain: window.kernel[0] * window.kernel[1] * padded * 2,
            sums: padded * 4,
            blocks: Plan::of(window).map_or(0, |plan| {
                plan.block_bytes(window) * blocks(channels).count()
            }),
        }
    }
}

impl<'a> DepthwiseWeights<'a> {
    /// For each tap the weights of all channels, 16 bits each.
    pub(super) fn plain(&self) -> &'a [u8] {
        &self.data[..Parts::of(&self.window, self.channels).plain]
    }

    /// The sum of the weights of each channel, 32 bits each.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn sums(&self) -> &'a [u8] {
        let parts = Parts::of(&self.window, self.channels);
        &self.data[parts.plain..][..parts.sums]
    }

    /// Blocks for dot products: by row of the result, group, column of the window.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn blocks(&self) -> &'a [u8] {
        let parts = Parts::of(&self.window, self.channels);
        &self.data[parts.plain + parts.sums..][..parts.blocks]
    }
}

/// Bytes that [`pack_depthwise`] needs.
pub fn depthwise_packed_len(window: &Window, channels: usize) -> usize {
    let parts = Parts::of(window, channels);
    parts.plain + parts.sums + parts.blocks
}

/// Packs the weights `[channel][row][column]`, `i8` or `u8`, less their zero points: none, one, or one for each
/// channel. `sums` becomes the sum of each channel.
///
/// # Panics
/// Sizes that do not fit together.
pub fn pack_depthwise<'a>(
    weights: &[u8],
    signed: bool,
    zeros: &[i32],
    window: &Window,
    to: &'a mut [u8],
    sums: &mut [i32],
) -> DepthwiseWeights<'a> {
    window.check();
    let (channels, taps) = (sums.len(), window.kernel[0] * window.kernel[1]);
    assert_eq!(weights.len(), channels * taps, "weights");
    assert!(
        [0, 1, channels].contains(&zeros.len()),
        "zero points of the weights"
    );
    assert_eq!(
        to.len(),
        depthwise_packed_len(window, channels),
        "memory for packed weights"
    );
    let weight = |channel: usize, tap: usize| -> i32 {
        let w = weights[channel * taps + tap];
        let zero = match zeros {
            [] => 0,
            [zero] => *zero,
            _ => zeros[channel],
        };
        match signed {
            true => i32::from(w as i8) - zero,
            false => i32::from(w) - zero,
        }
    };
    to.fill(0);
    let parts = Parts::of(window, channels);
    let (plain, rest) = to.split_at_mut(parts.plain);
    let (packed_sums, packed) = rest.split_at_mut(parts.sums);
    let padded = channels.next_multiple_of(CHUNK);
    let mut narrow = true;
    for (channel, sum) in sums.iter_mut().enumerate() {
        *sum = 0;
        for tap in 0..taps {
            let w = weight(channel, tap);
            assert!(i16::try_from(w).is_ok(), "a zero point of weights: {w}");
            narrow &= i8::try_from(w).is_ok();
            *sum += w;
            plain[(tap * padded + channel) * 2..][..2].copy_from_slice(&(w as i16).to_le_bytes());
        }
        packed_sums[channel * 4..][..4].copy_from_slice(&sum.to_le_bytes());
    }
    if narrow && let Some(plan) = Plan::of(window) {
        let size = plan.block_bytes(window);
        for (block, to) in blocks(channels).zip(packed.chunks_exact_mut(size)) {
            pack_block(window, &plan, block, weight, to);
        }
    }
    DepthwiseWeights {
        data: to,
        channels,
        window: *window,
        narrow,
    }
}

fn pack_block(
    window: &Window,
    plan: &Plan,
    block: Block,
    weight: impl Fn(usize, usize) -> i32,
    to: &mut [u8],
) {
    let [height, width] = window.kernel;
    let positions = to.chunks_exact_mut(POSITION).enumerate();
    for (position, to) in positions {
        let column = position % width;
        let group = position / width % plan.groups;
        let down = position / width / plan.groups * window.strides[0];
        for (byte, to) in to.iter_mut().enumerate() {
            // Unpacking bytes, then pairs of them, leaves each quarter of a register four channels further on.
            let (register, quarter, dot) = (byte / 64, byte / 16 % 4, byte / 4 % 4);
            let channel = (quarter * 16 + register * 4 + dot) % block.width;
            let row = group * DOT + byte % 4;
            if channel < block.count && (down..down + height).contains(&row) {
                *to = weight(block.first + channel, (row - down) * width + column) as u8;
            }
        }
    }
}
