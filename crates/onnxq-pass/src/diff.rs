//! Unified diffs of large texts in linear time.
//!
//! Patience diff (Bram Cohen): lines that occur once on either side and keep their order are
//! anchors, and what lies between two anchors is compared in the same way. Values of a model
//! have names of their own, so nearly every line of its text is an anchor. A gap without anchors
//! is compared by Myers' algorithm where it is small and replaced whole where it is not: the
//! result depends on the texts alone, never on a clock.

use std::{collections::HashMap, fmt::Write, ops::Range};

use similar::{Algorithm, DiffOp, DiffTag, capture_diff_slices, group_diff_ops};

/// Lines around a change.
const CONTEXT: usize = 3;

/// Lines of both sides of a gap together up to which Myers' algorithm, quadratic at worst, runs.
const SMALL: usize = 512;

/// Rounds of looking for anchors between anchors.
const ROUNDS: usize = 8;

/// The unified diff between two texts with these names; empty if they are equal.
pub fn unified_diff(old: &str, new: &str, old_name: &str, new_name: &str) -> String {
    let mut out = String::new();
    if old == new {
        return out;
    }
    let old: Vec<&str> = old.split_inclusive('\n').collect();
    let new: Vec<&str> = new.split_inclusive('\n').collect();
    let _ = writeln!(out, "--- {old_name}\n+++ {new_name}");
    for hunk in group_diff_ops(diff_lines(&old, &new), CONTEXT) {
        print_hunk(&hunk, &old, &new, &mut out);
    }
    out
}

fn print_hunk(hunk: &[DiffOp], old: &[&str], new: &[&str], out: &mut String) {
    let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else {
        return;
    };
    let range = |range: Range<usize>| match range.len() {
        1 => format!("{}", range.start + 1),
        0 => format!("{},0", range.start),
        n => format!("{},{n}", range.start + 1),
    };
    let _ = writeln!(
        out,
        "@@ -{} +{} @@",
        range(first.old_range().start..last.old_range().end),
        range(first.new_range().start..last.new_range().end)
    );
    for op in hunk {
        let (tag, before, after) = op.as_tag_tuple();
        if tag == DiffTag::Equal {
            print_lines(' ', &old[before], out);
        } else {
            print_lines('-', &old[before], out);
            print_lines('+', &new[after], out);
        }
    }
}

fn print_lines(sign: char, lines: &[&str], out: &mut String) {
    for line in lines {
        out.push(sign);
        out.push_str(line);
        if !line.ends_with('\n') {
            out.push_str("\n\\ No newline at end of file\n");
        }
    }
}

/// The edits that turn `old` into `new`.
fn diff_lines<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<DiffOp> {
    // Equal lines get equal numbers.
    let mut numbers: HashMap<&'a str, u32> = HashMap::new();
    let mut number = |lines: &[&'a str]| -> Vec<u32> {
        let number = |&line| {
            let next = numbers.len() as u32;
            *numbers.entry(line).or_insert(next)
        };
        lines.iter().map(number).collect()
    };
    let (old, new) = (number(old), number(new));
    let mut diff = Diff {
        seen: vec![Seen::default(); numbers.len()],
        old: &old,
        new: &new,
        ops: Vec::new(),
    };
    diff.run();
    diff.ops
}

/// How often a line occurs in the gap at hand, and where last.
#[derive(Clone, Copy, Default)]
struct Seen {
    old: u32,
    new: u32,
    at: u32,
}

struct Diff<'a> {
    old: &'a [u32],
    new: &'a [u32],
    seen: Vec<Seen>,
    ops: Vec<DiffOp>,
}

/// Lines of the old text against lines of the new one, and the rounds left.
struct Gap {
    old: Range<usize>,
    new: Range<usize>,
    rounds: usize,
}

