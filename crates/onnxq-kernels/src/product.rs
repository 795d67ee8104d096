//! [`Product`]: bytes times packed weights, for matrix products and convolutions alike.
//!
//! The left operand is rows of bytes in memory, as its producer left them; nothing is gathered. A
//! row is one or more *segments* of contiguous bytes: a matrix product has one, a convolution over
//! a channels-last tensor one for each row of its window (or for each position of it, where they
//! are dilated). Rows lie in *runs* at a regular stride: a matrix is one run, an image one for
//! each row of its result.
//!
//! Rows are taken by groups of 16. Where runs are a whole number of rows apart, as those of a
//! convolution with stride 1 over a padded image, groups may go on from run to run, over rows that
//! are nobody's result, if there are fewer groups in all. Where both would leave much of many groups empty, as short
//! runs do, rows are copied to groups that are full.
//!
//! Weights may be packed as one segment where rows have several. Then the segments of each row are copied to follow each
//! other: short ones, as of a window over three channels, take far fewer steps together than each by itself.

use crate::{
    Cpu, Line, bytes_mut,
    caches::caches,
    epilogue::{Epilogue, Finish, Output},
    memory::integers,
    pack::{COLUMNS, Packed, STEP, packed_len},
    residual::Addition,
    staging::Staging,
    tile::{Block, GROUPS, ROWS, Tile, tile},
    walk::Walk,
};
#[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
use crate::{
    Isa,
    requantize::{Adding, Quick},
};

/// Where the rows of the left operand are. All strides are in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// How many runs.
    pub runs: usize,
    /// Rows of one run.
    pub run_len: usize,
    /// From run to run.
    pub run_stride: usize,
    /// From row to row within a run.
    pub row_stride: usize,
    /// Segments of a row: outer (rows of a window) and inner (positions of it).
    pub segments: [usize; 2],
    /// From segment to segment, outer and inner.
    pub segment_strides: [usize; 2],
    /// Bytes of a segment.
    pub depth: usize,
}

impl Geometry {
    /// A matrix of `rows` × `depth` bytes with `stride` bytes from row to row.
    pub fn matrix(rows: usize, depth: usize, stride: usize) -> Geometry {
        Geometry {
            runs: 1,
            run_len: rows,
            run_stride: 0,
            row_stride: stride,
            segments: [1, 1],
            segment_strides: [0, 0],
            depth,
        }
    }

    /// Bytes from the start of a row to the end of what it has.
    pub fn extent(&self) -> usize {
        self.last_segment() + self.depth
    }

    /// Offset of the last segment of a row.
    pub(crate) fn last_segment(&self) -> usize {
        self.segments
            .iter()
            .zip(self.segment_strides)
            .map(|(n, stride)| (n - 1) * stride)
            .sum()
    }

    /// Rows in all.
    pub fn rows(&self) -> usize {
        self.runs * self.run_len
    }
}

/// The left operand.
#[derive(Clone, Copy, Debug)]
pub struct Left<'a> {
    /// The bytes, from the first row on. More of them than the rows need let the last rows be read in
    /// place.
    pub data: &'a [u8],
    /// Whether they are `i8`.
    pub signed: bool,
    /// Where the rows are.
    pub geometry: Geometry,
}

/// Bytes times packed weights, see the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    /// The rows.
    pub left: Left<'a>,
    /// The columns.
    pub right: Packed<'a>,
    /// Elements of the result from run to run, and from row to row.
    pub strides: [usize; 2],
    /// What happens to the sums.
    pub epilogue: Epilogue<'a>,
}

/// Lines of scratch memory that a product with these weights may need.
pub fn scratch_lines(right: &Packed<'_>) -> usize {
    let offsets = Line::count(right.columns * size_of::<i32>());
    let sums = places(right) * GROUPS * ROWS;
    staged_lines(right) + sums + offsets + saved_lines(right)
}

/// Places for the sums of a block: for each of them, in fours. Those of four become results during the products of the next
/// four.
fn places(right: &Packed<'_>) -> usize {
    right.columns.div_ceil(COLUMNS).next_multiple_of(4)
}

/// Lines for the rows of a turn.
fn staged_lines(right: &Packed<'_>) -> usize {
    GROUPS * ROWS * Line::count(pitch(right))
}

