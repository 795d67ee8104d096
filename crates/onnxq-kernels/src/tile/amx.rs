//! AMX-INT8: a tile register holds 16 rows of 64 bytes, and one instruction multiplies two of them.
//!
//! Three groups of rows share each step of the weights, which makes five live registers of the eight:
//!
//! ```text
//!              tmm4   weights, 16 x 4 depths of 16 columns
//! a[0]  tmm3   tmm0   sums, 16 x 16
//! a[1]  tmm3   tmm1
//! a[2]  tmm3   tmm2
//! ```
//!
//! `tmm3` is loaded anew for each group. The four loads of a step take 32 cycles, its three products 48. Two by
//! two would take as many loads for four products, but needs all eight registers: processors
//! have been seen on which that falls to a fifth of the speed, while five registers keep half of it.

use core::arch::asm;

use super::{Block, ROWS, Tile, weights_bytes};
use crate::{
    Cpu, Isa,
    pack::{COLUMNS, STEP},
};

pub(super) const TILE: Tile = Tile {
    isa: Isa::Amx,
    groups: 3,
    blocks: 1,
    unsigned: false,
    multiply: [multiply::<false>, multiply::<true>],
    begin,
    end,
};

/// All registers 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// For each product, not once for each thread: what the registers hold after a switch of threads counts as live,
/// until they are configured again.
#[expect(unsafe_code, reason = "configures the tile registers")]
fn begin(cpu: Cpu) {
    assert_eq!(cpu.isa(), Isa::Amx);
    // SAFETY: the processor has AMX and the system permits it, as `cpu` proves; nobody else uses
    // the registers.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack, readonly, preserves_flags));
    }
}

#[expect(unsafe_code, reason = "gives up the tile registers")]
fn end(cpu: Cpu) {
    assert_eq!(cpu.isa(), Isa::Amx);
    // SAFETY: as in `begin`.
    unsafe {
        asm!("tilerelease", options(nostack, nomem, preserves_flags));
    }
}

#[expect(unsafe_code, reason = "tile registers")]
unsafe fn multiply<const SIGNED: bool>(x: &Block) {
    for block in 0..x.blocks {
        let b = x.b.wrapping_add(block * x.block_stride);
        let c = x.c.wrapping_add(block * x.groups * ROWS * COLUMNS);
        let part = match x.groups {
            1 => one::<SIGNED>,
            2 => two::<SIGNED>,
            _ => three::<SIGNED>,
        };
        // SAFETY: the caller's guarantees, for this block.
        unsafe { part(x, b, c) }
    }
}

/// One function for each number of groups: `$sum` with the accumulator's register and the name of
/// the group's pointer.
macro_rules! groups {
    ($name:ident: $($sum:literal $a:ident $group:literal),+) => {
        #[expect(unsafe_code, reason = "tile registers")]
        unsafe fn $name<const SIGNED: bool>(x: &Block, b: *const u8, c: *mut i32) {
            // SAFETY: the caller guarantees that the 16 rows of each group, the weights and the sums are there; the
            // registers are configured, and the compiler does not know them.
            unsafe {
                if x.accumulate {
                    asm!(
                        $(concat!("tileloadd ", $sum, ", [{", stringify!($a), "} + {row}]"),)+
                        $($a = in(reg) c.wrapping_add($group * ROWS * COLUMNS),)+
                        row = in(reg) STEP,
                        options(nostack, readonly, preserves_flags),
                    );
                } else {
                    asm!($(concat!("tilezero ", $sum),)+ options(nostack, nomem, preserves_flags));
                }
                for (offset, step, steps) in x.stretches() {
                    macro_rules! products {
                        ($instruction:literal) => {
                            asm!(
                                "2:",
                                "tileloadd tmm4, [{b} + {row}]",
                                $(
                                    concat!("tileloadd tmm3, [{", stringify!($a), "} + {stride}]"),
                                    concat!($instruction, " ", $sum, ", tmm3, tmm4"),
                                    concat!("add {", stringify!($a), "}, 64"),
                                )+
                                "add {b}, 1024",
                                "dec {steps}",
                                "jnz 2b",
                                $($a = inout(reg) x.a[$group].wrapping_add(offset) => _,)+
                                b = inout(reg) b.wrapping_add(weights_bytes(step)) => _,
                                steps = inout(reg) steps => _,
                                row = in(reg) STEP,
                                stride = in(reg) x.row_stride,
                                options(nostack, readonly),
                            )
                        };
                    }
                    match SIGNED {
                        false => products!("tdpbusd"),
                        true => products!("tdpbssd"),
                    }
                }
                asm!(
                    $(concat!("tilestored [{", stringify!($a), "} + {row}], ", $sum),)+
                    $($a = in(reg) c.wrapping_add($group * ROWS * COLUMNS),)+
                    row = in(reg) STEP,
                    options(nostack, preserves_flags),
                );
            }
        }
    };
}

groups!(one: "tmm0" a0 0);
groups!(two: "tmm0" a0 0, "tmm1" a1 1);
groups!(three: "tmm0" a0 0, "tmm1" a1 1, "tmm2" a2 2);
