//! Which instructions multiply matrices on this processor?

use std::sync::OnceLock;

use super::Precision;

/// One way to multiply. Both operands of a product are laid out for the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Tiles of 16 x 16 sums (AMX). One plane: factors rounded to bfloat16. Two or three planes: every factor is the
    /// sum of so many bfloat16 numbers, and all products of planes i + j < planes are summed.
    Amx {
        /// 1, 2 or 3.
        planes: usize,
    },
    /// Pairs of bfloat16 in registers of AVX-512.
    Avx512Bf16,
    /// f32 in the widest registers there are (AVX-512, AVX2, any).
    Vector {
        /// Whether factors are rounded to bfloat16 first.
        rounded: bool,
    },
}

/// Planes that make AMX as exact as f32. Root mean squared errors relative to the norms of a row and a column, k = 384:
/// f32 in registers 1.8e-8, three planes 0.8e-8, two planes 2.3e-7 (then gradients of a small encoder are off by 3e-5
/// instead of 2e-6); `benches/products.rs` prints them.
const EXACT_PLANES: usize = 3;

impl Kernel {
    /// The fastest one here.
    pub fn best(precision: Precision) -> Kernel {
        static BEST: OnceLock<[Kernel; 2]> = OnceLock::new();
        let best = BEST.get_or_init(|| {
            let (bf16, amx) = (avx512_bf16(), amx());
            let rounded = match (amx, bf16) {
                (true, _) => Kernel::Amx { planes: 1 },
                (_, true) => Kernel::Avx512Bf16,
                _ => Kernel::Vector { rounded: true },
            };
            let exact =
                if amx { Kernel::Amx { planes: EXACT_PLANES } } else { Kernel::Vector { rounded: false } };
            [exact, rounded]
        });
        best[usize::from(precision == Precision::Bf16)]
    }

    /// All that this processor can run.
    pub fn available() -> Vec<Kernel> {
        let mut kernels = vec![Kernel::Vector { rounded: false }, Kernel::Vector { rounded: true }];
        if avx512_bf16() {
            kernels.push(Kernel::Avx512Bf16);
        }
        if amx() {
            kernels.extend((1..=3).map(|planes| Kernel::Amx { planes }));
        }
        kernels
    }

    /// bfloat16 numbers per factor.
    pub(super) fn planes(self) -> usize {
        if let Kernel::Amx { planes } = self { planes } else { 1 }
    }

    /// Bytes of a value of an operand.
    pub(crate) fn value_bytes(self) -> usize {
        if let Kernel::Vector { .. } = self { 4 } else { 2 * self.planes() }
    }

    /// Stops unless this processor can run it.
    pub(super) fn check(self) {
        let there = match self {
            Kernel::Amx { planes } => (1..=3).contains(&planes) && amx(),
            Kernel::Avx512Bf16 => avx512_bf16(),
            Kernel::Vector { .. } => true,
        };
        assert!(there, "{self:?} is not there on this processor");
    }
}

fn avx512_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use crate::ops::simd::{Level, level};
        level() == Level::Avx512 && is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// AMX is there and Linux lets this process use it.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn amx() -> bool {
    use std::arch::x86_64::__cpuid_count;
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| {
        const TILE: u32 = 1 << 24;
        const BF16: u32 = 1 << 22;
        // Operands are laid out with AVX-512; no processor has AMX without it.
        avx512_bf16() && __cpuid_count(7, 0).edx & (TILE | BF16) == TILE | BF16 && super::amx::ask()
    })
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn amx() -> bool {
    false
}
