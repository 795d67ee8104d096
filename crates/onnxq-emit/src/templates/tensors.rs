//! Memory as the types of what lies in it.

use core::ops::Range;

use crate::kernels::{Cpu, Line};

#[cfg(target_endian = "big")]
compile_error!("weights are stored as little-endian numbers");

/// Numbers of which every pattern of bits is one.
///
/// # Safety
/// Every pattern of bits is a value, and there is no padding.
#[expect(unsafe_code, reason = "a promise about plain numbers")]
pub(crate) unsafe trait Element: Copy {}

macro_rules! elements {
    ($($ty:ty)*) => {$(
        // SAFETY: plain numbers.
        #[expect(unsafe_code, reason = "a promise about plain numbers")]
        unsafe impl Element for $ty {}
    )*};
}

elements!(u8 i8 u16 u32 i32 u64 i64 f32 f64);

/// The same memory as elements of another type, as many as are whole.
///
/// # Panics
/// It is not aligned for them.
#[expect(unsafe_code, reason = "plain memory seen as another plain type")]
pub(crate) fn cast<T: Element, U: Element>(x: &[T]) -> &[U] {
    // SAFETY: every pattern of bits is a value of these types.
    let (before, middle, _) = unsafe { x.align_to::<U>() };
    assert!(before.is_empty(), "aligned memory");
    middle
}

/// The lines as elements.
#[expect(unsafe_code, reason = "plain memory seen as another plain type")]
pub(crate) fn elements<T: Element>(lines: &[Line]) -> &[T] {
    // SAFETY: a line is plain bytes, better aligned than any element.
    unsafe { lines.align_to::<T>().1 }
}

/// The lines as elements.
#[expect(unsafe_code, reason = "plain memory seen as another plain type")]
pub(crate) fn elements_mut<T: Element>(lines: &mut [Line]) -> &mut [T] {
    // SAFETY: a line is plain bytes, better aligned than any element.
    unsafe { lines.align_to_mut::<T>().1 }
}

/// The first elements of a line of the arena as an array.
pub(crate) fn array<T: Element, const N: usize>(lines: &[Line]) -> &[T; N] {
    elements(lines)
        .first_chunk()
        .expect("a buffer holds its tensor")
}

/// Buffers of the arena, which lie apart.
pub(crate) fn buffers<const N: usize>(
    arena: &mut [Line],
    at: [Range<usize>; N],
) -> [&mut [Line]; N] {
    arena
        .get_disjoint_mut(at)
        .expect("buffers that are in use at once lie apart")
}

/// What does not change: weights, and what is computed of them.
#[derive(Clone, Copy)]
pub(crate) struct Constants<'a>(pub(crate) &'a [Line]);

impl<'a> Constants<'a> {
    /// Elements that begin at a byte.
    pub(crate) fn elements<T: Element>(self, at: usize, len: usize) -> &'a [T] {
        &elements(&self.0[at / 64..])[..len]
    }

    /// Bytes.
    pub(crate) fn bytes(self, at: usize, len: usize) -> &'a [u8] {
        self.elements(at, len)
    }

    /// Floats.
    pub(crate) fn floats(self, at: usize, len: usize) -> &'a [f32] {
        self.elements(at, len)
    }

    /// Integers.
    pub(crate) fn integers(self, at: usize, len: usize) -> &'a [i32] {
        self.elements(at, len)
    }

    /// Numbers of elements.
    pub(crate) fn numbers(self, at: usize, len: usize) -> &'a [u32] {
        self.elements(at, len)
    }

    /// An entry for each byte.
    pub(crate) fn table(self, at: usize) -> &'a [u8; 256] {
        array(&self.0[at / 64..])
    }

    /// A float for each byte.
    pub(crate) fn float_table(self, at: usize) -> &'a [f32; 256] {
        array(&self.0[at / 64..])
    }
}

/// What steps run on.
pub(crate) struct Context<'a> {
    /// The tier of instructions.
    pub(crate) cpu: Cpu,
    pub(crate) constants: Constants<'a>,
    /// Activations.
    pub(crate) arena: &'a mut [Line],
    /// For each step to use.
    pub(crate) scratch: &'a mut [Line],
}

/// Bytes where lines may lie.
#[repr(C, align(64))]
pub(crate) struct Aligned<T: ?Sized>(pub(crate) T);

/// Bytes as lines, as many as are whole.
#[expect(unsafe_code, reason = "plain memory seen as another plain type")]
pub(crate) fn lines(bytes: &'static [u8]) -> &'static [Line] {
    // SAFETY: a line is plain bytes.
    let (before, lines, _) = unsafe { bytes.align_to::<Line>() };
    assert!(before.is_empty(), "aligned memory");
    lines
}
