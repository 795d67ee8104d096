//! Attention: `softmax(Q · Kᵀ · scale + mask) · V`, head by head, without the matrix of scores.
//!
//! Keys and values of a head are packed in panels of 32 columns. Then, for each few rows of
//! queries: their scores, the exponentials of those, and the product with the values, which is
//! divided by the sum of the exponentials last. Products and sums are fused, from the first index
//! to the last, so that the result depends neither on the tier nor on how rows are split.

use core::ops::Range;

use crate::{
    Cpu, Line,
    fused::{Plain, Vectors},
    memory::floats,
};

/// Columns of a panel.
const PANEL: usize = 32;

/// Rows of queries that are taken at a time.
const ROWS: usize = 8;

/// Rows of floats of every head.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// The floats, from the first row of the first head on.
    pub data: &'a [f32],
    /// From row to row, and from head to head.
    pub strides: [usize; 2],
}

/// What is added to the scores of each head.
#[derive(Clone, Copy, Debug)]
pub struct Mask<'a> {
    /// The floats: contiguous along a row of scores.
    pub data: &'a [f32],
    /// From row to row, and from head to head; 0 for what is repeated.
    pub strides: [usize; 2],
}

/// Attention of some queries to some keys, see the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values: as many, or fewer that divide them, each for a few neighbours.
    pub key_heads: usize,
    /// How many queries, that is, rows of the result.
    pub rows: usize,
    /// How many keys and values.
    pub keys: usize,
    /// Elements of a query and of a key.
    pub depth: usize,
    /// Elements of a value and of a row of the result.
    pub width: usize,
    /// What the scores are multiplied by.
    pub scale: f32,
    /// Queries.
    pub q: Heads<'a>,
    /// Keys.
    pub k: Heads<'a>,
    /// Values.
    pub v: Heads<'a>,
    /// Added to the scores.
    pub mask: Option<Mask<'a>>,
    /// Of the result: from row to row, and from head to head.
    pub strides: [usize; 2],
}

