//! Sums to bytes by AVX-512, four blocks of 16 columns at a time, a line of the cache, or two blocks of two rows.
//!
//! Equal to `quantized(f32(sum) · scale, zero, bounds)` of the [epilogue](crate::epilogue): instead of floats,
//! packed integers are clamped, sixteen times fewer. Conversion and packing saturate, which
//! changes nothing, as the bounds are within a byte; only of what is too large for 32 bits, the conversion
//! makes the smallest number, so that such values are clamped before it. Where every
//! scale is below 1 there are none.
//!
//! Another tensor is added on the way, where [`SumSteps`](crate::SumSteps) say how.

mod adding;

use core::arch::x86_64::{
    __m512, __m512i, _CMP_NLT_UQ, _MM_HINT_T0, _mm_prefetch, _mm256_mask_storeu_epi8,
    _mm512_abs_ps, _mm512_add_epi32, _mm512_adds_epi16, _mm512_castsi512_si256, _mm512_cmp_ps_mask,
    _mm512_cvtepi32_ps, _mm512_cvtps_epi32, _mm512_extracti64x4_epi64, _mm512_mask_storeu_epi8,
    _mm512_maskz_loadu_ps, _mm512_max_epi8, _mm512_max_epu8, _mm512_min_epi8, _mm512_min_epu8,
    _mm512_min_ps, _mm512_mul_ps, _mm512_packs_epi16, _mm512_packs_epi32, _mm512_packus_epi16,
    _mm512_permutexvar_epi32, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setr_epi32, _mm512_setzero_ps, _mm512_sub_epi32,
};

pub(crate) use self::adding::Adding;
use crate::{
    dequantize::Floats,
    epilogue::{Epilogue, Output},
    pack::COLUMNS,
};

/// What is the same for all columns.
#[derive(Clone, Copy)]
struct Bytes {
    signed: bool,
    form: u8,
    zero: __m512i,
    low: __m512i,
    high: __m512i,
    limit: __m512,
    order: __m512i,
}

impl Bytes {
    /// Nothing if the bounds are not those of one type of bytes.
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(zero: i32, bounds: [i32; 2]) -> Option<Bytes> {
        let [low, high] = bounds;
        let signed = low < 0;
        let range = if signed { -128..=127 } else { 0..=255 };
        let fits = low <= high && range.contains(&low) && range.contains(&high);
        (fits && (-128..=255).contains(&zero)).then(|| Bytes {
            signed,
            form: match bounds {
                [0, 255] => U8,
                [-128, 127] => I8,
                _ => ANY,
            },
            zero: _mm512_set1_epi16(zero as i16),
            low: _mm512_set1_epi8(low as i8),
            high: _mm512_set1_epi8(high as i8),
            limit: _mm512_set1_ps((high - zero) as f32),
            order: _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
        })
    }

    /// The bytes of one row of four blocks, from sums that need no correction. `large` is for scales that are not all
    /// below 1.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn row<const FORM: u8>(&self, sums: [__m512i; 4], scale: &[__m512; 4], large: bool) -> __m512i {
        let mut x = [self.limit; 4];
        for (x, (sum, scale)) in x.iter_mut().zip(sums.into_iter().zip(scale)) {
            *x = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), *scale);
        }
        if large {
            // In this order a NaN stays one, of which the conversion makes the smallest number.
            x = x.map(|x| _mm512_min_ps(self.limit, x));
        }
        self.pack::<FORM>(x.map(|x| _mm512_cvtps_epi32(x)))
    }

    /// The bytes of one row of four blocks, but for their zero point and bounds.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn pack<const FORM: u8>(&self, codes: [__m512i; 4]) -> __m512i {
        let words = |a, b| _mm512_adds_epi16(_mm512_packs_epi32(a, b), self.zero);
        let (a, b) = (words(codes[0], codes[1]), words(codes[2], codes[3]));
        let bytes = match FORM & !(ADDED | CORRECTED | PAIRED) {
            U8 => _mm512_packus_epi16(a, b),
            I8 => _mm512_packs_epi16(a, b),
            _ if self.signed => {
                let bytes = _mm512_packs_epi16(a, b);
                _mm512_min_epi8(_mm512_max_epi8(bytes, self.low), self.high)
            }
            _ => {
                let bytes = _mm512_packus_epi16(a, b);
                _mm512_min_epu8(_mm512_max_epu8(bytes, self.low), self.high)
            }
        };
        // Each 16 bytes hold 4 columns of every block.
        _mm512_permutexvar_epi32(self.order, bytes)
    }
}