/// Lines for the residual of a turn, where the result takes its place.
fn saved_lines(right: &Packed<'_>) -> usize {
    Line::count(GROUPS * ROWS * right.columns)
}

/// Bytes between rows that are staged: an odd number of lines, so that those of many rows are in all sets of a cache.
fn pitch(right: &Packed<'_>) -> usize {
    ((right.segments * right.steps()) | 1) * STEP
}

impl Product<'_> {
    /// Computes the product into `output`, using `scratch` of [`scratch_lines`].
    ///
    /// # Panics
    /// Sizes that do not fit together.
    pub fn run(&self, cpu: Cpu, mut output: Output<'_>, scratch: &mut [Line]) {
        self.check(&output);
        assert!(
            scratch.len() >= scratch_lines(&self.right),
            "scratch memory"
        );
        if self.left.geometry.rows() == 0 || self.right.columns == 0 {
            return;
        }
        let tile = tile(cpu, self.left.geometry.rows(), self.right.columns);
        (tile.begin)(cpu);
        self.blocks(cpu, tile, &mut output, scratch);
        (tile.end)(cpu);
    }

    fn check(&self, output: &Output<'_>) {
        let Product {
            left,
            right,
            epilogue,
            ..
        } = self;
        let (g, columns) = (&left.geometry, right.columns);
        let segments = g.segments[0] * g.segments[1];
        assert!(segments > 0 && g.depth > 0, "an empty row");
        let apart = [segments, g.depth] == [right.segments, right.depth];
        let joined = right.segments == 1 && segments.checked_mul(g.depth) == Some(right.depth);
        assert!(apart || joined, "segments and depth of both operands");
        let packed = packed_len(columns, right.segments, right.depth);
        assert!(right.data.len() >= packed, "packed weights");
        assert_eq!(epilogue.offset.len(), columns, "an offset for each column");
        let optional = |len: usize| len == 0 || len == columns;
        assert!(
            optional(epilogue.zero.len()),
            "a zero point for each column"
        );
        let (len, scale, bias) = match output {
            Output::Sums(y) => (y.len(), columns, 0),
            Output::Bytes(y, to) => (y.len(), to.scale.len(), 0),
            Output::Floats { y, scale, bias, .. } => (y.len(), scale.len(), bias.len()),
        };
        assert_eq!(scale, columns, "a scale for each column");
        assert!(optional(bias), "a bias for each column");
        if g.rows() > 0 {
            let last = (g.runs - 1) * g.run_stride + (g.run_len - 1) * g.row_stride;
            assert!(
                left.data.len() >= last + g.extent(),
                "rows of the left operand"
            );
            let last = (g.runs - 1) * self.strides[0] + (g.run_len - 1) * self.strides[1];
            assert!(len >= last + columns, "rows of the result");
            if let Output::Bytes(_, to) = output
                && let Some(residual) = &to.residual
            {
                let needed = match residual.row {
                    true => columns,
                    false => last + columns,
                };
                assert!(
                    residual
                        .data
                        .map_or(!residual.row, |data| data.len() >= needed),
                    "rows of the residual"
                );
            }
        }
    }

    /// Cuts the product for the caches. `is_staged` says whether all rows are copied.
    fn cut(&self, tile: &Tile, walk: &Walk, is_staged: bool) -> Cut {
        let (g, right, caches) = (&self.left.geometry, &self.right, caches());
        // What of the left operand stays in the first-level cache beside the weights. Tiles without a sweep go through a
        // few rows at a time, and only these need to stay.
        let room = match tile.sweep {
            Some(_) => caches.first / 6 * 5,
            None => caches.first / 3 * 4,
        };
        let passes = |groups: usize| {
            let rows = g.rows().min(groups * ROWS);
            let bytes = match is_staged {
                true => rows * pitch(right),
                false => g.bytes(rows),
            };
            bytes.div_ceil(room).max(1)
        };
        // A group less, where that saves keeping sums from pass to pass.
        let most = tile.groups;
        let groups = match most > 2 && passes(most) > 1 && passes(most - 1) == 1 {
            true => most - 1,
            false => most,
        };
        // As many rows at a time for each turn as are needed for the fewest turns.
        let turns = walk.groups.div_ceil(groups);
        let blocks = right.columns.div_ceil(COLUMNS);
        Cut {
            turn: walk.groups.div_ceil(turns),
            pass_steps: (right.segments * right.steps()).div_ceil(passes(groups)),
            panel: match turns {
                1 => blocks,
                _ => (caches.second / 2 / right.block_bytes().max(1) / 4 * 4).clamp(1, blocks),
            },
        }
    }

    fn blocks(&self, cpu: Cpu, tile: &Tile, output: &mut Output<'_>, scratch: &mut [Line]) {
        let (left, right) = (&self.left, &self.right);
        let walk = Walk::of(&left.geometry, right.columns);
        let steps = right.segments * right.steps();
        let pitch = pitch(right);
        let (staged, sums) = scratch.split_at_mut(staged_lines(right));
        let (saved, sums) = sums.split_at_mut(saved_lines(right));
        let (staged, saved, sums) = (bytes_mut(staged), bytes_mut(saved), integers(sums));
        let blocks = right.columns.div_ceil(COLUMNS);
        let (sums, start) = sums.split_at_mut(places(right) * GROUPS * ROWS * COLUMNS);
        let segments = left.geometry.segments[0] * left.geometry.segments[1];
        let flip = left.signed && tile.unsigned;
        let is_staged = right.segments < segments || flip;
        let Cut {
            turn,
            pass_steps,
            panel,
        } = self.cut(tile, &walk, is_staged);
        #[cfg(not(all(target_arch = "x86_64", feature = "avx512vnni")))]
        let _ = start;
        #[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
        let has_tier = matches!(cpu.isa(), Isa::Avx512Vnni | Isa::Amx);
        #[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
        #[expect(unsafe_code, reason = "instructions that the tier promises")]
        // SAFETY: the processor has the tier.
        let adding = unsafe { has_tier.then(|| Adding::new(output)).flatten() };
        #[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
        #[expect(unsafe_code, reason = "instructions that the tier promises")]
        let mut quick = match has_tier {
            // SAFETY: as above.
            true => unsafe {
                let start = &mut start[..blocks * COLUMNS];
                Quick::new(&self.epilogue, output, start, adding.as_ref())
            },
            false => None,
        };
        // Whether a residual is left to be added after each turn.
        #[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
        let is_left = !quick.as_ref().is_some_and(Quick::adds);
        #[cfg(not(all(target_arch = "x86_64", feature = "avx512vnni")))]
        let is_left = true;
        let mut rows = [usize::MAX; GROUPS * ROWS];
        let mut row_sums = [0; GROUPS * ROWS];
        for first_block in (0..blocks).step_by(panel) {
            let panel = first_block..blocks.min(first_block + panel);
            for first in (0..walk.groups).step_by(turn) {
                let groups = first..walk.groups.min(first + turn);
                let count = groups.len();
                let rows = &mut rows[..count * ROWS];
                let mut a = [left.data.as_ptr(); GROUPS];
                let (mut in_place, mut last_rows) = (true, ROWS);
                for (i, group) in groups.enumerate() {
                    let (offset, wanted) =
                        walk.rows(group, self.strides, &mut rows[i * ROWS..][..ROWS]);
                    last_rows = wanted;
                    in_place &= offset
                        .is_some_and(|offset| offset + left.geometry.reads() <= left.data.len());
                    a[i] = left.data.as_ptr().wrapping_add(offset.unwrap_or(0));
                }
                let row_sums = &mut row_sums[..count * ROWS];
                if !self.epilogue.zero.is_empty() {
                    for (i, group) in (first..first + count).enumerate() {
                        left.row_sums(cpu, &walk, group, &mut row_sums[i * ROWS..][..ROWS]);
                    }
                }
                let g = &left.geometry;
                let mut block = Block {
                    a,
                    groups: count,
                    last_rows,
                    row_stride: g.row_stride,
                    inner_segments: g.segments[1],
                    segment_strides: g.segment_strides,
                    segment_steps: right.steps(),
                    first_step: 0,
                    steps: 0,
                    b: right.data.as_ptr(),
                    blocks: 0,
                    block_stride: right.block_bytes(),
                    c: sums.as_mut_ptr(),
                    accumulate: false,
                    far: first == 0 && right.among > caches().second,
                };
                // Rows that share few sets of the first-level cache do not stay in it.
                let crowded =
                    pass_steps < steps && g.row_stride.is_multiple_of(1024) && panel.len() >= 32;
                if is_staged || !in_place || crowded {
                    let how = Staging {
                        pitch,
                        segment: match right.segments < segments {
                            true => g.depth,
                            false => right.steps() * STEP,
                        },
                        flip,
                    };
                    for (i, group) in (first..first + count).enumerate() {
                        // The others stay as they are: nobody wants their sums.
                        let rows = if i + 1 == count { last_rows } else { ROWS };
                        let to = &mut staged[i * ROWS * pitch..];
                        block.a[i] = to.as_ptr();
                        left.stage(cpu, &walk, group, rows, how, to);
                    }
                    block.row_stride = pitch;
                    block.inner_segments = 1;
                    block.segment_strides = [right.steps() * STEP, 0];
                }
                let columns = panel.start * COLUMNS..right.columns.min(panel.end * COLUMNS);
                let residual = Addition::of(output, columns).filter(|_| is_left);
                if let Some(residual) = &residual {
                    residual.save(rows, output, saved);
                }
                #[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
                if let (Some(quick), true) = (&mut quick, residual.is_some()) {
                    quick.renew(output);
                }
                let mut finish = Finish {
                    cpu,
                    rows: &rows[..(count - 1) * ROWS + last_rows.next_multiple_of(4)],
                    row_sums,
                    columns: right.columns,
                    next_turn: turn * ROWS * self.strides[1],
                    epilogue: &self.epilogue,
                    output,
                    last: false,
                    #[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
                    quick,
                };
                for pass in (0..steps).step_by(pass_steps) {
                    block.first_step = pass;
                    block.steps = pass_steps.min(steps - pass);
                    block.accumulate = pass > 0;
                    finish.last = pass + block.steps == steps;
                    #[expect(unsafe_code, reason = "tiles read at strides")]
                    // SAFETY: `in_place`, or else staging, sees to the left operand; `check` to
                    // the weights; there are sums for all blocks of a panel.
                    unsafe {
                        tile.run(left.signed, &block, panel.clone(), &mut finish);
                    }
                }
                if let Some(residual) = &residual {
                    residual.add(cpu, rows, output, saved);
                }
            }
        }
    }
}