impl Attention<'_> {
    /// Lines of scratch memory that [`run`](Attention::run) needs.
    pub fn scratch_lines(&self) -> usize {
        let panels = |n: usize| n.next_multiple_of(PANEL);
        let keys = panels(self.keys) * self.depth;
        let values = panels(self.width) * self.keys;
        Line::count(4 * (keys + values + ROWS * panels(self.keys) + ROWS * PANEL))
    }

    /// Computes some rows of the result, for all heads; `y` begins with the first of them. Without
    /// keys there is no result.
    ///
    /// # Panics
    /// Sizes that do not fit together, or too little scratch memory.
    pub fn run(&self, cpu: Cpu, rows: Range<usize>, y: &mut [f32], scratch: &mut [Line]) {
        self.check(&rows, y);
        assert!(scratch.len() >= self.scratch_lines(), "scratch memory");
        if rows.is_empty() || self.keys == 0 || self.heads == 0 || self.width == 0 {
            return;
        }
        run(cpu, self, rows, y, floats(scratch));
    }

    fn check(&self, rows: &Range<usize>, y: &[f32]) {
        let last = |count: usize, strides: [usize; 2], heads: usize, width: usize| match count
            * heads
            * width
        {
            0 => 0,
            _ => (count - 1) * strides[0] + (heads - 1) * strides[1] + width,
        };
        let holds = |x: &Heads<'_>, count: usize, heads: usize, width: usize| {
            x.data.len() >= last(count, x.strides, heads, width)
        };
        assert!(
            rows.start <= rows.end && rows.end <= self.rows,
            "rows of the result"
        );
        assert!(self.depth > 0, "elements of queries");
        assert!(
            self.key_heads > 0 && self.heads.is_multiple_of(self.key_heads),
            "heads of the keys"
        );
        assert!(holds(&self.q, self.rows, self.heads, self.depth), "queries");
        assert!(
            holds(&self.k, self.keys, self.key_heads, self.depth),
            "keys"
        );
        assert!(
            holds(&self.v, self.keys, self.key_heads, self.width),
            "values"
        );
        if let Some(mask) = &self.mask {
            let needed = last(self.rows, mask.strides, self.heads, self.keys);
            assert!(mask.data.len() >= needed, "a mask for all scores");
        }
        let needed = last(rows.len(), self.strides, self.heads, self.width);
        assert!(y.len() >= needed, "room for the result");
    }

    /// All heads, with tiles of `R` rows and `N` vectors, and panels of `P`.
    #[inline(always)]
    fn with<V: Vectors, const R: usize, const N: usize, const P: usize>(
        &self,
        vectors: V,
        rows: Range<usize>,
        y: &mut [f32],
        scratch: &mut [f32],
    ) {
        let padded = self.keys.next_multiple_of(PANEL);
        let (keys, rest) = scratch.split_at_mut(padded * self.depth);
        let (values, rest) = rest.split_at_mut(self.width.next_multiple_of(PANEL) * self.keys);
        let (scores, rest) = rest.split_at_mut(ROWS * padded);
        let result = &mut rest[..ROWS * PANEL];
        let each = self.heads / self.key_heads;
        for head in 0..self.heads {
            if head % each == 0 {
                let at = |x: &Heads<'_>| head / each * x.strides[1];
                pack_columns(
                    &self.k.data[at(&self.k)..],
                    self.k.strides[0],
                    self.depth,
                    self.keys,
                    keys,
                );
                pack_rows(
                    &self.v.data[at(&self.v)..],
                    self.v.strides[0],
                    self.width,
                    self.keys,
                    values,
                );
            }
            for first in rows.clone().step_by(ROWS) {
                let count = ROWS.min(rows.end - first);
                // What lies beyond the last row repeats it.
                let q: [&[f32]; ROWS] = core::array::from_fn(|r| {
                    let row = first + r.min(count - 1);
                    &self.q.data[row * self.q.strides[0] + head * self.q.strides[1]..][..self.depth]
                });
                for (i, panel) in keys.chunks_exact(PANEL * self.depth).enumerate() {
                    multiply::<V, R, N>(vectors, &q, panel, &mut scores[i * PANEL..], padded);
                }
                // One after the other, so that rows do not wait for each other's results.
                let (mut largest, mut sums) = ([0.0; ROWS], [0.0; ROWS]);
                let mut parts = [[vectors.splat(0.0); P]; ROWS];
                for (r, scores) in scores.chunks_exact_mut(padded).take(count).enumerate() {
                    parts[r] = self.scaled(vectors, head, first + r, scores);
                }
                for (largest, parts) in largest.iter_mut().zip(&parts) {
                    let greater = |a, b| if a > b { a } else { b };
                    *largest = joined(vectors, parts, |a, b| vectors.max(a, b), greater);
                }
                for (r, scores) in scores.chunks_exact_mut(padded).take(count).enumerate() {
                    parts[r] = exponentials(vectors, -largest[r], scores);
                }
                for (sum, parts) in sums.iter_mut().zip(&parts) {
                    *sum = joined(vectors, parts, |a, b| vectors.add(a, b), |a, b| a + b);
                }
                let p: [&[f32]; ROWS] =
                    core::array::from_fn(|r| &scores[r.min(count - 1) * padded..][..self.keys]);
                for (i, panel) in values.chunks_exact(PANEL * self.keys).enumerate() {
                    multiply::<V, R, N>(vectors, &p, panel, result, PANEL);
                    let columns = PANEL.min(self.width - i * PANEL);
                    for (r, result) in result.chunks_exact(PANEL).take(count).enumerate() {
                        let at =
                            (first - rows.start + r) * self.strides[0] + head * self.strides[1];
                        let y = &mut y[at + i * PANEL..][..columns];
                        let inverse = 1.0 / sums[r];
                        for (y, &v) in y.iter_mut().zip(result) {
                            *y = v * inverse;
                        }
                    }
                }
            }
        }
    }

    /// Scales and masks a row of scores, of which there are whole panels; returns the largest by lane.
    #[inline(always)]
    fn scaled<V: Vectors, const P: usize>(
        &self,
        vectors: V,
        head: usize,
        row: usize,
        scores: &mut [f32],
    ) -> [V::Vector; P] {
        let (panels, _) = scores.as_chunks_mut::<PANEL>();
        let scale = vectors.splat(self.scale);
        let mut max = [vectors.splat(f32::NEG_INFINITY); P];
        let mask = self.mask.as_ref().map_or(&[][..], |mask| {
            &mask.data[row * mask.strides[0] + head * mask.strides[1]..][..self.keys]
        });
        for (i, panel) in panels.iter_mut().enumerate() {
            let mut padded = [0.0; PANEL];
            let columns = PANEL.min(self.keys - i * PANEL);
            let mut added = &padded;
            if !mask.is_empty() || columns < PANEL {
                let mask = mask.get(i * PANEL..).unwrap_or_default();
                added = match mask.first_chunk() {
                    Some(mask) => mask,
                    None => {
                        padded[..mask.len()].copy_from_slice(mask);
                        padded[columns..].fill(f32::NEG_INFINITY);
                        &padded
                    }
                };
            }
            for (p, max) in max.iter_mut().enumerate() {
                let at = p * V::LANES;
                let x = vectors.mul_add(
                    vectors.load(&panel[at..]),
                    scale,
                    vectors.load(&added[at..]),
                );
                vectors.store(x, &mut panel[at..]);
                *max = vectors.max(*max, x);
            }
        }
        max
    }
}

