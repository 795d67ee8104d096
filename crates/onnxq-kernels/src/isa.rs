//! Instruction sets: which there are, which this processor has, and [`Cpu`], the proof of it.

use core::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicU32, Ordering},
};

/// A tier of instructions for integer products. A later one of the same architecture includes
/// those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Isa {
    /// Plain Rust, which defines every result.
    Portable,
    /// x86-64: AVX2 and FMA, widening products.
    Avx2,
    /// x86-64: AVX2 with the dot products of AVX-VNNI.
    AvxVnni,
    /// x86-64: AVX-512 (F, BW, DQ, VL, VBMI) with VNNI.
    Avx512Vnni,
    /// x86-64: AVX-512 VNNI and the tiles of AMX-INT8.
    Amx,
    /// AArch64: Advanced SIMD.
    Neon,
    /// AArch64: Advanced SIMD with `sdot` and `udot`.
    Dotprod,
    /// AArch64: dot products and the 8-bit matrix products of FEAT_I8MM.
    I8mm,
}

impl Isa {
    /// All of them, of every architecture.
    pub const ALL: [Isa; 8] = [
        Isa::Portable,
        Isa::Avx2,
        Isa::AvxVnni,
        Isa::Avx512Vnni,
        Isa::Amx,
        Isa::Neon,
        Isa::Dotprod,
        Isa::I8mm,
    ];

    /// Whether the features of this crate have it.
    const fn is_compiled(self) -> bool {
        match self {
            Isa::Portable => true,
            Isa::Avx2 => cfg!(all(target_arch = "x86_64", feature = "avx2")),
            Isa::AvxVnni => cfg!(all(target_arch = "x86_64", feature = "avxvnni")),
            Isa::Avx512Vnni => cfg!(all(target_arch = "x86_64", feature = "avx512vnni")),
            Isa::Amx => cfg!(all(target_arch = "x86_64", feature = "amx")),
            Isa::Neon => cfg!(all(target_arch = "aarch64", feature = "neon")),
            Isa::Dotprod => cfg!(all(target_arch = "aarch64", feature = "dotprod")),
            Isa::I8mm => cfg!(all(target_arch = "aarch64", feature = "i8mm")),
        }
    }

    /// The name that [`FromStr`] reads.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Amx => "amx",
            Isa::Neon => "neon",
            Isa::Dotprod => "dotprod",
            Isa::I8mm => "i8mm",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text is no name of an [`Isa`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownIsa;

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the name of an instruction set")
    }
}

impl core::error::Error for UnknownIsa {}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(text: &str) -> Result<Isa, UnknownIsa> {
        Isa::ALL
            .into_iter()
            .find(|isa| isa.name() == text)
            .ok_or(UnknownIsa)
    }
}

/// How many of the tile registers of AMX a product keeps. Results do not depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Tiles {
    /// As many as are found to be fast, which is measured again every few milliseconds: on some processors most of them
    /// are slow at times.
    #[default]
    Measured,
    /// Five.
    Few,
    /// Seven.
    Most,
}

/// An [`Isa`] that this processor, and its operating system, has been found to support: what
/// makes calls of its kernels sound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpu {
    isa: Isa,
    tiles: Tiles,
}

impl Cpu {
    /// What runs everywhere.
    pub const PORTABLE: Cpu = Cpu::of(Isa::Portable);

    const fn of(isa: Isa) -> Cpu {
        Cpu {
            isa,
            tiles: Tiles::Measured,
        }
    }

    /// The best tier of this processor. Found once; for AMX, the first call asks the kernel for
    /// permission to use the tiles.
    pub fn detect() -> Cpu {
        let found = supported();
        let has = |isa: &Isa| found & (1 << *isa as u32) != 0;
        let best = Isa::ALL.into_iter().rev().find(has);
        Cpu::of(best.unwrap_or(Isa::Portable))
    }

    /// A given tier, if this processor has it.
    pub fn with(isa: Isa) -> Option<Cpu> {
        (supported() & (1 << isa as u32) != 0).then_some(Cpu::of(isa))
    }

    /// Every tier that this processor has, the lowest first.
    pub fn available() -> impl DoubleEndedIterator<Item = Cpu> {
        Isa::ALL.into_iter().filter_map(Cpu::with)
    }

    /// The tier.
    #[inline]
    pub fn isa(self) -> Isa {
        // The compiler drops what is made for tiers that are not compiled in.
        match self.isa.is_compiled() {
            true => self.isa,
            false => Isa::Portable,
        }
    }

    /// The same tier with so many tile registers.
    #[must_use]
    pub fn with_tiles(self, tiles: Tiles) -> Cpu {
        Cpu { tiles, ..self }
    }

    /// How many tile registers products keep.
    pub fn tiles(self) -> Tiles {
        self.tiles
    }
}

