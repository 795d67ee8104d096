//! Measures how many products of bytes one core makes at most: `peak` prints `NAME: best N, N GOPS` for each kind of instruction
//! that the processor has, from registers, multiplications and additions counted apart, the median last. Of AMX also with
//! operands from the first-level cache, three groups of rows for each step of weights, and with rows that lie across lines.
//!
//! The time is the thread's own processor time.

#![expect(clippy::print_stdout, reason = "a program that prints figures")]

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    println!("this is for x86-64 alone");
}

#[cfg(target_arch = "x86_64")]
mod timing;

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "calls instructions that it has asked for")]
fn main() {
    use onnxq_kernels::{Cpu, Isa};

    const CALLS: usize = 20;
    // The name, the tier, the loop, and the operations of one turn of it.
    type Kind = (&'static str, Isa, unsafe fn(), usize);
    let kinds: [Kind; 6] = [
        ("amx", Isa::Amx, loops::amx, 4 * 32_768),
        ("amx, loads", Isa::Amx, loops::amx_loads::<0>, 3 * 32_768),
        (
            "amx, loads across lines",
            Isa::Amx,
            loops::amx_loads::<5>,
            3 * 32_768,
        ),
        ("avx512vnni", Isa::Avx512Vnni, loops::avx512vnni, 12 * 128),
        ("avxvnni", Isa::AvxVnni, loops::avxvnni, 12 * 64),
        (
            "avx2, with sums that saturate",
            Isa::Avx2,
            loops::avx2,
            6 * 64,
        ),
    ];
    for (name, isa, run, operations) in kinds {
        if Cpu::with(isa).is_none() {
            continue;
        }
        let mut figures: Vec<f64> = (0..9)
            .map(|_| {
                // SAFETY: the processor has the instructions.
                let seconds = timing::rounds(&mut [|| unsafe { run() }], CALLS);
                (operations * loops::TIMES * CALLS) as f64 / seconds / 1e9
            })
            .collect();
        figures.sort_by(f64::total_cmp);
        println!("{name}: best {:.1}, {:.1} GOPS", figures[8], figures[4]);
    }
}

/// Loops of independent products, each as often as [`TIMES`](loops::TIMES).
///
/// # Safety
/// The processor has the instructions, and the system permits those of AMX, as a [`Cpu`](onnxq_kernels::Cpu) proves.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "instructions by themselves")]
mod loops {
    use std::arch::asm;

    use onnxq_kernels::Line;

    pub(super) const TIMES: usize = 20_000;

    /// 16 rows of 64 bytes for each of eight registers.
    static CONFIGURATION: Line = {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let mut i = 0;
        while i < 8 {
            bytes[16 + 2 * i] = 64;
            bytes[48 + i] = 16;
            i += 1;
        }
        Line(bytes)
    };

    /// What is multiplied: bytes of no particular kind.
    static BYTES: [Line; 65] = {
        let mut lines = [Line::ZERO; 65];
        let (mut i, mut state) = (0, 1_u32);
        while i < lines.len() * 64 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            lines[i / 64].0[i % 64] = (state >> 24) as u8;
            i += 1;
        }
        lines
    };

    pub(super) unsafe fn amx() {
        // SAFETY: the caller's guarantee; nobody else uses the registers.
        unsafe {
            asm!(
                "ldtilecfg [{configuration}]",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "tileloadd tmm4, [{operand} + {row}]",
                "tileloadd tmm5, [{operand} + {row}]",
                "2:",
                "tdpbusd tmm0, tmm4, tmm5",
                "tdpbusd tmm1, tmm4, tmm5",
                "tdpbusd tmm2, tmm4, tmm5",
                "tdpbusd tmm3, tmm4, tmm5",
                "dec {times}",
                "jnz 2b",
                "tilerelease",
                configuration = in(reg) &CONFIGURATION,
                operand = in(reg) &BYTES,
                row = in(reg) 64_usize,
                times = inout(reg) TIMES => _,
                options(nostack, readonly),
            );
        }
    }

    /// Rows begin so many bytes after a line does.
    pub(super) unsafe fn amx_loads<const AT: usize>() {
        // SAFETY: the caller's guarantee; nobody else uses the registers; four times 16 lines are there, and one more.
        unsafe {
            asm!(
                "ldtilecfg [{configuration}]",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "2:",
                "tileloadd tmm4, [{weights} + {row}]",
                "tileloadd tmm3, [{rows} + {row}]",
                "tdpbusd tmm0, tmm3, tmm4",
                "tileloadd tmm3, [{rows} + {row} + 1024]",
                "tdpbusd tmm1, tmm3, tmm4",
                "tileloadd tmm3, [{rows} + {row} + 2048]",
                "tdpbusd tmm2, tmm3, tmm4",
                "dec {times}",
                "jnz 2b",
                "tilerelease",
                configuration = in(reg) &CONFIGURATION,
                weights = in(reg) &BYTES[48],
                rows = in(reg) BYTES.as_ptr().cast::<u8>().wrapping_add(AT),
                row = in(reg) 64_usize,
                times = inout(reg) TIMES => _,
                options(nostack, readonly),
            );
        }
    }

    macro_rules! products {
        ($($instruction:literal),+; $($register:tt),+) => {
            // SAFETY: the caller's guarantee.
            unsafe {
                asm!(
                    "2:",
                    $($instruction,)+
                    "dec {times}",
                    "jnz 2b",
                    times = inout(reg) TIMES => _,
                    $(out($register) _,)+
                    options(nostack, nomem),
                );
            }
        };
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn avx512vnni() {
        products!(
            "vpdpbusd zmm0, zmm12, zmm13", "vpdpbusd zmm1, zmm12, zmm13", "vpdpbusd zmm2, zmm12, zmm13",
            "vpdpbusd zmm3, zmm12, zmm13", "vpdpbusd zmm4, zmm12, zmm13", "vpdpbusd zmm5, zmm12, zmm13",
            "vpdpbusd zmm6, zmm12, zmm13", "vpdpbusd zmm7, zmm12, zmm13", "vpdpbusd zmm8, zmm12, zmm13",
            "vpdpbusd zmm9, zmm12, zmm13", "vpdpbusd zmm10, zmm12, zmm13", "vpdpbusd zmm11, zmm12, zmm13";
            "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10", "zmm11");
    }

    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn avxvnni() {
        products!(
            "{{vex}} vpdpbusd ymm0, ymm12, ymm13", "{{vex}} vpdpbusd ymm1, ymm12, ymm13",
            "{{vex}} vpdpbusd ymm2, ymm12, ymm13", "{{vex}} vpdpbusd ymm3, ymm12, ymm13",
            "{{vex}} vpdpbusd ymm4, ymm12, ymm13", "{{vex}} vpdpbusd ymm5, ymm12, ymm13",
            "{{vex}} vpdpbusd ymm6, ymm12, ymm13", "{{vex}} vpdpbusd ymm7, ymm12, ymm13",
            "{{vex}} vpdpbusd ymm8, ymm12, ymm13", "{{vex}} vpdpbusd ymm9, ymm12, ymm13",
            "{{vex}} vpdpbusd ymm10, ymm12, ymm13", "{{vex}} vpdpbusd ymm11, ymm12, ymm13";
            "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm10", "ymm11");
    }

    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn avx2() {
        products!(
            "vpmaddubsw ymm6, ymm12, ymm13", "vpmaddwd ymm6, ymm6, ymm14", "vpaddd ymm0, ymm0, ymm6",
            "vpmaddubsw ymm7, ymm12, ymm13", "vpmaddwd ymm7, ymm7, ymm14", "vpaddd ymm1, ymm1, ymm7",
            "vpmaddubsw ymm8, ymm12, ymm13", "vpmaddwd ymm8, ymm8, ymm14", "vpaddd ymm2, ymm2, ymm8",
            "vpmaddubsw ymm9, ymm12, ymm13", "vpmaddwd ymm9, ymm9, ymm14", "vpaddd ymm3, ymm3, ymm9",
            "vpmaddubsw ymm10, ymm12, ymm13", "vpmaddwd ymm10, ymm10, ymm14", "vpaddd ymm4, ymm4, ymm10",
            "vpmaddubsw ymm11, ymm12, ymm13", "vpmaddwd ymm11, ymm11, ymm14", "vpaddd ymm5, ymm5, ymm11";
            "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm10", "ymm11");
    }
}
