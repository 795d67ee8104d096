//! Memory in large pages, where there is much of it and the system has them.
//!
//! What streams through the caches in each run is then found without a walk through tables of pages every 4 KiB, and is fetched
//! ahead across these; and what is to stay in the second-level cache fills its sets evenly.

use memmap2::MmapMut;
use onnxq_kernels::{Line, bytes, bytes_mut, lines_mut};

/// Bytes of a large page, to which memory of that size begins.
const PAGE: usize = 2 << 20;

/// Less than this stays in pages of the usual size.
const LARGE: usize = PAGE / 2;

/// Zeros to begin with. What nobody touches takes no memory.
pub(super) enum Pages {
    /// So many bytes of a map from a place on.
    Mapped {
        map: MmapMut,
        start: usize,
        len: usize,
    },
    /// Where there is little, or nothing can be mapped.
    Plain(Vec<Line>),
}

impl Default for Pages {
    fn default() -> Pages {
        Pages::Plain(Vec::new())
    }
}

impl Pages {
    /// So many lines.
    pub(super) fn new(lines: usize) -> Pages {
        let len = lines * size_of::<Line>();
        Pages::mapped(len).unwrap_or_else(|| Pages::Plain(vec![Line::ZERO; lines]))
    }

    fn mapped(len: usize) -> Option<Pages> {
        if len < LARGE {
            return None;
        }
        let map = MmapMut::map_anon(len.checked_next_multiple_of(PAGE)?.checked_add(PAGE)?).ok()?;
        // A wish: nothing depends on it.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        let start = map.as_ptr().addr().wrapping_neg() % PAGE;
        Some(Pages::Mapped { map, start, len })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Pages::Mapped { map, start, len } => &map[*start..][..*len],
            Pages::Plain(lines) => bytes(lines),
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Pages::Mapped { map, start, len } => &mut map[*start..][..*len],
            Pages::Plain(lines) => bytes_mut(lines),
        }
    }

    pub(super) fn lines_mut(&mut self) -> &mut [Line] {
        lines_mut(self.bytes_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_that_can_be_written() {
        for lines in [0, 1, 1000, LARGE / 64, PAGE / 64 + 1] {
            let mut pages = Pages::new(lines);
            assert_eq!(pages.bytes().len(), lines * 64);
            assert!(pages.bytes().iter().all(|&byte| byte == 0), "{lines} lines");
            assert_eq!(pages.lines_mut().len(), lines);
            pages.bytes_mut().fill(3);
            assert!(pages.lines_mut().iter().all(|line| line.0 == [3; 64]));
        }
    }

    #[test]
    fn much_of_it_begins_with_a_page() {
        let pages = Pages::new(LARGE / 64);
        assert!(matches!(pages, Pages::Mapped { .. }));
        assert!(pages.bytes().as_ptr().addr().is_multiple_of(PAGE));
    }
}