/// A bit for each tier; the highest bit says that it has been looked up.
static SUPPORTED: AtomicU32 = AtomicU32::new(0);

fn supported() -> u32 {
    const KNOWN: u32 = 1 << 31;
    match SUPPORTED.load(Ordering::Relaxed) {
        0 => {
            let compiled = |isa: &Isa| isa.is_compiled();
            let compiled = Isa::ALL.into_iter().filter(compiled);
            let compiled = compiled.fold(0, |bits, isa| bits | 1 << isa as u32);
            let found = KNOWN | 1 << Isa::Portable as u32 | (detect() & compiled);
            SUPPORTED.store(found, Ordering::Relaxed);
            found
        }
        found => found,
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "cpuid and the registers it guards")]
fn detect() -> u32 {
    use core::arch::{
        asm,
        x86_64::{__cpuid, __cpuid_count},
    };
    let leaf = |leaf, sub| match __cpuid(0).eax >= leaf {
        true => __cpuid_count(leaf, sub),
        false => __cpuid_count(0, 0),
    };
    let highest = __cpuid(0).eax;
    if highest < 7 {
        return 0;
    }
    let (one, seven, seven1) = (leaf(1, 0), leaf(7, 0), leaf(7, 1));
    let bit = |register: u32, n: u32| register & (1 << n) != 0;
    // OSXSAVE: without it the system saves no vector registers.
    if !bit(one.ecx, 27) {
        return 0;
    }
    let (low, _high): (u32, u32);
    // SAFETY: OSXSAVE says that xgetbv exists.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _high, options(nomem, nostack));
    }
    let mut found = 0;
    let mut add = |isa: Isa, condition: bool| {
        if condition {
            found |= 1 << isa as u32;
        }
        condition
    };
    // FMA, AVX, F16C; BMI1, AVX2, BMI2.
    let avx2 = low & 0b110 == 0b110
        && [12, 28, 29].iter().all(|&n| bit(one.ecx, n))
        && [3, 5, 8].iter().all(|&n| bit(seven.ebx, n));
    if !add(Isa::Avx2, avx2) {
        return found;
    }
    add(Isa::AvxVnni, bit(seven1.eax, 4));
    // F, DQ, BW, VL; VBMI and VNNI.
    let avx512 = [16, 17, 30, 31].iter().all(|&n| bit(seven.ebx, n))
        && [1, 11].iter().all(|&n| bit(seven.ecx, n));
    if !add(Isa::Avx512Vnni, low & 0xe6 == 0xe6 && avx512) {
        return found;
    }
    // AMX-TILE and AMX-INT8, and both tile states enabled.
    let tiles = bit(seven.edx, 24) && bit(seven.edx, 25) && low & 0x6_0000 == 0x6_0000;
    // And rdtscp, which tells what core this is.
    let extended = __cpuid(0x8000_0000).eax > 0x8000_0000 && bit(__cpuid(0x8000_0001).edx, 27);
    add(Isa::Amx, tiles && extended && tiles_permitted());
    found
}

/// Asks Linux for permission to use tile data; elsewhere the state is on by itself.
#[cfg(target_arch = "x86_64")]
#[cfg_attr(target_os = "linux", expect(unsafe_code, reason = "a system call"))]
fn tiles_permitted() -> bool {
    #[cfg(target_os = "linux")]
    {
        const ARCH_PRCTL: u64 = 158;
        const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
        const XFEATURE_XTILEDATA: u64 = 18;
        let result: i64;
        // SAFETY: the call takes two numbers and touches no memory of ours.
        unsafe {
            core::arch::asm!(
                "syscall",
                inout("rax") ARCH_PRCTL as i64 => result,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XFEATURE_XTILEDATA,
                out("rcx") _,
                out("r11") _,
                options(nostack),
            );
        }
        result == 0
    }
    #[cfg(not(target_os = "linux"))]
    false
}

#[cfg(target_arch = "aarch64")]
#[cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "reads of identification registers")
)]
fn detect() -> u32 {
    let mut found = 1 << Isa::Neon as u32;
    // Linux lets programs read the identification registers (HWCAP_CPUID).
    #[cfg(target_os = "linux")]
    {
        let (isar0, isar1): (u64, u64);
        // SAFETY: Linux emulates these reads since 4.11; FEAT_DotProd is newer than that.
        unsafe {
            core::arch::asm!(
                "mrs {0}, ID_AA64ISAR0_EL1",
                "mrs {1}, ID_AA64ISAR1_EL1",
                out(reg) isar0,
                out(reg) isar1,
                options(nomem, nostack),
            );
        }
        if (isar0 >> 44) & 0xf != 0 {
            found |= 1 << Isa::Dotprod as u32;
            if (isar1 >> 52) & 0xf != 0 {
                found |= 1 << Isa::I8mm as u32;
            }
        }
    }
    found
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detect() -> u32 {
    0
}
