//! Bytes by tables of 256 entries: every function of one byte.

use crate::{Cpu, tiers::tiers};

/// `y[i] = table[x[i]]`.
///
/// # Panics
/// `y` is not as long as `x`.
pub fn lookup(cpu: Cpu, x: &[u8], table: &[u8; 256], y: &mut [u8]) {
    assert_eq!(x.len(), y.len(), "the result");
    #[cfg(target_arch = "x86_64")]
    if matches!(cpu.isa(), crate::Isa::Avx512Vnni | crate::Isa::Amx) {
        let ((x, x_rest), (y, y_rest)) = (x.as_chunks(), y.as_chunks_mut());
        // SAFETY: the processor has this tier.
        #[expect(unsafe_code, reason = "a call of a tier that `Cpu` proves")]
        unsafe {
            permute(x, table, y);
        }
        plain(cpu, x_rest, table, y_rest);
        return;
    }
    plain(cpu, x, table, y);
}

/// `x[i] = table[x[i]]`.
pub fn lookup_in_place(cpu: Cpu, x: &mut [u8], table: &[u8; 256]) {
    const PART: usize = 1024;
    let mut part = [0; PART];
    for x in x.chunks_mut(PART) {
        let part = &mut part[..x.len()];
        part.copy_from_slice(x);
        lookup(cpu, part, table, x);
    }
}

/// `y[i] = table[x[i]]`.
///
/// # Panics
/// `y` is not as long as `x`.
pub fn lookup_floats(cpu: Cpu, x: &[u8], table: &[f32; 256], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "the result");
    floats(cpu, x, table, y);
}

tiers! {
    fn plain(x: &[u8], table: &[u8; 256], y: &mut [u8]) {
        for (x, y) in x.iter().zip(y) {
            *y = table[usize::from(*x)];
        }
    }

    fn floats(x: &[u8], table: &[f32; 256], y: &mut [f32]) {
        for (x, y) in x.iter().zip(y) {
            *y = table[usize::from(*x)];
        }
    }
}

/// The table is four registers; a permutation of bytes looks up in two of them.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn permute(x: &[[u8; 64]], table: &[u8; 256], y: &mut [[u8; 64]]) {
    use core::arch::x86_64::*;

    let load = |bytes: &[u8; 64]| {
        // SAFETY: these are 64 bytes.
        #[expect(unsafe_code, reason = "a load")]
        unsafe {
            _mm512_loadu_si512(bytes.as_ptr().cast())
        }
    };
    let tables = table.as_chunks().0;
    let [a, b] = [load(&tables[0]), load(&tables[1])];
    let [c, d] = [load(&tables[2]), load(&tables[3])];
    for (x, y) in x.iter().zip(y) {
        let x = load(x);
        let low = _mm512_permutex2var_epi8(a, x, b);
        let high = _mm512_permutex2var_epi8(c, x, d);
        let bytes = _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high);
        // SAFETY: these are 64 bytes.
        #[expect(unsafe_code, reason = "a store")]
        unsafe {
            _mm512_storeu_si512(y.as_mut_ptr().cast(), bytes);
        }
    }
}
