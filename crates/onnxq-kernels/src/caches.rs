//! How large the caches of the processor are.

use core::sync::atomic::{AtomicU32, Ordering};

/// Bytes of the first- and the second-level cache of data of one core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Caches {
    pub(crate) first: usize,
    pub(crate) second: usize,
}

/// What is taken for granted where the processor does not say.
const USUAL: Caches = Caches {
    first: 32 << 10,
    second: 1 << 20,
};

/// KiB of both, once they have been looked up.
static KNOWN: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];

/// The caches. Looked up once.
pub(crate) fn caches() -> Caches {
    let known = [0, 1].map(|i| KNOWN[i].load(Ordering::Relaxed) as usize);
    if !known.contains(&0) {
        let [first, second] = known.map(|kib| kib << 10);
        return Caches { first, second };
    }
    let found = detect();
    let sensible = Caches {
        first: found.first.clamp(16 << 10, 256 << 10),
        second: found.second.clamp(256 << 10, 16 << 20),
    };
    for (known, bytes) in KNOWN.iter().zip([sensible.first, sensible.second]) {
        known.store((bytes >> 10) as u32, Ordering::Relaxed);
    }
    sensible
}

/// Leaf 4 of Intel's and leaf 0x8000001d of AMD's processors describe a cache each by the same bits.
#[cfg(target_arch = "x86_64")]
fn detect() -> Caches {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    let mut found = Caches {
        first: 0,
        second: 0,
    };
    for leaf in [4, 0x8000_001d] {
        if __cpuid(leaf & 0x8000_0000).eax < leaf {
            continue;
        }
        for i in 0..8 {
            let cache = __cpuid_count(leaf, i);
            let (kind, level) = (cache.eax & 0x1f, cache.eax >> 5 & 7);
            if kind == 0 {
                break;
            }
            let [ways, parts, line] = [cache.ebx >> 22, cache.ebx >> 12 & 0x3ff, cache.ebx & 0xfff]
                .map(|less| less as usize + 1);
            let bytes = ways * parts * line * (cache.ecx as usize + 1);
            // Of data, or of data and instructions.
            match (level, kind) {
                (1, 1 | 3) => found.first = bytes,
                (2, 1 | 3) => found.second = bytes,
                _ => {}
            }
        }
        if found.first > 0 && found.second > 0 {
            return found;
        }
    }
    USUAL
}

/// Other processors do not tell programs.
#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Caches {
    USUAL
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;

    /// Linux says what the processor says.
    #[test]
    fn as_the_system_says() {
        let read = |level: &str| {
            (0..6).find_map(|i| {
                let at = std::format!("/sys/devices/system/cpu/cpu0/cache/index{i}");
                let file = |name: &str| std::fs::read_to_string(std::format!("{at}/{name}")).ok();
                let data = file("type")?.trim() != "Instruction";
                let kib = file("size")?
                    .trim()
                    .strip_suffix('K')?
                    .parse::<usize>()
                    .ok()?;
                (data && file("level")?.trim() == level).then_some(kib << 10)
            })
        };
        let caches = caches();
        assert!(caches.first <= caches.second);
        if cfg!(target_arch = "x86_64")
            && let (Some(first), Some(second)) = (read("1"), read("2"))
        {
            let first = first.clamp(16 << 10, 256 << 10);
            let second = second.clamp(256 << 10, 16 << 20);
            assert_eq!(caches, Caches { first, second });
        }
    }
}
