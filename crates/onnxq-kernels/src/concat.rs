//! Concatenation: rows of several operands side by side.

use crate::{Cpu, lookup};

/// Rows that are shorter go through a buffer, many at a time, if a table changes their bytes.
const SHORT: usize = 256;

/// One operand of a concatenation.
#[derive(Clone, Copy, Debug)]
pub struct Joined<'a> {
    /// Its rows.
    pub x: &'a [u8],
    /// Bytes of a row.
    pub bytes: usize,
    /// What each byte becomes, if not itself.
    pub table: Option<&'a [u8; 256]>,
}

/// Rows of all operands side by side, as many as `y` has room for.
///
/// # Panics
/// `y` is no whole number of rows, or an operand has not as many.
pub fn concat(cpu: Cpu, operands: &[Joined<'_>], y: &mut [u8]) {
    let width: usize = operands.iter().map(|o| o.bytes).sum();
    if width == 0 {
        return assert!(y.is_empty(), "the result");
    }
    assert!(y.len().is_multiple_of(width), "whole rows");
    let rows = y.len() / width;
    let mut at = 0;
    for operand in operands {
        let x = &operand.x[..rows * operand.bytes];
        place(cpu, x, operand, y, width, at);
        at += operand.bytes;
    }
}

/// Copies rows to the columns of `y` from `at` on.
fn place(cpu: Cpu, x: &[u8], operand: &Joined<'_>, y: &mut [u8], width: usize, at: usize) {
    let bytes = operand.bytes;
    match operand.table {
        _ if bytes == 0 => {}
        None => copy(x, bytes, y, width, at),
        Some(table) if bytes < SHORT => {
            let mut part = [0; 4096];
            let rows = part.len() / bytes;
            let parts = x.chunks(rows * bytes).zip(y.chunks_mut(rows * width));
            for (x, y) in parts {
                let part = &mut part[..x.len()];
                lookup(cpu, x, table, part);
                copy(part, bytes, y, width, at);
            }
        }
        Some(table) => {
            for (x, y) in x.chunks_exact(bytes).zip(y.chunks_exact_mut(width)) {
                lookup(cpu, x, table, &mut y[at..at + bytes]);
            }
        }
    }
}

fn copy(x: &[u8], bytes: usize, y: &mut [u8], width: usize, at: usize) {
    match bytes {
        8 => fixed::<8>(x, y, width, at),
        16 => fixed::<16>(x, y, width, at),
        24 => fixed::<24>(x, y, width, at),
        32 => fixed::<32>(x, y, width, at),
        64 => fixed::<64>(x, y, width, at),
        _ => {
            for (x, y) in x.chunks_exact(bytes).zip(y.chunks_exact_mut(width)) {
                y[at..at + bytes].copy_from_slice(x);
            }
        }
    }
}

/// Copies of a size that the compiler knows.
fn fixed<const N: usize>(x: &[u8], y: &mut [u8], width: usize, at: usize) {
    for (x, y) in x.as_chunks::<N>().0.iter().zip(y.chunks_exact_mut(width)) {
        y[at..at + N].copy_from_slice(x);
    }
}