/// Forms of [`Quick::row`]: bytes of the whole range of their type, and any bytes; and the same with others added. Any
/// bytes, too, where zero points of the weights take something from each row; and any bytes of two rows at once, where
/// there are no more than two blocks.
pub(crate) const U8: u8 = 0;
pub(crate) const I8: u8 = 1;
pub(crate) const ANY: u8 = 2;
pub(crate) const ADDED: u8 = 4;
pub(crate) const CORRECTED: u8 = 8;
pub(crate) const PAIRED: u8 = 16;
/// No bytes, but floats.
pub(crate) const FLOATS: u8 = 32;

/// Where the sums of four blocks are: the first row of the first one, and how much further those of the next one begin. Of
/// blocks that there are not, any numbers will do.
#[derive(Clone, Copy)]
pub(crate) struct Four {
    pub(crate) from: *const i32,
    pub(crate) stride: usize,
}

impl Four {
    /// The same of a later row.
    #[inline(always)]
    fn row(self, row: usize) -> Four {
        let from = self.from.wrapping_add(row * COLUMNS);
        Four { from, ..self }
    }

    /// # Safety
    /// The sums of the block can be read.
    #[inline]
    #[target_feature(enable = "avx512f")]
    #[expect(unsafe_code, reason = "a load from anywhere")]
    unsafe fn load(self, block: usize) -> __m512i {
        let from = self.from.wrapping_add(block * self.stride);
        // SAFETY: the caller's guarantee.
        unsafe { from.cast::<__m512i>().read_unaligned() }
    }
}

/// Sums that start from the offset of their column become bytes, or floats.
#[derive(Clone, Copy)]
pub(crate) struct Quick<'a> {
    bytes: Bytes,
    y: *mut u8,
    scales: &'a [f32],
    /// The offsets of each block.
    start: &'a [i32],
    /// The zero point of the weights of all columns.
    zero: i32,
    /// Of the four blocks at work: where their columns begin, which there are, their scales, and whether one of
    /// these is not below 1.
    to: *mut u8,
    columns: u64,
    scale: [__m512; 4],
    large: bool,
    adding: Option<&'a Adding>,
    floats: Option<Floats<'a>>,
    /// Of the four blocks at work: where the others for their columns begin, and how far on those are that come next.
    from: *const u8,
    ahead: usize,
}

