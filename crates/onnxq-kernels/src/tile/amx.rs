//! AMX-INT8: a tile register holds 16 rows of 64 bytes, and one instruction multiplies two of them.
//!
//! Two groups of rows share each step of the weights of two blocks, which makes seven live registers of the eight:
//!
//! ```text
//!              tmm5   tmm6   weights, 16 x 4 depths of 16 columns
//! a[0]  tmm4   tmm0   tmm1   sums, 16 x 16
//! a[1]  tmm4   tmm2   tmm3
//! ```
//!
//! `tmm4` is loaded anew for each group. The four loads of a step take 32 cycles of the ports that loads have, its four
//! products 64, so that the vector units can load nearly as much besides: sums that become results.
//!
//! Where so many registers are slow (see [`mode`]), or there is one block, three groups share the weights of one:
//!
//! ```text
//!              tmm5   weights
//! a[0]  tmm4   tmm0   sums
//! a[1]  tmm4   tmm1
//! a[2]  tmm4   tmm2
//! ```

mod mode;
mod registers;

use core::{arch::asm, ops::Range};

use self::registers::{Way, load_rows, load_sums, load_weights, multiply, products, store_sums};
use super::{Block, ROWS, Sweep, Tile, weights_bytes};
use crate::{
    Cpu, Isa, Line, Tiles,
    caches::caches,
    epilogue::Finish,
    pack::{COLUMNS, STEP, STEP_BYTES},
    requantize::{ADDED, ANY, CORRECTED, FLOATS, Four, I8, PAIRED, Quick, U8},
};

/// One block at a time.
static SINGLE: Tile = Tile {
    isa: Isa::Amx,
    groups: 3,
    blocks: 1,
    unsigned: false,
    multiply: [unused, unused],
    sweep: Some([sweep::<false>, sweep::<true>]),
    begin,
    end,
};

/// Two blocks side by side.
static PAIRS: Tile = Tile {
    groups: 2,
    sweep: Some([sweep_pairs::<false>, sweep_pairs::<true>]),
    ..SINGLE
};

/// The tile for so many columns.
pub(super) fn tile(cpu: Cpu, columns: usize) -> &'static Tile {
    let pairs = columns > COLUMNS
        && match cpu.tiles() {
            Tiles::Measured => mode::is_fast(cpu),
            Tiles::Few => false,
            Tiles::Most => true,
        };
    match pairs {
        true => &PAIRS,
        false => &SINGLE,
    }
}

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
unsafe fn unused(_: &Block) {}

/// A range of blocks of columns, one after the other. See [`groups`].
///
/// # Safety
/// See [`Block`].
#[expect(unsafe_code, reason = "tile registers")]
unsafe fn sweep<const SIGNED: bool>(x: &Block, panel: Range<usize>, finish: &mut Finish<'_, '_>) {
    let form = Form::of(&panel, finish);
    let sweep = match x.groups {
        1 => form.sweep::<1, 1, SIGNED>(),
        2 => form.sweep::<2, 1, SIGNED>(),
        _ => form.whole::<3, 1, SIGNED>(),
    };
    // SAFETY: the tile is chosen where the processor has the tier, and the caller's guarantees
    // are handed on.
    unsafe { sweep(x, panel, finish) }
}

/// A range of blocks of columns, two at a time. See [`groups`].
///
/// # Safety
/// See [`Block`].
#[expect(unsafe_code, reason = "tile registers")]
unsafe fn sweep_pairs<const SIGNED: bool>(
    x: &Block,
    panel: Range<usize>,
    finish: &mut Finish<'_, '_>,
) {
    let form = Form::of(&panel, finish);
    let sweep = match x.groups {
        1 => form.sweep::<1, 2, SIGNED>(),
        _ => form.whole::<2, 2, SIGNED>(),
    };
    // SAFETY: as in `sweep`.
    unsafe { sweep(x, panel, finish) }
}

/// What becomes of the sums: [`Finish::quick`] says, or else [`SUMS`].
#[derive(Clone, Copy)]
struct Form(u8);

impl Form {
    fn of(panel: &Range<usize>, finish: &Finish<'_, '_>) -> Form {
        Form(match finish.quick.as_ref().map(Quick::form) {
            None => SUMS,
            Some(U8 | I8 | ANY) if panel.len() <= 2 => PAIRED_ANY,
            Some(form) => form,
        })
    }

    /// What most of all turns are: usual forms have code of their own.
    fn whole<const G: usize, const B: usize, const SIGNED: bool>(self) -> Sweep {
        match self.0 {
            U8 => groups::<G, B, SIGNED, U8>,
            I8 => groups::<G, B, SIGNED, I8>,
            ADDED_U8 => groups::<G, B, SIGNED, ADDED_U8>,
            ADDED_I8 => groups::<G, B, SIGNED, ADDED_I8>,
            _ => self.sweep::<G, B, SIGNED>(),
        }
    }

