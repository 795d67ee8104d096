//! Where each buffer lies in the arena.
//!
//! Buffers live from the step that writes them to the last one that reads them; what is free again
//! is used again, the tightest gap first.

use std::collections::BTreeMap;

/// How long a buffer is, in lines, and from which step to which it lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) lines: usize,
    pub(super) first: usize,
    pub(super) last: usize,
}

/// Offsets of the buffers, and the length of the arena, all in lines.
pub(super) fn place(lives: &[Life], steps: usize) -> (Vec<usize>, usize) {
    let mut starting: Vec<Vec<usize>> = vec![Vec::new(); steps + 1];
    let mut ending: Vec<Vec<usize>> = vec![Vec::new(); steps + 1];
    for (i, life) in lives.iter().enumerate() {
        starting[life.first.min(steps)].push(i);
        ending[life.last.min(steps)].push(i);
    }
    let mut gaps = Gaps::default();
    let mut offsets = vec![0; lives.len()];
    for step in 0..=steps {
        for &i in &starting[step] {
            offsets[i] = gaps.take(lives[i].lines);
        }
        for &i in &ending[step] {
            gaps.give(offsets[i], lives[i].lines);
        }
    }
    (offsets, gaps.end)
}

/// The free parts of the arena.
#[derive(Default)]
struct Gaps {
    /// Length by offset.
    by_offset: BTreeMap<usize, usize>,
    /// `(length, offset)`.
    by_length: BTreeMap<(usize, usize), ()>,
    end: usize,
}

impl Gaps {
    fn take(&mut self, lines: usize) -> usize {
        if lines == 0 {
            return 0;
        }
        let fitting = self.by_length.range((lines, 0)..).next();
        if let Some((&(length, offset), ())) = fitting {
            self.remove(offset, length);
            if length > lines {
                self.insert(offset + lines, length - lines);
            }
            return offset;
        }
        // A gap at the end grows.
        let offset = match self.by_offset.last_key_value() {
            Some((&offset, &length)) if offset + length == self.end => {
                self.remove(offset, length);
                offset
            }
            _ => self.end,
        };
        self.end = offset + lines;
        offset
    }

    fn give(&mut self, mut offset: usize, mut lines: usize) {
        if lines == 0 {
            return;
        }
        if let Some((&before, &length)) = self.by_offset.range(..offset).next_back()
            && before + length == offset
        {
            self.remove(before, length);
            (offset, lines) = (before, length + lines);
        }
        if let Some(&length) = self.by_offset.get(&(offset + lines)) {
            self.remove(offset + lines, length);
            lines += length;
        }
        self.insert(offset, lines);
    }

    fn insert(&mut self, offset: usize, lines: usize) {
        self.by_offset.insert(offset, lines);
        self.by_length.insert((lines, offset), ());
    }

    fn remove(&mut self, offset: usize, lines: usize) {
        self.by_offset.remove(&offset);
        self.by_length.remove(&(lines, offset));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lives_that_meet_do_not_overlap(
            lives in prop::collection::vec((0..20usize, 0..30usize, 0..10usize), 0..60)
        ) {
            let lives: Vec<Life> = lives
                .into_iter()
                .map(|(lines, first, more)| Life { lines, first, last: first + more })
                .collect();
            let (offsets, end) = place(&lives, 40);
            for (i, a) in lives.iter().enumerate() {
                prop_assert!(offsets[i] + a.lines <= end);
                for (j, b) in lives.iter().enumerate().skip(i + 1) {
                    let meet = a.first <= b.last && b.first <= a.last;
                    let apart = offsets[i] + a.lines <= offsets[j] || offsets[j] + b.lines <= offsets[i];
                    prop_assert!(!meet || apart, "{a:?} at {}, {b:?} at {}", offsets[i], offsets[j]);
                }
            }
        }
    }
}