impl Diff<'_> {
    fn run(&mut self) {
        let mut pending = vec![Gap {
            old: 0..self.old.len(),
            new: 0..self.new.len(),
            rounds: ROUNDS,
        }];
        // A stack, so gaps go on it last first and come off in order.
        while let Some(gap) = pending.pop() {
            let gap = self.equal_prefix(gap);
            if gap.old.is_empty() || gap.new.is_empty() {
                self.push(gap.old, gap.new, false);
                continue;
            }
            let suffix = self.equal_suffix(&gap);
            if suffix > 0 {
                pending.push(Gap {
                    old: gap.old.end - suffix..gap.old.end,
                    new: gap.new.end - suffix..gap.new.end,
                    rounds: 0,
                });
                pending.push(Gap {
                    old: gap.old.start..gap.old.end - suffix,
                    new: gap.new.start..gap.new.end - suffix,
                    rounds: gap.rounds,
                });
                continue;
            }
            let anchors = self.anchors(&gap);
            if anchors.is_empty() {
                self.without_anchors(gap);
                continue;
            }
            let first = pending.len();
            let (mut i, mut j) = (gap.old.start, gap.new.start);
            for (a, b) in anchors {
                // The anchor itself is the equal prefix of the next gap.
                pending.push(Gap {
                    old: i..a,
                    new: j..b,
                    rounds: gap.rounds - 1,
                });
                (i, j) = (a, b);
            }
            pending.push(Gap {
                old: i..gap.old.end,
                new: j..gap.new.end,
                rounds: gap.rounds - 1,
            });
            pending[first..].reverse();
        }
    }

    fn equal_prefix(&mut self, gap: Gap) -> Gap {
        let pairs = self.old[gap.old.clone()]
            .iter()
            .zip(&self.new[gap.new.clone()]);
        let n = pairs.take_while(|(a, b)| a == b).count();
        let (i, j) = (gap.old.start + n, gap.new.start + n);
        self.push(gap.old.start..i, gap.new.start..j, true);
        Gap {
            old: i..gap.old.end,
            new: j..gap.new.end,
            rounds: gap.rounds,
        }
    }

    fn equal_suffix(&self, gap: &Gap) -> usize {
        let old = self.old[gap.old.clone()].iter().rev();
        let new = self.new[gap.new.clone()].iter().rev();
        old.zip(new).take_while(|(a, b)| a == b).count()
    }

    /// Pairs of equal lines that are unique on both sides and in order on both, as many as can be.
    fn anchors(&mut self, gap: &Gap) -> Vec<(usize, usize)> {
        if gap.rounds == 0 {
            return Vec::new();
        }
        let (old, new) = (&self.old[gap.old.clone()], &self.new[gap.new.clone()]);
        for &line in old {
            self.seen[line as usize].old += 1;
        }
        for (j, &line) in new.iter().enumerate() {
            let seen = &mut self.seen[line as usize];
            seen.new += 1;
            seen.at = j as u32;
        }
        let unique: Vec<(usize, usize)> = old
            .iter()
            .enumerate()
            .map(|(i, &line)| (i, self.seen[line as usize]))
            .filter(|(_, seen)| (seen.old, seen.new) == (1, 1))
            .map(|(i, seen)| (gap.old.start + i, gap.new.start + seen.at as usize))
            .collect();
        for &line in old.iter().chain(new) {
            self.seen[line as usize] = Seen::default();
        }
        longest_increasing(&unique)
    }

    fn without_anchors(&mut self, gap: Gap) {
        if gap.old.len() + gap.new.len() > SMALL {
            return self.push(gap.old, gap.new, false);
        }
        let (i, j) = (gap.old.start, gap.new.start);
        let (old, new) = (&self.old[gap.old], &self.new[gap.new]);
        for op in capture_diff_slices(Algorithm::Myers, old, new) {
            let (tag, old, new) = op.as_tag_tuple();
            self.push(
                old.start + i..old.end + i,
                new.start + j..new.end + j,
                tag == DiffTag::Equal,
            );
        }
    }

    /// Appends lines that are equal or replaced, joining them to the last of their sort.
    fn push(&mut self, old: Range<usize>, new: Range<usize>, equal: bool) {
        if old.is_empty() && new.is_empty() {
            return;
        }
        let (mut old, mut new) = (old, new);
        if let Some(last) = self.ops.last()
            && (last.tag() == DiffTag::Equal) == equal
        {
            old.start = last.old_range().start;
            new.start = last.new_range().start;
            self.ops.pop();
        }
        let (old_index, new_index) = (old.start, new.start);
        let (old_len, new_len) = (old.len(), new.len());
        self.ops.push(match (equal, old_len, new_len) {
            (true, len, _) => DiffOp::Equal {
                old_index,
                new_index,
                len,
            },
            (false, 0, _) => DiffOp::Insert {
                old_index,
                new_index,
                new_len,
            },
            (false, _, 0) => DiffOp::Delete {
                old_index,
                old_len,
                new_index,
            },
            (false, ..) => DiffOp::Replace {
                old_index,
                old_len,
                new_index,
                new_len,
            },
        });
    }
}