    fn sweep<const G: usize, const B: usize, const SIGNED: bool>(self) -> Sweep {
        match self.0 {
            SUMS => groups::<G, B, SIGNED, SUMS>,
            U8 | I8 | ANY => groups::<G, B, SIGNED, ANY>,
            PAIRED_ANY => groups::<G, B, SIGNED, PAIRED_ANY>,
            CORRECTED_ANY => groups::<G, B, SIGNED, CORRECTED_ANY>,
            FLOATS => groups::<G, B, SIGNED, FLOATS>,
            _ => groups::<G, B, SIGNED, ADDED_ANY>,
        }
    }
}

impl Way {
    fn of(x: &Block, blocks: usize) -> Way {
        // A few steps of a block are followed by those of the next one.
        let ahead = match x.steps {
            0..=3 => blocks * x.block_stride,
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

/// Blocks whose sums become results together, a line of the cache in each row, during the products of as many.
const QUAD: usize = 4;

/// What becomes of the sums is not for here.
const SUMS: u8 = u8::MAX;

const ADDED_U8: u8 = ADDED | U8;
const ADDED_I8: u8 = ADDED | I8;
const ADDED_ANY: u8 = ADDED | ANY;
const CORRECTED_ANY: u8 = CORRECTED | ANY;
const PAIRED_ANY: u8 = PAIRED | ANY;

/// A range of blocks of columns. `G` is the number of groups, `B` how many blocks are multiplied side by side, `FORM` a
/// [`Form`]. The sums of some blocks become results while the next ones are being multiplied: a few rows after each
/// product, which the vector units do while the tile unit has the products before it.
///
/// The order of the instructions matters. Few registers are there to rename those of tiles to, so that a row of tile
/// instructions holds up all that follows: what is done with the vector units stands between them.
///
/// # Safety
/// See [`Block`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
#[expect(unsafe_code, reason = "tile registers")]
unsafe fn groups<const G: usize, const B: usize, const SIGNED: bool, const FORM: u8>(
    x: &Block,
    panel: Range<usize>,
    finish: &mut Finish<'_, '_>,
) {
    static ZERO: Line = Line::ZERO;
    let x = *x;
    let way = Way::of(&x, B);
    let last = finish.last;
    let mut quick = finish.quick;
    let results = finish.rows;
    // Between two products, so many rows of four blocks become results.
    let each = results.len().div_ceil(QUAD * x.steps * G);
    let each = match FORM & PAIRED {
        0 => each,
        _ => each.div_ceil(2),
    };
    // Where the sums of a block are. Those of all blocks are kept apart if they are needed again.
    let place = |at: usize| {
        let place = match last && !x.accumulate {
            true => (at - panel.start) % const { 2 * QUAD },
            false => at - panel.start,
        };
        x.c.wrapping_add(place * G * ROWS * COLUMNS)
    };
    // The sums of four blocks, and those rows of results that are not done.
    let mut from = x.c.cast_const();
    let (mut rows, mut row_sums) = ([].iter(), [].iter());
    // Macros, since what is in registers must stay there.
    macro_rules! convert {
        ($quick:expr, $times:expr) => {
            for _ in 0..$times {
                let Some(&row) = rows.next() else {
                    break;
                };
                let stride = const { G * ROWS * COLUMNS };
                let sums = Four { from, stride };
                if FORM & PAIRED != 0 {
                    let rows = [row, rows.next().copied().unwrap_or(usize::MAX)];
                    // SAFETY: these sums have been stored, and the product has checked that its rows
                    // are within the output.
                    unsafe { $quick.pair::<FORM>(sums, None, rows) }
                    from = from.wrapping_add(2 * COLUMNS);
                } else {
                    let row_sum = match FORM & CORRECTED {
                        0 => 0,
                        _ => row_sums.next().copied().unwrap_or(0),
                    };
                    // SAFETY: as above.
                    unsafe { $quick.row::<FORM>(sums, None, row, row_sum) }
                    from = from.wrapping_add(COLUMNS);
                }
            }
        };
    }
    // Without `quick` it is a block at a time, after some steps: many stores at once would hold up those of tiles. Up to where
    // they are stored, and finished.
    let (mut stored, mut finished) = (panel.start, panel.start);
    let between = x.steps / B;
    macro_rules! finish_blocks {
        ($until:expr) => {
            let until = $until;
            while finished < until {
                let (sums, count) = (place(finished), results.len() * COLUMNS);
                // SAFETY: these have been stored.
                let sums = unsafe { core::slice::from_raw_parts(sums, count) };
                finish.some(finished, 0, sums);
                finished += 1;
            }
        };
    }
    // Multiplies so many blocks from `$at` on.
    macro_rules! multiply_blocks {
        ($count:literal, $at:expr) => {
            let (at, count) = ($at, $count);
            let places: [_; $count] = core::array::from_fn(|block| place(at + block));
            // Where the sums of a register go.
            let c = |register: usize| {
                places[register % count].wrapping_add(register / count * ROWS * COLUMNS)
            };
            // Nothing that was written just now: loads of tiles wait for stores.
            let starts: [_; $count] = core::array::from_fn(|block| match &quick {
                Some(quick) => quick.start(at + block),
                None => ZERO.0.as_ptr().cast(),
            });
            let weights: [_; $count] =
                core::array::from_fn(|block| x.b.wrapping_add((at + block) * x.block_stride));
            let (mut a, mut b, mut is_first) = ([core::ptr::null(); G], weights, true);
            // One step of the product for a register. Those of the last step are stored, each after the next product.
            macro_rules! product {
                ($register:literal, $is_last:literal) => {
                    let (group, block) = ($register / count, $register % count);
                    if group < G {
                        if is_first {
                            let from = match x.accumulate {
                                true => (c($register).cast_const(), STEP),
                                // The same line for all rows.
                                false => (starts[block], 0),
                            };
                            // SAFETY: these are sums of an earlier pass, or 16 numbers.
                            unsafe { load_sums($register, from) }
                        }
                        // SAFETY: the caller's guarantees.
                        unsafe {
                            if group == 0 {
                                load_weights(block, b[block], way);
                            }
                            if block == 0 {
                                load_rows(a[group], x.row_stride);
                            }
                            multiply::<SIGNED>($register, block);
                        }
                        if $is_last && $register > 0 {
                            // SAFETY: this is where these sums go.
                            unsafe { store_sums($register - 1, c($register - 1)) }
                        }
                        if let (true, Some(quick)) = (FORM != SUMS, &quick) {
                            convert!(quick, each);
                        }
                    }
                };
            }
            macro_rules! step {
                ($is_last:literal) => {
                    product!(0, $is_last);
                    product!(1, $is_last);
                    product!(2, $is_last);
                    product!(3, $is_last);
                };
            }
            let mut rest = x.steps;
            for (offset, step, steps) in x.stretches() {
                for (a, from) in a.iter_mut().zip(x.a) {
                    *a = from.wrapping_add(offset);
                }
                b = weights.map(|b| b.wrapping_add(weights_bytes(step)));
                rest -= steps;
                let mut steps = steps - usize::from(rest == 0);
                while steps > 0 {
                    let mut some = 1;
                    if !is_first && rows.as_slice().is_empty() {
                        some = match FORM == SUMS && finished < stored {
                            true => steps.min(between).max(1),
                            false => steps,
                        };
                        // SAFETY: the caller's guarantees.
                        unsafe {
                            products::<G, $count, SIGNED>(&mut a, &mut b, some, x.row_stride, way)
                        }
                        if FORM == SUMS {
                            finish_blocks!(stored.min(finished + 1));
                        }
                    } else {
                        step!(false);
                        is_first = false;
                        a = a.map(|a| a.wrapping_add(STEP));
                        b = b.map(|b| b.wrapping_add(STEP_BYTES));
                    }
                    steps -= some;
                }
            }
            step!(true);
            // SAFETY: this is where these sums go.
            unsafe { store_sums(G * count - 1, c(G * count - 1)) }
        };
    }
    let mut at = panel.start;
    while at < panel.end {
        if B == 2 && at + 2 <= panel.end {
            multiply_blocks!(2, at);
            at += 2;
        } else {
            multiply_blocks!(1, at);
            at += 1;
        }
        if !last {
            continue;
        }
        let Some(quick) = &mut quick else {
            finish_blocks!(stored);
            stored = at;
            if at == panel.end || x.steps <= 2 {
                finish_blocks!(stored);
            }
            continue;
        };
        let (count, end) = ((at - panel.start - 1) % QUAD + 1, at == panel.end);
        if count == QUAD || end {
            convert!(quick, usize::MAX);
            let first = at - count;
            from = place(first);
            let ahead = match end {
                true => finish
                    .next_turn
                    .wrapping_sub((first - panel.start) * COLUMNS),
                false => count * COLUMNS,
            };
            quick.begin(first, count, ahead, FORM & PAIRED != 0);
            (rows, row_sums) = (results.iter(), finish.row_sums.iter());
        }
        if end {
            convert!(quick, usize::MAX);
        }
    }
}
