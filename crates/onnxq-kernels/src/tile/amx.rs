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

mod registers;

use core::{arch::asm, ops::Range};

use self::registers::{Way, load, product, products, store};
use super::{Block, ROWS, Tile, weights_bytes};
use crate::{
    Cpu, Isa, Line,
    caches::caches,
    epilogue::Finish,
    pack::{COLUMNS, STEP, STEP_BYTES},
    requantize::{ADDED, ANY, CORRECTED, I8, PAIRED, Quick, U8},
};

pub(super) const TILE: Tile = Tile {
    isa: Isa::Amx,
    groups: 3,
    blocks: 1,
    unsigned: false,
    multiply: [multiply, multiply],
    sweep: Some([sweep::<false>, sweep::<true>]),
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

/// Only [`sweep`] is called.
#[expect(unsafe_code, reason = "the type of a tile's function")]
unsafe fn multiply(_: &Block) {}

/// A range of blocks of columns. The sums of a block become results while the next one is being multiplied: a few
/// rows after each step, which the vector units do while the tile unit has the products before it.
///
/// # Safety
/// See [`Block`].
#[expect(unsafe_code, reason = "tile registers")]
unsafe fn sweep<const SIGNED: bool>(x: &Block, panel: Range<usize>, finish: &mut Finish<'_, '_>) {
    let form = finish.quick.as_ref().map(Quick::form);
    let sweep = match (x.groups, form) {
        (1, None) => groups::<1, SIGNED, SUMS>,
        (2, None) => groups::<2, SIGNED, SUMS>,
        (_, None) => groups::<3, SIGNED, SUMS>,
        (1, Some(U8 | I8 | ANY)) if panel.len() <= 2 => groups::<1, SIGNED, PAIRED_ANY>,
        (2, Some(U8 | I8 | ANY)) if panel.len() <= 2 => groups::<2, SIGNED, PAIRED_ANY>,
        (_, Some(U8 | I8 | ANY)) if panel.len() <= 2 => groups::<3, SIGNED, PAIRED_ANY>,
        (3, Some(U8)) => groups::<3, SIGNED, U8>,
        (3, Some(I8)) => groups::<3, SIGNED, I8>,
        (3, Some(ADDED_U8)) => groups::<3, SIGNED, ADDED_U8>,
        (3, Some(ADDED_I8)) => groups::<3, SIGNED, ADDED_I8>,
        (1, Some(U8 | I8 | ANY)) => groups::<1, SIGNED, ANY>,
        (2, Some(U8 | I8 | ANY)) => groups::<2, SIGNED, ANY>,
        (_, Some(U8 | I8 | ANY)) => groups::<3, SIGNED, ANY>,
        (1, Some(CORRECTED_ANY)) => groups::<1, SIGNED, CORRECTED_ANY>,
        (2, Some(CORRECTED_ANY)) => groups::<2, SIGNED, CORRECTED_ANY>,
        (_, Some(CORRECTED_ANY)) => groups::<3, SIGNED, CORRECTED_ANY>,
        (1, Some(_)) => groups::<1, SIGNED, ADDED_ANY>,
        (2, Some(_)) => groups::<2, SIGNED, ADDED_ANY>,
        (_, Some(_)) => groups::<3, SIGNED, ADDED_ANY>,
    };
    // SAFETY: the tile is chosen where the processor has the tier, and the caller's guarantees
    // are handed on.
    unsafe { sweep(x, panel, finish) }
}

impl Way {
    fn of(x: &Block) -> Way {
        // A few steps of a block are followed by those of the next one.
        let ahead = match x.steps {
            0..=3 => x.block_stride,
            _ => 2 << 10,
        };
        let rows = x.groups * ROWS * x.steps * STEP;
        match x.far {
            false => Way::Past,
            true if rows > caches().first / 2 => Way::Fetched(ahead),
            true => Way::Kept(ahead),
        }
    }
}

/// Blocks whose sums become results together, a line of the cache in each row.
const QUAD: usize = 4;

/// During the products of how many blocks that happens: a few rows at a time, where there is more to do with each.
const fn behind(form: u8) -> usize {
    match form & ADDED {
        0 => 2,
        _ => QUAD,
    }
}

/// What becomes of the sums is not for here.
const SUMS: u8 = u8::MAX;

const ADDED_U8: u8 = ADDED | U8;
const ADDED_I8: u8 = ADDED | I8;
const ADDED_ANY: u8 = ADDED | ANY;
const CORRECTED_ANY: u8 = CORRECTED | ANY;
const PAIRED_ANY: u8 = PAIRED | ANY;

/// See [`sweep`]; `G` is the number of groups, and `FORM` that of [`Finish::quick`], or [`SUMS`].
///
/// The order of the instructions matters. Few registers are there to rename those of tiles to, so that a row of tile
/// instructions holds up all that follows: what is done with the vector units stands between them.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
#[expect(unsafe_code, reason = "tile registers")]
unsafe fn groups<const G: usize, const SIGNED: bool, const FORM: u8>(
    x: &Block,
    panel: Range<usize>,
    finish: &mut Finish<'_, '_>,
) {
    static ZERO: Line = Line::ZERO;
    let x = *x;
    let way = Way::of(&x);
    let last = finish.last;
    let mut quick = finish.quick;
    let results = finish.rows;
    let row_sums = finish.row_sums;
    // Between two products, so many rows of four blocks become results.
    let each = results.len().div_ceil(const { behind(FORM) } * x.steps * G);
    let each = match FORM & PAIRED {
        0 => each,
        _ => each.next_multiple_of(2),
    };
    // Where the sums of a block are. Those of all blocks are kept apart if they are needed again.
    let place = |at: usize| {
        let place = match last && !x.accumulate {
            true => (at - panel.start) % const { QUAD + behind(FORM) },
            false => at - panel.start,
        };
        x.c.wrapping_add(place * G * ROWS * COLUMNS)
    };
    // The sums of four blocks, and how many of their rows are done.
    let (mut before, mut done) = ([x.c.cast_const(); QUAD], usize::MAX);
    // A macro, since what is in registers must stay there.
    macro_rules! convert {
        ($quick:expr, $until:expr) => {
            let until = $until;
            while done < until {
                let sums = before.map(|sums| sums.wrapping_add(done * COLUMNS));
                if FORM & PAIRED != 0 {
                    let rows = [results[done], results[done + 1]];
                    // SAFETY: these sums have been stored, and the product has checked that its rows
                    // are within the output.
                    unsafe { $quick.pair::<FORM>(sums, None, rows) }
                    done += 2;
                } else {
                    let row_sum = match FORM & CORRECTED {
                        0 => 0,
                        _ => row_sums[done],
                    };
                    // SAFETY: as above.
                    unsafe { $quick.row::<FORM>(sums, None, results[done], row_sum) }
                    done += 1;
                }
            }
        };
    }
    for at in panel.clone() {
        let c = place(at);
        let c = |group: usize| c.wrapping_add(group * ROWS * COLUMNS);
        // Nothing that was written just now: loads of tiles wait for stores.
        let start = match &quick {
            Some(quick) => quick.start(at),
            None => ZERO.0.as_ptr().cast(),
        };
        let b = x.b.wrapping_add(at * x.block_stride);
        let mut multiplied = 0;
        for (offset, step, steps) in x.stretches() {
            let mut a = [core::ptr::null(); G];
            for (a, from) in a.iter_mut().zip(x.a) {
                *a = from.wrapping_add(offset);
            }
            let mut b = b.wrapping_add(weights_bytes(step));
            let until = multiplied + steps;
            while multiplied < until {
                let (first, final_) = (multiplied == 0, multiplied + 1 == x.steps);
                if !first && !final_ && done >= results.len() {
                    let count = until.min(x.steps - 1) - multiplied;
                    // SAFETY: the caller's guarantees.
                    unsafe { products::<G, SIGNED>(&mut a, &mut b, count, x.row_stride, way) }
                    multiplied += count;
                    continue;
                }
                for (group, a) in a.iter_mut().enumerate() {
                    if first {
                        let from = match x.accumulate {
                            true => (c(group).cast_const(), STEP),
                            // The same line for all rows.
                            false => (start, 0),
                        };
                        // SAFETY: these are sums of an earlier pass, or 16 numbers.
                        unsafe { load(group, from) }
                    }
                    // SAFETY: the caller's guarantees.
                    unsafe { product::<SIGNED>(group, *a, b, x.row_stride, way) }
                    *a = a.wrapping_add(STEP);
                    if final_ && group > 0 {
                        // SAFETY: this is where the sums of the block go.
                        unsafe { store(group - 1, c(group - 1)) }
                    }
                    if let (true, Some(quick)) = (FORM != SUMS, &quick) {
                        convert!(quick, results.len().min(done.saturating_add(each)));
                    }
                }
                b = b.wrapping_add(STEP_BYTES);
                multiplied += 1;
            }
        }
        // SAFETY: this is where the sums of the block go.
        unsafe { store(G - 1, c(G - 1)) }
        if !last {
            continue;
        }
        let Some(quick) = &mut quick else {
            // SAFETY: these sums have been stored.
            let sums = unsafe { core::slice::from_raw_parts(c(0), results.len() * COLUMNS) };
            finish.some(at, 0, sums);
            continue;
        };
        let (count, end) = ((at - panel.start) % QUAD + 1, at + 1 == panel.end);
        if count == QUAD || end {
            convert!(quick, results.len());
            // Of blocks that there are not, any sums will do.
            let first = at + 1 - count;
            for (i, before) in before.iter_mut().enumerate() {
                *before = place(first + i.min(count - 1));
            }
            let ahead = match end {
                true => finish
                    .next_turn
                    .wrapping_sub((first - panel.start) * COLUMNS),
                false => count * COLUMNS,
            };
            quick.begin(first, count, ahead, FORM & PAIRED != 0);
            done = 0;
        }
        if end {
            convert!(quick, results.len());
        }
    }
}