/// The longest subsequence of pairs, whose first numbers increase, in which the second numbers
/// increase as well. Patience sorting, `O(n log n)`.
fn longest_increasing(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    // piles[k]: the last pair of the best chain of k + 1 pairs so far.
    let mut piles: Vec<usize> = Vec::new();
    let mut previous: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    for (i, &(_, second)) in pairs.iter().enumerate() {
        let k = piles.partition_point(|&p| pairs[p].1 < second);
        previous.push(k.checked_sub(1).map(|k| piles[k]));
        match piles.get_mut(k) {
            Some(top) => *top = i,
            None => piles.push(i),
        }
    }
    let mut chain = Vec::with_capacity(piles.len());
    let mut next = piles.last().copied();
    while let Some(i) = next {
        chain.push(pairs[i]);
        next = previous[i];
    }
    chain.reverse();
    chain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prints_hunks_with_context() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\n";
        let new = "a\nb\nc\nX\ne\nf\ng\nh\ni\nj\nk\nl\n";
        let expected = "--- before\n+++ after\n@@ -1,7 +1,7 @@\n a\n b\n c\n-d\n+X\n e\n f\n g\n\
                        @@ -9,3 +9,4 @@\n i\n j\n k\n+l\n";
        assert_eq!(unified_diff(old, new, "before", "after"), expected);
        assert_eq!(unified_diff(old, old, "before", "after"), "");
    }

    #[test]
    fn says_where_the_newline_is_missing() {
        assert_eq!(
            unified_diff("", "a", "x", "y"),
            "--- x\n+++ y\n@@ -0,0 +1 @@\n+a\n\\ No newline at end of file\n"
        );
    }

    #[test]
    fn finds_what_moved_little_between_anchors() {
        let old = "}\nu\n}\nv\n}\nw\n}\n";
        let new = "}\nu\n}\n}\nw\n}\n";
        let diff = unified_diff(old, new, "x", "y");
        assert_eq!(
            diff.lines().filter(|l| l.starts_with('-')).count(),
            2,
            "{diff}"
        );
        assert!(diff.contains("-v"));
    }

    #[test]
    fn large_texts_take_linear_time() {
        // Every second line renamed, a block moved, and thousands of equal lines: minutes for
        // an algorithm that is quadratic in the number of changes.
        let n = 100_000;
        let line = |i: usize| format!("v{i} = Add (v{}, w)\n", i + 1);
        let old: String = (0..n).map(line).collect();
        let new: String = (n / 2..n)
            .chain(0..n / 2)
            .map(|i| {
                if i % 2 == 0 {
                    line(i)
                } else {
                    format!("q{}", line(i))
                }
            })
            .collect();
        assert!(!unified_diff(&old, &new, "x", "y").is_empty());
        let equal = |s: &str| s.repeat(n);
        assert!(!unified_diff(&equal("a\nb\n"), &equal("b\nc\na\n"), "x", "y").is_empty());
    }

    /// The new text, from the old one and the edits.
    fn apply(ops: &[DiffOp], old: &[&str], new: &[&str]) -> (Vec<String>, Vec<String>) {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for op in ops {
            let (tag, before, after) = op.as_tag_tuple();
            let source = if tag == DiffTag::Equal {
                &old[before.clone()]
            } else {
                &new[after]
            };
            left.extend(old[before].iter().map(|s| s.to_string()));
            right.extend(source.iter().map(|s| s.to_string()));
        }
        (left, right)
    }

    proptest! {
        #[test]
        fn edits_turn_one_text_into_the_other(
            old in prop::collection::vec("[a-f]{1,2}", 0..40),
            new in prop::collection::vec("[a-f]{1,2}", 0..40),
        ) {
            let old: Vec<&str> = old.iter().map(String::as_str).collect();
            let new: Vec<&str> = new.iter().map(String::as_str).collect();
            let ops = diff_lines(&old, &new);
            let (left, right) = apply(&ops, &old, &new);
            prop_assert_eq!(left, old);
            prop_assert_eq!(right, new);
        }
    }
}
