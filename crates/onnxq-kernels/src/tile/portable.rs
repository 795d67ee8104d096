//! The definition of the result.

use super::{Block, ROWS, Tile, nothing, weights_bytes};
use crate::{
    Isa,
    pack::{COLUMNS, STEP},
};

pub(super) const TILE: Tile = Tile {
    isa: Isa::Portable,
    groups: 1,
    blocks: 1,
    unsigned: false,
    multiply: [multiply::<false>, multiply::<true>],
    sweep: None,
    begin: nothing,
    end: nothing,
};

#[expect(unsafe_code, reason = "reads at strides that the caller guarantees")]
unsafe fn multiply<const SIGNED: bool>(x: &Block) {
    for block in 0..x.blocks {
        for group in 0..x.groups {
            let rows = if group + 1 == x.groups {
                x.last_rows
            } else {
                ROWS
            };
            for row in 0..rows {
                let c = x.c(block, group * ROWS + row).cast::<[i32; COLUMNS]>();
                // SAFETY: the caller's guarantee on `c`.
                let c = unsafe { &mut *c };
                if !x.accumulate {
                    c.fill(0);
                }
                for (offset, step, steps) in x.stretches() {
                    let a = x.a[group].wrapping_add(row * x.row_stride + offset);
                    let b =
                        x.b.wrapping_add(block * x.block_stride + weights_bytes(step));
                    // SAFETY: the caller's guarantee on the left operand.
                    let a = unsafe { core::slice::from_raw_parts(a, steps * STEP) };
                    // SAFETY: the caller's guarantee on the weights.
                    let b = unsafe { core::slice::from_raw_parts(b, weights_bytes(steps)) };
                    for (a, b) in a.chunks_exact(4).zip(b.chunks_exact(STEP)) {
                        for (c, b) in c.iter_mut().zip(b.chunks_exact(4)) {
                            for (&a, &b) in a.iter().zip(b) {
                                let a = if SIGNED {
                                    i32::from(a as i8)
                                } else {
                                    i32::from(a)
                                };
                                *c = c.wrapping_add(a * i32::from(b as i8));
                            }
                        }
                    }
                }
            }
        }
    }
}