/// Makes exponentials of a row of scores plus `below`; returns their sums by lane.
#[inline(always)]
fn exponentials<V: Vectors, const P: usize>(
    vectors: V,
    below: f32,
    scores: &mut [f32],
) -> [V::Vector; P] {
    let (panels, _) = scores.as_chunks_mut::<PANEL>();
    let below = vectors.splat(below);
    let mut sums = [vectors.splat(0.0); P];
    for panel in panels {
        for (p, sum) in sums.iter_mut().enumerate() {
            let at = p * V::LANES;
            let x = vectors.exp_negative(vectors.add(vectors.load(&panel[at..]), below));
            vectors.store(x, &mut panel[at..]);
            *sum = vectors.add(*sum, x);
        }
    }
    sums
}

/// One number of a panel of them: each half of it is joined with the other, as vectors while there are several.
#[inline(always)]
fn joined<V: Vectors, const P: usize>(
    vectors: V,
    x: &[V::Vector; P],
    join_vectors: impl Fn(V::Vector, V::Vector) -> V::Vector,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut x = *x;
    let mut count = P / 2;
    while count > 0 {
        for i in 0..count {
            x[i] = join_vectors(x[i], x[i + count]);
        }
        count /= 2;
    }
    let mut parts = [0.0; PANEL];
    vectors.store(x[0], &mut parts);
    let mut width = V::LANES / 2;
    while width > 0 {
        for i in 0..width {
            parts[i] = join(parts[i], parts[i + width]);
        }
        width /= 2;
    }
    parts[0]
}

/// `c = a · panel`: rows of `a` as long as the panel is deep, rows of `c` at a stride.
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "the compiler loses sight of the lengths of eight rows"
)]
fn multiply<V: Vectors, const R: usize, const N: usize>(
    vectors: V,
    a: &[&[f32]; ROWS],
    panel: &[f32],
    c: &mut [f32],
    stride: usize,
) {
    let (panel, _) = panel.as_chunks::<PANEL>();
    for first_row in (0..ROWS).step_by(R) {
        let a: [&[f32]; R] = core::array::from_fn(|r| &a[first_row + r][..panel.len()]);
        for first in (0..PANEL).step_by(N * V::LANES) {
            let mut sums = [[vectors.splat(0.0); N]; R];
            for (k, b) in panel.iter().enumerate() {
                let mut columns = [vectors.splat(0.0); N];
                for n in 0..N {
                    columns[n] = vectors.load(&b[first + n * V::LANES..]);
                }
                for r in 0..R {
                    // SAFETY: each row of `a` has been cut to as many elements as the panel has rows.
                    let a = vectors.splat(*unsafe { a[r].get_unchecked(k) });
                    for n in 0..N {
                        sums[r][n] = vectors.mul_add(a, columns[n], sums[r][n]);
                    }
                }
            }
            for r in 0..R {
                for n in 0..N {
                    vectors.store(
                        sums[r][n],
                        &mut c[(first_row + r) * stride + first + n * V::LANES..],
                    );
                }
            }
        }
    }
}