impl Left<'_> {
    /// The sum of each row of a group.
    fn row_sums(&self, cpu: Cpu, walk: &Walk, group: usize, sums: &mut [i32]) {
        let g = &self.geometry;
        for (sum, at) in sums.iter_mut().zip(walk.starts(group)) {
            *sum = 0;
            for s in 0..g.segments[0] * g.segments[1] {
                let at = at.saturating_add(g.segment(s));
                // Rows beyond the data are nobody's.
                if let Some(from) = self.data.get(at..at.saturating_add(g.depth)) {
                    let mut part = [0];
                    crate::row_sums(cpu, from, self.signed, g.depth, &mut part);
                    *sum += part[0];
                }
            }
        }
    }
}

/// How a product is cut: groups of a turn, steps of a pass, blocks of a panel.
struct Cut {
    turn: usize,
    pass_steps: usize,
    panel: usize,
}

impl Geometry {
    /// Offset of a segment in a row.
    pub(crate) fn segment(&self, s: usize) -> usize {
        s / self.segments[1] * self.segment_strides[0]
            + s % self.segments[1] * self.segment_strides[1]
    }

    /// How far the tile reads from the first row of a group.
    fn reads(&self) -> usize {
        (ROWS - 1) * self.row_stride + self.last_segment() + self.depth.next_multiple_of(STEP)
    }

    /// About how many different bytes `rows` neighbouring rows have.
    fn bytes(&self, rows: usize) -> usize {
        let [outer, inner] = self.segments;
        let apart = rows * inner * self.depth;
        let together = rows * self.row_stride + (inner - 1) * self.segment_strides[1] + self.depth;
        outer * apart.min(together)
    }
}