impl<'a> Quick<'a> {
    /// `start` is memory for the offsets, aligned and of whole blocks. Nothing where the output is
    /// another, or where columns have different zero points. A residual may be left to the caller, see
    /// [`adds`](Quick::adds).
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(crate) fn new<'o: 'a>(
        epilogue: &Epilogue<'_>,
        output: &mut Output<'o>,
        start: &'a mut [i32],
        adding: Option<&'a Adding>,
    ) -> Option<Quick<'a>> {
        let zero = epilogue.zero.first().copied().unwrap_or(0);
        let same = epilogue.zero.iter().all(|&other| other == zero);
        let (y, scales, bytes, floats) = match output {
            Output::Bytes(y, to) if same && (zero == 0 || to.residual.is_none()) => {
                let bytes = Bytes::new(to.zero, to.bounds)?;
                (y.as_mut_ptr(), to.scale, bytes, None)
            }
            Output::Floats {
                y,
                scale,
                bias,
                activation,
            } if same && zero == 0 => {
                let floats = Floats::new(y, bias, *activation);
                let bytes = Bytes::new(0, [0, 255])?;
                (y.as_mut_ptr().cast(), *scale, bytes, Some(floats))
            }
            _ => return None,
        };
        let (offset, rest) = start.split_at_mut(epilogue.offset.len());
        offset.copy_from_slice(epilogue.offset);
        rest.fill(0);
        Some(Quick {
            bytes,
            y,
            scales,
            start,
            zero,
            to: y,
            columns: 0,
            scale: [_mm512_setzero_ps(); 4],
            large: false,
            adding,
            floats,
            from: y,
            ahead: 0,
        })
    }

    /// The same for an output that others have written to since.
    pub(crate) fn renew(&mut self, output: &mut Output<'_>) {
        if let Output::Bytes(y, _) = output {
            (self.y, self.to) = (y.as_mut_ptr(), y.as_mut_ptr());
        }
    }

    /// Whether the residual is added on the way.
    pub(crate) fn adds(&self) -> bool {
        self.adding.is_some()
    }

    /// What the sums of a block start from.
    #[inline]
    pub(crate) fn start(&self, at: usize) -> *const i32 {
        self.start.as_ptr().wrapping_add(at * COLUMNS)
    }

    /// Begins with four blocks, or fewer at the end; `paired` is for [`PAIRED`] rows. `ahead` bytes after those of a residual
    /// are the ones that it wants next.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    #[expect(unsafe_code, reason = "a load of part of a register")]
    pub(crate) fn begin(&mut self, at: usize, blocks: usize, ahead: usize, paired: bool) {
        let first = at * COLUMNS;
        let scales = &self.scales[first..];
        let scales = &scales[..scales.len().min(blocks * COLUMNS)];
        self.to = self.y.wrapping_add(first);
        if let Some(adding) = self.adding {
            self.from = adding.other.wrapping_add(first);
            self.ahead = ahead;
        }
        self.columns = u64::MAX >> (4 * COLUMNS - scales.len());
        if let Some(floats) = &mut self.floats {
            floats.begin(first, self.columns);
        }
        self.large = false;
        for (i, scale) in self.scale.iter_mut().enumerate() {
            let i = if paired { i % 2 } else { i };
            let mask = (self.columns >> (i * COLUMNS)) as u16;
            let from = scales.as_ptr().wrapping_add(i * COLUMNS);
            // SAFETY: `columns` has a bit for each scale, and no others are read.
            *scale = unsafe { _mm512_maskz_loadu_ps(mask, from) };
            let one = _mm512_set1_ps(1.0);
            self.large |= _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(_mm512_abs_ps(*scale), one) != 0;
        }
    }

    /// What bytes there are to be.
    #[inline]
    pub(crate) fn form(&self) -> u8 {
        match self.adding {
            Some(adding) => ADDED | adding.to.form,
            None if self.floats.is_some() => FLOATS,
            None if self.zero != 0 => CORRECTED | ANY,
            None => self.bytes.form,
        }
    }

    /// One row of the four blocks becomes bytes from `row` of the output on, if that is anywhere. `offsets` are for sums
    /// that began without them, `row_sum` is the sum of the row of the left operand, `FORM` is [`form`](Quick::form), or
    /// [`ANY`] of such.
    ///
    /// # Safety
    /// The sums of all four blocks can be read, and the columns that there are, written; those of a residual can be read.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    #[expect(unsafe_code, reason = "reads sums and writes at strides")]
    pub(crate) unsafe fn row<const FORM: u8>(
        &self,
        sums: Four,
        offsets: Option<&[__m512i; 4]>,
        row: usize,
        row_sum: i32,
    ) {
        if row == usize::MAX {
            return;
        }
        // SAFETY: the caller's guarantee.
        let mut sums = [0, 1, 2, 3].map(|block| unsafe { sums.load(block) });
        if let Some(offsets) = offsets {
            for (sum, offset) in sums.iter_mut().zip(offsets) {
                *sum = _mm512_add_epi32(*sum, *offset);
            }
        }
        if FORM & CORRECTED != 0 {
            let less = _mm512_set1_epi32(row_sum.wrapping_mul(self.zero));
            sums = sums.map(|sum| _mm512_sub_epi32(sum, less));
        }
        if let (FLOATS, Some(floats)) = (FORM, &self.floats) {
            // SAFETY: the caller's guarantee.
            return unsafe { floats.row(sums, &self.scale, row, self.columns) };
        }
        let bytes = match self.adding {
            Some(adding) if FORM & ADDED != 0 => {
                let from = self.from.wrapping_add(row & adding.rows);
                _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(self.ahead).cast());
                // SAFETY: the caller's guarantee.
                unsafe { adding.row::<FORM>(sums, &self.scale, from, self.columns) }
            }
            _ => match self.large {
                false => self.bytes.row::<FORM>(sums, &self.scale, false),
                true => self.bytes.row::<FORM>(sums, &self.scale, true),
            },
        };
        let to = self.to.wrapping_add(row);
        match self.columns {
            // SAFETY: the caller's guarantee, for all 64 columns.
            u64::MAX => unsafe { to.cast::<__m512i>().write_unaligned(bytes) },
            // SAFETY: the same for those that there are.
            columns => unsafe { _mm512_mask_storeu_epi8(to.cast(), columns, bytes) },
        }
    }

    /// The same for two rows of two blocks at most, [`PAIRED`].
    ///
    /// # Safety
    /// See [`row`](Quick::row); those that are asked for are the first two, and the row after each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    #[expect(unsafe_code, reason = "reads sums and writes at strides")]
    pub(crate) unsafe fn pair<const FORM: u8>(
        &self,
        sums: Four,
        offsets: Option<&[__m512i; 4]>,
        rows: [usize; 2],
    ) {
        let places = [(sums, 0), (sums, 1), (sums.row(1), 0), (sums.row(1), 1)];
        // SAFETY: the caller's guarantee.
        let mut sums = places.map(|(sums, block)| unsafe { sums.load(block) });
        if let Some(offsets) = offsets {
            for (sum, offset) in sums.iter_mut().zip(offsets) {
                *sum = _mm512_add_epi32(*sum, *offset);
            }
        }
        let bytes = match self.large {
            false => self.bytes.row::<FORM>(sums, &self.scale, false),
            true => self.bytes.row::<FORM>(sums, &self.scale, true),
        };
        let halves = [
            _mm512_castsi512_si256(bytes),
            _mm512_extracti64x4_epi64::<1>(bytes),
        ];
        for (half, row) in halves.into_iter().zip(rows) {
            if row != usize::MAX {
                let to = self.to.wrapping_add(row).cast();
                // SAFETY: the caller's guarantee.
                unsafe { _mm256_mask_storeu_epi8(to, self.columns as u32, half) }
            }
        }
    }

    /// All of these rows, whose sums follow each other; see [`row`](Quick::row).
    ///
    /// # Safety
    /// See [`row`](Quick::row).
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    #[expect(unsafe_code, reason = "reads sums and writes at strides")]
    unsafe fn all<const FORM: u8>(
        &self,
        sums: Four,
        offsets: &[__m512i; 4],
        rows: &[usize],
        row_sums: &[i32],
    ) {
        let mut at = 0;
        while at < rows.len() {
            let sums = sums.row(at);
            if FORM & PAIRED != 0 && at + 2 <= rows.len() {
                // SAFETY: the caller's guarantee.
                unsafe { self.pair::<FORM>(sums, Some(offsets), [rows[at], rows[at + 1]]) }
                at += 2;
            } else {
                // SAFETY: as above.
                unsafe { self.row::<FORM>(sums, Some(offsets), rows[at], row_sums[at]) }
                at += 1;
            }
        }
    }

    /// All rows of so many blocks from `at` on, whose sums began without their offsets.
    ///
    /// # Safety
    /// See [`row`](Quick::row).
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    #[expect(unsafe_code, reason = "reads sums and writes at strides")]
    pub(crate) unsafe fn rows(
        &mut self,
        at: usize,
        blocks: usize,
        sums: Four,
        rows: &[usize],
        row_sums: &[i32],
    ) {
        let paired = blocks <= 2 && self.form() <= ANY;
        self.begin(at, blocks, blocks * COLUMNS, paired);
        let offsets = [0, 1, 2, 3].map(|i| {
            let i = if paired { i % 2 } else { i };
            let start = self.start(at + i.min(blocks - 1));
            // SAFETY: these are 16 numbers.
            unsafe { start.cast::<__m512i>().read_unaligned() }
        });
        match self.form() {
            // SAFETY: the caller's guarantee.
            _ if paired => unsafe { self.all::<{ PAIRED | ANY }>(sums, &offsets, rows, row_sums) },
            // SAFETY: as above.
            U8 => unsafe { self.all::<U8>(sums, &offsets, rows, row_sums) },
            // SAFETY: as above.
            I8 => unsafe { self.all::<I8>(sums, &offsets, rows, row_sums) },
            // SAFETY: as above.
            ANY => unsafe { self.all::<ANY>(sums, &offsets, rows, row_sums) },
            // SAFETY: as above.
            FLOATS => unsafe { self.all::<FLOATS>(sums, &offsets, rows, row_sums) },
            // SAFETY: as above.
            form if form & CORRECTED != 0 => unsafe {
                self.all::<{ CORRECTED | ANY }>(sums, &offsets, rows, row_sums)
            },
            // SAFETY: as above.
            _ => unsafe { self.all::<{ ADDED | ANY }>(sums, &offsets, rows, row_sums) },
        }
    }
}
