//! One body, compiled for every tier of vector instructions.

/// Defines functions whose body the compiler vectorizes for each tier of the processor.
///
/// `fn name(arg: T, ..) -> R { .. }` becomes `fn name(cpu: Cpu, arg: T, ..) -> R`. The body is the
/// definition of the result on every tier: Rust never fuses or reorders arithmetic on floats, so
/// that all of them are equal bit for bit.
macro_rules! tiers {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident $(<$($life:lifetime),*>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "kernels take slices and sizes")]
        #[cfg_attr(target_arch = "x86_64", allow(unsafe_code, reason = "calls of tiers that `Cpu` proves"))]
        $vis fn $name $(<$($life),*>)? (cpu: $crate::Cpu, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, reason = "kernels take slices and sizes")]
            fn body $(<$($life),*>)? ($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[cfg(feature = "avx2")]
                #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
                #[allow(clippy::too_many_arguments, reason = "kernels take slices and sizes")]
                fn avx2 $(<$($life),*>)? ($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                #[cfg(feature = "avx512vnni")]
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c,bmi1,bmi2")]
                #[allow(clippy::too_many_arguments, reason = "kernels take slices and sizes")]
                fn avx512 $(<$($life),*>)? ($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                match cpu.isa() {
                    #[cfg(feature = "avx512vnni")]
                    // SAFETY: a `Cpu` of these tiers exists only where the processor has them.
                    $crate::Isa::Avx512Vnni | $crate::Isa::Amx => return unsafe { avx512($($arg),*) },
                    #[cfg(feature = "avx2")]
                    // SAFETY: as above.
                    $crate::Isa::Avx2 | $crate::Isa::AvxVnni => return unsafe { avx2($($arg),*) },
                    _ => {}
                }
            }
            let _ = cpu;
            body($($arg),*)
        }
    )*};
}
pub(crate) use tiers;
