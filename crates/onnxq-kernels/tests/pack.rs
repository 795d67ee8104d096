//! Weights packed from rows, from columns and from elements in any order are the same.

use onnxq_kernels::{Cpu, Weights, pack, packed_len};
use proptest::prelude::*;

fn packed(cpu: Cpu, weights: &Weights<'_>) -> (Vec<u8>, Vec<i32>) {
    let len = packed_len(weights.columns, weights.segments, weights.segment_depth());
    let (mut data, mut sums) = (vec![1; len], vec![1; weights.columns]);
    pack(cpu, weights, &mut data, &mut sums);
    (data, sums)
}

proptest! {
    #[test]
    fn orders_of_weights(
        columns in 1..40usize, segments in 1..3usize, depth in 1..150usize, signed in any::<bool>(), seed in any::<u8>(),
    ) {
        let count = columns * segments * depth;
        let rows: Vec<u8> = (0..count).map(|i| (i * 167 + i / 251) as u8 ^ seed).collect();
        // Segment, depth, column; and column, segment, depth.
        let mut by_column = vec![0; count];
        for (i, &w) in rows.iter().enumerate() {
            by_column[i % columns * segments * depth + i / columns] = w;
        }
        let of = |data, depth, strides| Weights { data, signed, columns, segments, depth, strides };
        let any = packed(Cpu::PORTABLE, &of(&rows, [depth, 1], [1, depth * columns, columns, 1]));
        for cpu in Cpu::available() {
            let from_rows = packed(cpu, &of(&rows, [1, depth], [1, depth * columns, 0, columns]));
            let from_columns = packed(cpu, &of(&by_column, [1, depth], [segments * depth, depth, 0, 1]));
            prop_assert!(any == from_rows);
            prop_assert!(any == from_columns);
            // As the positions of a window and their channels.
            for positions in (1..=depth).filter(|&n| depth % n == 0) {
                let each = depth / positions;
                let strides = [1, depth * columns, each * columns, columns];
                prop_assert!(any == packed(cpu, &of(&rows, [positions, each], strides)));
            }
        }
        let flip = if signed { 0 } else { 0x80 };
        let sum = |c: usize| rows.iter().skip(c).step_by(columns).map(|w| i32::from((w ^ flip) as i8)).sum::<i32>();
        prop_assert_eq!(any.1, (0..columns).map(sum).collect::<Vec<_>>());
    }
}
