//! Tiles: dot products of a few rows with a few columns, one file for each tier.
//!
//! A tile multiplies *groups* of 16 rows of the left operand by blocks of 16 columns of packed
//! weights. The rows of a group lie at a regular stride, groups lie anywhere.

#[cfg(all(target_arch = "x86_64", feature = "amx"))]
mod amx;
#[cfg(all(target_arch = "x86_64", feature = "avx2"))]
mod avx2;
#[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
mod avx512vnni;
#[cfg(all(target_arch = "x86_64", feature = "avxvnni"))]
mod avxvnni;
#[cfg(all(target_arch = "aarch64", feature = "dotprod"))]
mod dotprod;
#[cfg(all(target_arch = "aarch64", feature = "i8mm"))]
mod i8mm;
#[cfg(all(target_arch = "aarch64", feature = "neon"))]
mod neon;
mod portable;

use core::ops::Range;

#[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
use crate::requantize::Four;
use crate::{
    Cpu, Isa,
    epilogue::Finish,
    pack::{COLUMNS, STEP, STEP_BYTES},
};

/// Rows of a group.
pub(crate) const ROWS: usize = 16;

/// The most groups that one call takes.
pub(crate) const GROUPS: usize = 3;

/// What a tile works on.
///
/// # Safety
/// Who calls a tile guarantees, for each of the first `groups` groups, each of its 16 rows `r`, each segment `s` =
/// `(outer, inner)` and each of the steps asked for, that the 64 bytes at
/// `a[group] + r * row_stride + outer * segment_strides[0] + inner * segment_strides[1] + 64 * step` can be read;
/// that of `b` as many steps can be read for each block; and that `c` can be written.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    /// The first row of each group, at its first segment.
    pub(crate) a: [*const u8; GROUPS],
    pub(crate) groups: usize,
    /// Rows of the last group whose sums anyone wants; those of the others are all wanted.
    pub(crate) last_rows: usize,
    /// Bytes between rows of a group.
    pub(crate) row_stride: usize,
    /// How many segments there are inside of one outer segment.
    pub(crate) inner_segments: usize,
    /// Bytes between outer segments, and between inner ones.
    pub(crate) segment_strides: [usize; 2],
    /// Steps of one segment.
    pub(crate) segment_steps: usize,
    /// The range of steps to multiply, counted through all segments.
    pub(crate) first_step: usize,
    pub(crate) steps: usize,
    /// Packed weights of the first block at the first step of all.
    pub(crate) b: *const u8,
    /// Blocks of columns, at most [`Tile::blocks`], and bytes between them.
    pub(crate) blocks: usize,
    pub(crate) block_stride: usize,
    /// Sums: `[block][group * 16 + row][16 columns]`.
    pub(crate) c: *mut i32,
    /// Whether to add to `c` instead of overwriting it.
    pub(crate) accumulate: bool,
    /// Whether the weights come from further away than the second-level cache.
    pub(crate) far: bool,
}

impl Block {
    /// Rows whose sums anyone wants.
    #[inline(always)]
    pub(crate) fn rows(&self) -> usize {
        (self.groups - 1) * ROWS + self.last_rows
    }

    /// Where the 16 sums of a row of the block are.
    #[inline(always)]
    pub(crate) fn c(&self, block: usize, row: usize) -> *mut i32 {
        let row = block * self.groups * ROWS + row;
        self.c.wrapping_add(row * COLUMNS)
    }

    /// For each stretch of steps in one segment: the offset of its bytes from the start of a row,
    /// the first step of the weights, and how many steps.
    #[inline(always)]
    pub(crate) fn stretches(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let Block {
            inner_segments,
            segment_strides,
            segment_steps,
            first_step,
            steps,
            ..
        } = *self;
        let (mut at, end) = (first_step, first_step + steps);
        // Most products have one segment, or begin with the first: no divisions then.
        let (segment, mut skip) = match at < segment_steps {
            true => (0, at),
            false => (at / segment_steps, at % segment_steps),
        };
        let (outer, mut inner) = match segment {
            0 => (0, 0),
            _ => (segment / inner_segments, segment % inner_segments),
        };
        let mut outer = outer * segment_strides[0];
        core::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let count = (segment_steps - skip).min(end - at);
            let offset = outer + inner * segment_strides[1] + skip * STEP;
            let stretch = (offset, at, count);
            (at, skip, inner) = (at + count, 0, inner + 1);
            if inner == inner_segments {
                (outer, inner) = (outer + segment_strides[0], 0);
            }
            Some(stretch)
        })
    }
}

/// Multiplies a range of blocks of columns.
pub(crate) type Sweep = unsafe fn(&Block, Range<usize>, &mut Finish<'_, '_>);

