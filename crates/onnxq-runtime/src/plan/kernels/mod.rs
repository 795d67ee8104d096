//! Loops over floats: safe code that the compiler vectorizes, compiled once for each instruction
//! set by [`multiversion`], and the matrix product.

pub(crate) mod binary;
pub(crate) mod gemm;
pub(crate) mod im2col;
pub(crate) mod rows;
pub(crate) mod stencil;
pub(crate) mod unary;

/// Instruction sets for which loops are compiled.
#[derive(Clone, Copy)]
enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// The best that this processor has.
#[inline]
fn isa() -> Isa {
    #[cfg(target_arch = "x86_64")]
    {
        // Detected once; later calls read a flag.
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        if avx2 && is_x86_feature_detected!("avx512f") {
            return Isa::Avx512;
        }
        if avx2 {
            return Isa::Avx2;
        }
    }
    Isa::Portable
}

/// `a * b + c`, rounded once where `FMA` says that the processor does so in one instruction.
#[inline(always)]
fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Compiles a function for each instruction set and calls the best. In its body `FMA` is a
/// constant for [`mul_add`].
macro_rules! multiversion {
    ($(#[$doc:meta])* $vis:vis fn $name:ident $(<$g:ident: $bound:path>)? (
        $($arg:ident: $ty:ty),* $(,)?
    ) $body:block) => {
        $(#[$doc])*
        $vis fn $name $(<$g: $bound>)? ($($arg: $ty),*) {
            #[inline(always)]
            fn body<const FMA: bool $(, $g: $bound)?>($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma")]
            fn avx512 $(<$g: $bound>)? ($($arg: $ty),*) {
                body::<true $(, $g)?>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2 $(<$g: $bound>)? ($($arg: $ty),*) {
                body::<true $(, $g)?>($($arg),*);
            }
            match $crate::plan::kernels::isa() {
                $crate::plan::kernels::Isa::Portable => body::<false $(, $g)?>($($arg),*),
                #[cfg(target_arch = "x86_64")]
                #[expect(unsafe_code, reason = "the one way to call code for an instruction set")]
                // SAFETY: `isa` has found that the processor has AVX2 and FMA.
                $crate::plan::kernels::Isa::Avx2 => unsafe { avx2 $(::<$g>)? ($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                #[expect(unsafe_code, reason = "the one way to call code for an instruction set")]
                // SAFETY: `isa` has found that the processor has AVX-512F, AVX2 and FMA.
                $crate::plan::kernels::Isa::Avx512 => unsafe { avx512 $(::<$g>)? ($($arg),*) },
            }
        }
    };
}
use multiversion;
