//! What a tier can do at best, measured: what the share in a profile is of.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use onnxq_kernels::{
    Cpu, Epilogue, Geometry, Left, Line, Output, Product, Requantize, Weights, bytes_mut, pack,
    packed_len, scratch_lines,
};

/// Rows and columns that a tile of every tier likes, and bytes of a row: so deep that what happens around a product does
/// not count, while rows stay in a first-level cache (32 KiB) and weights in a second-level one (256 KiB).
const ROWS: usize = 32;
const COLUMNS: usize = 256;
const DEPTH: usize = 1024;

/// Products in one measurement, of which the fastest counts.
const PRODUCTS: usize = 4;

/// For how long measurements go on.
const TIME: Duration = Duration::from_millis(8);

/// Multiplications and additions in a second, counted apart, that the tier reaches on so many
/// threads at once: in products of bytes (`u8` by `i8`, 32 rows by 256 columns, 1024 deep) that
/// stay in the caches of a core.
pub fn peak_operations(cpu: Cpu, threads: usize) -> f64 {
    let ready = AtomicBool::new(false);
    let other = || {
        while !ready.load(Ordering::Acquire) {
            thread::yield_now();
        }
        on_one_thread(cpu)
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            // Where there are no more threads to be had, there are none to be measured.
            .map_while(|_| thread::Builder::new().spawn_scoped(scope, other).ok())
            .collect();
        ready.store(true, Ordering::Release);
        let own = on_one_thread(cpu);
        let others = others.into_iter().filter_map(|thread| thread.join().ok());
        own + others.sum::<f64>()
    })
}

fn on_one_thread(cpu: Cpu) -> f64 {
    let mut state = 1u32;
    let mut bytes = |len: usize| -> Vec<u8> {
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..len).map(next).collect()
    };
    // Rows in lines of their own: others take two loads each.
    let mut left = vec![Line::ZERO; Line::count(ROWS * DEPTH)];
    bytes_mut(&mut left).copy_from_slice(&bytes(ROWS * DEPTH));
    let right = bytes(DEPTH * COLUMNS);
    let weights = Weights::matrix(&right, true, DEPTH, COLUMNS);
    let mut packed = vec![Line::ZERO; Line::count(packed_len(COLUMNS, 1, DEPTH))];
    let right = pack(cpu, &weights, bytes_mut(&mut packed), &mut [0; COLUMNS]);
    let product = Product {
        left: Left {
            data: onnxq_kernels::bytes(&left),
            signed: false,
            geometry: Geometry::matrix(ROWS, DEPTH, DEPTH),
        },
        right,
        strides: [0, COLUMNS],
        epilogue: Epilogue {
            offset: &[0; COLUMNS],
            zero: &[],
        },
    };
    let mut scratch = vec![Line::ZERO; scratch_lines(&right)];
    let mut result = vec![Line::ZERO; Line::count(ROWS * COLUMNS)];
    let begin = Instant::now();
    let mut fastest = f64::INFINITY;
    while begin.elapsed() < TIME {
        let start = Instant::now();
        for _ in 0..PRODUCTS {
            let to = Requantize {
                scale: &[1e-4; COLUMNS],
                zero: 0,
                bounds: [0, 255],
                residual: None,
            };
            product.run(cpu, Output::Bytes(bytes_mut(&mut result), to), &mut scratch);
        }
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    (2 * PRODUCTS * ROWS * COLUMNS * DEPTH) as f64 / fastest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tier_has_a_peak() {
        for cpu in Cpu::available() {
            let peak = peak_operations(cpu, 2);
            assert!(peak.is_finite() && peak > 0.0, "{}: {peak}", cpu.isa());
        }
    }
}