/// A tile of one tier.
pub(crate) struct Tile {
    pub(crate) isa: Isa,
    /// What it wants in one call, at most.
    pub(crate) groups: usize,
    pub(crate) blocks: usize,
    /// Whether signed bytes of the left operand must arrive plus 128, as unsigned ones.
    pub(crate) unsigned: bool,
    /// By signedness of the left operand: unsigned, signed. See [`Block`] for what they ask of the caller.
    pub(crate) multiply: [unsafe fn(&Block); 2],
    /// Instead of `multiply`, a range of blocks with what becomes of their sums, for a tier that can do both at once.
    /// `b` is that of the first block of all, and `c` has sums for all of the range.
    pub(crate) sweep: Option<[Sweep; 2]>,
    /// Called before the first and after the last tile of a product, on the same thread.
    pub(crate) begin: fn(Cpu),
    pub(crate) end: fn(Cpu),
}

impl Tile {
    /// Multiplies a range of blocks, whose first of all is `x.b`, and finishes their sums if they are complete.
    ///
    /// # Safety
    /// See [`Block`]; `x.c` has sums for all blocks of the range.
    #[expect(unsafe_code, reason = "hands on what the caller guarantees")]
    pub(crate) unsafe fn run(
        &self,
        signed: bool,
        x: &Block,
        range: Range<usize>,
        finish: &mut Finish<'_, '_>,
    ) {
        if let Some(sweep) = self.sweep {
            // SAFETY: the caller's guarantee.
            return unsafe { sweep[usize::from(signed)](x, range, finish) };
        }
        let multiply = self.multiply[usize::from(signed)];
        let sums = x.groups * ROWS * COLUMNS;
        for at in range.clone().step_by(self.blocks) {
            let mut part = *x;
            part.blocks = self.blocks.min(range.end - at);
            part.b = x.b.wrapping_add(at * x.block_stride);
            // The sums of all blocks are kept apart if they are needed again.
            if x.accumulate || !finish.last {
                part.c = x.c.wrapping_add((at - range.start) * sums);
            }
            // SAFETY: the caller's guarantee.
            unsafe { multiply(&part) };
            if !finish.last {
                continue;
            }
            #[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
            if let Some(quick) = &mut finish.quick {
                let from = part.c(0, 0).cast_const();
                let sums = Four { from, stride: sums };
                // SAFETY: there is such a value only where the processor has the tier; the tile has
                // just written the sums, and the product has checked that its rows are within the output.
                unsafe {
                    quick.rows(
                        at,
                        part.blocks,
                        sums,
                        &finish.rows[..x.rows()],
                        finish.row_sums,
                    )
                }
                continue;
            }
            for i in 0..part.blocks {
                let sums = part.c(i, 0).cast_const();
                // SAFETY: the tile has just written these.
                let sums = unsafe { core::slice::from_raw_parts(sums, x.rows() * COLUMNS) };
                finish.some(at + i, 0, sums);
            }
        }
    }
}

/// The tiles, the best first, but for AMX, which has two to choose from.
static TILES: &[Tile] = &[
    #[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
    avx512vnni::TILE,
    #[cfg(all(target_arch = "x86_64", feature = "avxvnni"))]
    avxvnni::TILE,
    #[cfg(all(target_arch = "x86_64", feature = "avx2"))]
    avx2::TILE,
    #[cfg(all(target_arch = "aarch64", feature = "i8mm"))]
    i8mm::TILE,
    #[cfg(all(target_arch = "aarch64", feature = "dotprod"))]
    dotprod::TILE,
    #[cfg(all(target_arch = "aarch64", feature = "neon"))]
    neon::TILE,
    portable::TILE,
];

/// The tile for so many rows and columns on a processor.
pub(crate) fn tile(cpu: Cpu, rows: usize, columns: usize) -> &'static Tile {
    let isa = match cpu.isa() {
        // For so few rows memory is the limit, and registers of a line each read it faster.
        Isa::Amx if rows <= 2 => Isa::Avx512Vnni,
        #[cfg(all(target_arch = "x86_64", feature = "amx"))]
        Isa::Amx => return amx::tile(cpu, columns),
        isa => isa,
    };
    let _ = columns;
    let runs = |tile: &&Tile| tile.isa == isa || tile.isa == Isa::Portable;
    TILES.iter().find(runs).unwrap_or(&portable::TILE)
}

/// For tiers that need no preparation.
fn nothing(_: Cpu) {}

/// Bytes of `steps` steps of packed weights.
pub(crate) const fn weights_bytes(steps: usize) -> usize {
    steps * STEP_BYTES
}
