//! Moves of whole elements: resizing to the nearest pixel, and rows by their number.

use core::ops::Range;

/// Resizes a channels-last image (`dims`: height, width, channels) by copies of pixels: pixel `(r, s)` of the result is
/// pixel `(rows[r], columns[s])`. Computes `part` of the rows, which is `y`.
///
/// A plane of a channels-first image is an image of one channel.
///
/// # Panics
/// Sizes that do not fit together, or a row or column that is not there.
pub fn resize_nearest<T: Copy>(
    x: &[T],
    dims: [usize; 3],
    rows: &[u32],
    columns: &[u32],
    part: Range<usize>,
    y: &mut [T],
) {
    let [height, width, channels] = dims;
    assert_eq!(x.len(), height * width * channels, "an image of {dims:?}");
    assert!(
        columns.iter().all(|&c| (c as usize) < width),
        "columns of an image"
    );
    let rows = &rows[part];
    assert!(
        rows.iter().all(|&r| (r as usize) < height),
        "rows of an image"
    );
    let size = columns.len() * channels;
    assert_eq!(y.len(), rows.len() * size, "the result");
    if size == 0 {
        return;
    }
    let mut done: Option<(u32, usize)> = None;
    for (i, &row) in rows.iter().enumerate() {
        match done {
            // The row above is the same.
            Some((last, at)) if last == row => y.copy_within(at..at + size, i * size),
            _ => {
                let x = &x[row as usize * width * channels..][..width * channels];
                let y = &mut y[i * size..][..size];
                match channels {
                    1 => pixels::<T, 1>(x, columns, y),
                    2 => pixels::<T, 2>(x, columns, y),
                    3 => pixels::<T, 3>(x, columns, y),
                    4 => pixels::<T, 4>(x, columns, y),
                    8 => pixels::<T, 8>(x, columns, y),
                    16 => pixels::<T, 16>(x, columns, y),
                    _ => {
                        for (y, &c) in y.chunks_exact_mut(channels).zip(columns) {
                            y.copy_from_slice(&x[c as usize * channels..][..channels]);
                        }
                    }
                }
            }
        }
        done = Some((row, i * size));
    }
}

fn pixels<T: Copy, const N: usize>(x: &[T], columns: &[u32], y: &mut [T]) {
    let (x, y) = (x.as_chunks::<N>().0, y.as_chunks_mut::<N>().0);
    for (y, &c) in y.iter_mut().zip(columns) {
        *y = x[c as usize];
    }
}

/// Copies rows of `width` elements by their numbers, of which negative ones count from the end.
///
/// # Errors
/// The first number that is none of a row.
///
/// # Panics
/// `y` has not a row for each number, or `x` no whole number of rows.
pub fn gather_rows<T: Copy, I: Copy + Into<i64>>(
    x: &[T],
    width: usize,
    numbers: &[I],
    y: &mut [T],
) -> Result<(), i64> {
    assert_eq!(y.len(), numbers.len() * width, "the result");
    if width == 0 {
        return Ok(());
    }
    assert!(x.len().is_multiple_of(width), "whole rows");
    let rows = x.len() / width;
    for (y, &number) in y.chunks_exact_mut(width).zip(numbers) {
        let number: i64 = number.into();
        let row = match number < 0 {
            true => number.saturating_add_unsigned(rows as u64),
            false => number,
        };
        let row = usize::try_from(row).ok().filter(|&row| row < rows);
        let row = row.ok_or(number)?;
        y.copy_from_slice(&x[row * width..][..width]);
    }
    Ok(())
}