/// Packs `rows` rows as columns: panels of `depth` × 32.
#[inline(always)]
fn pack_columns(x: &[f32], stride: usize, depth: usize, rows: usize, to: &mut [f32]) {
    for (i, panel) in to.chunks_exact_mut(PANEL * depth).enumerate() {
        let (panel, _) = panel.as_chunks_mut::<PANEL>();
        for j in (0..PANEL).step_by(4) {
            let row = i * PANEL + j;
            // Rows that there are not are empty.
            let rows: [&[f32]; 4] = core::array::from_fn(|r| match row + r < rows {
                true => &x[(row + r) * stride..][..depth],
                false => &[],
            });
            pack_four(rows, j, panel);
        }
    }
}

/// Four rows as columns from `j` on; empty ones are zeros.
#[inline(always)]
fn pack_four(rows: [&[f32]; 4], j: usize, panel: &mut [[f32; PANEL]]) {
    let (fours, rest) = panel.as_chunks_mut::<4>();
    let four = |row: &[f32], at: usize| match row.get(at..) {
        Some(row) => row.first_chunk::<4>().copied().unwrap_or_default(),
        None => [0.0; 4],
    };
    for (at, to) in fours.iter_mut().enumerate() {
        let rows = rows.map(|row| four(row, 4 * at));
        for (k, to) in to.iter_mut().enumerate() {
            to[j..j + 4].copy_from_slice(&rows.map(|row| row[k]));
        }
    }
    let at = 4 * fours.len();
    for (k, to) in rest.iter_mut().enumerate() {
        let column = rows.map(|row| row.get(at + k).copied().unwrap_or(0.0));
        to[j..j + 4].copy_from_slice(&column);
    }
}

/// Packs `rows` rows as they are: panels of `rows` × 32.
#[inline(always)]
fn pack_rows(x: &[f32], stride: usize, width: usize, rows: usize, to: &mut [f32]) {
    for (i, panel) in to.chunks_exact_mut(PANEL * rows).enumerate() {
        let columns = PANEL.min(width - i * PANEL);
        let (panel, _) = panel.as_chunks_mut::<PANEL>();
        for (row, to) in panel.iter_mut().enumerate() {
            let x = &x[row * stride + i * PANEL..][..columns];
            match x.first_chunk::<PANEL>() {
                Some(x) => *to = *x,
                None => {
                    to[..columns].copy_from_slice(x);
                    to[columns..].fill(0.0);
                }
            }
        }
    }
}

fn run(cpu: Cpu, x: &Attention<'_>, rows: Range<usize>, y: &mut [f32], scratch: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        use crate::fused::{Avx2, Avx512};

        #[target_feature(enable = "avx2,fma,bmi1,bmi2")]
        fn avx2(
            v: Avx2,
            x: &Attention<'_>,
            rows: Range<usize>,
            y: &mut [f32],
            scratch: &mut [f32],
        ) {
            x.with::<_, 4, 2, 4>(v, rows, y, scratch);
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2")]
        fn avx512(
            v: Avx512,
            x: &Attention<'_>,
            rows: Range<usize>,
            y: &mut [f32],
            scratch: &mut [f32],
        ) {
            x.with::<_, 8, 2, 2>(v, rows, y, scratch);
        }
        if let Some(vectors) = Avx512::of(cpu) {
            #[expect(unsafe_code, reason = "a call of a tier")]
            // SAFETY: there are such vectors only where the processor has the tier.
            return unsafe { avx512(vectors, x, rows, y, scratch) };
        }
        if let Some(vectors) = Avx2::of(cpu) {
            #[expect(unsafe_code, reason = "a call of a tier")]
            // SAFETY: as above.
            return unsafe { avx2(vectors, x, rows, y, scratch) };
        }
    }
    #[cfg(target_arch = "aarch64")]
    if let Some(vectors) = crate::fused::Neon::of(cpu) {
        return x.with::<_, 4, 4, 8>(vectors, rows, y, scratch);
    }
    let _ = cpu;
    x.with::<_, 4, 1, 8>(Plain, rows, y, scratch);
}
