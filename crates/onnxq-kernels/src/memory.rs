//! Scratch memory.

/// 64 aligned bytes: a line of the cache, a register of AVX-512, a row of a tile.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Line(pub [u8; 64]);

impl Line {
    /// A line of zeros.
    pub const ZERO: Line = Line([0; 64]);

    /// Lines for as many bytes.
    pub const fn count(bytes: usize) -> usize {
        bytes.div_ceil(64)
    }
}

/// The lines as numbers of 32 bits.
#[expect(unsafe_code, reason = "plain memory seen as another plain type")]
pub(crate) fn integers(lines: &mut [Line]) -> &mut [i32] {
    // SAFETY: a line is 16 integers, better aligned; every bit pattern is valid in both.
    unsafe { core::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * 16) }
}

/// The lines as floats.
#[expect(unsafe_code, reason = "plain memory seen as another plain type")]
pub(crate) fn floats(lines: &mut [Line]) -> &mut [f32] {
    // SAFETY: a line is 16 floats, better aligned; every bit pattern is valid in both.
    unsafe { core::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * 16) }
}

/// Bytes as floats, as many as are whole.
///
/// # Panics
/// They are not aligned.
#[expect(unsafe_code, reason = "plain memory seen as another plain type")]
pub(crate) fn floats_of(bytes: &[u8]) -> &[f32] {
    // SAFETY: every bit pattern is a float.
    let (before, floats, _) = unsafe { bytes.align_to() };
    assert!(before.is_empty(), "aligned memory");
    floats
}

/// Bytes as floats, as many as are whole.
///
/// # Panics
/// They are not aligned.
#[expect(unsafe_code, reason = "plain memory seen as another plain type")]
pub(crate) fn floats_of_mut(bytes: &mut [u8]) -> &mut [f32] {
    // SAFETY: every bit pattern is a float.
    let (before, floats, _) = unsafe { bytes.align_to_mut() };
    assert!(before.is_empty(), "aligned memory");
    floats
}

/// The lines as bytes.
#[expect(unsafe_code, reason = "plain memory seen as another plain type")]
pub fn bytes_mut(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: a line is 64 bytes without padding; every bit pattern is valid in both.
    unsafe { core::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * 64) }
}

/// The lines as bytes.
#[expect(unsafe_code, reason = "plain memory seen as another plain type")]
pub fn bytes(lines: &[Line]) -> &[u8] {
    // SAFETY: as in `bytes_mut`.
    unsafe { core::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * 64) }
}

/// Bytes as lines, as many as are whole.
///
/// # Panics
/// They are not aligned.
#[expect(unsafe_code, reason = "plain memory seen as another plain type")]
pub fn lines_mut(bytes: &mut [u8]) -> &mut [Line] {
    // SAFETY: every bit pattern is a line.
    let (before, lines, _) = unsafe { bytes.align_to_mut() };
    assert!(before.is_empty(), "aligned memory");
    lines
}
