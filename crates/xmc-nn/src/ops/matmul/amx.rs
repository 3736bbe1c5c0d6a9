//! Products in tiles of AMX: 16 x 16 sums, 32 values of k at a time.
//!
//! Two by two tiles of sums (tmm0 to tmm3) share two tiles of A (tmm4, tmm5) and two of B (tmm6, tmm7). The compiler
//! knows nothing of tiles, so each walk over k is one piece of assembly, in variants for one or two tiles of rows and
//! of columns and for one to three planes.

use std::arch::asm;

use super::blocks::{Block, Target, Walk};
use super::layout::Line;

/// Bytes of a tile.
const TILE_BYTES: usize = 1024;

/// All eight tiles have 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: Config = Config {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Asks Linux for room to save tiles; for the whole process.
pub(super) fn ask() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let result: i64;
    // SAFETY: the call changes nothing but the permission; the kernel clobbers rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// C = A B over operands in tiles.
///
/// # Safety
/// The processor has AMX and [`ask`] was granted; `a` and `b` hold `steps` tiles of each plane for all lines; the target
/// is as [`Walk::run`] wants it.
pub(super) unsafe fn product(a: &[Line], b: &[Line], planes: usize, steps: usize, target: &Target) {
    // 24 KiB of B stay in the first cache.
    let row_bytes = steps * planes * size_of::<Line>();
    let walk = Walk { block: [32, 32], piece: [16, 16], steps, pass: 12 / planes, row_bytes };
    let panel = steps * planes * TILE_BYTES;
    // SAFETY: the configuration is valid; tiles are released below.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly)) };
    let kernel = |block: &Block| {
        let skip = block.steps.start * planes * TILE_BYTES;
        let a = a.as_ptr().cast::<u8>().wrapping_add(block.at[0] / 16 * panel + skip);
        let b = b.as_ptr().cast::<u8>().wrapping_add(block.at[1] / 16 * panel + skip);
        // SAFETY: tiles of the block's pieces lie at these places, and C has room for them.
        unsafe { sums(planes, block, a, b, panel) };
    };
    // SAFETY: the caller's promise.
    unsafe { walk.run(target, kernel) };
    // SAFETY: nothing is left in tiles.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// Loads the tiles of A in plane `$at` (in bytes).
macro_rules! a {
    (1, $at:literal) => {
        concat!("tileloadd tmm4, [{a0} + {line}*1 + ", $at, "]\n")
    };
    (2, $at:literal) => {
        concat!(a!(1, $at), "tileloadd tmm5, [{a1} + {line}*1 + ", $at, "]\n")
    };
}

/// Loads the tiles of B in plane `$at` (in bytes).
macro_rules! b {
    (1, $at:literal) => {
        concat!("tileloadd tmm6, [{b0} + {line}*1 + ", $at, "]\n")
    };
    (2, $at:literal) => {
        concat!(b!(1, $at), "tileloadd tmm7, [{b1} + {line}*1 + ", $at, "]\n")
    };
}

/// Adds the products of the loaded tiles.
macro_rules! multiply {
    (1, 1) => {
        "tdpbf16ps tmm0, tmm4, tmm6\n"
    };
    (1, 2) => {
        concat!(multiply!(1, 1), "tdpbf16ps tmm1, tmm4, tmm7\n")
    };
    (2, 1) => {
        concat!(multiply!(1, 1), "tdpbf16ps tmm2, tmm5, tmm6\n")
    };
    (2, 2) => {
        concat!(multiply!(1, 2), "tdpbf16ps tmm2, tmm5, tmm6\n", "tdpbf16ps tmm3, tmm5, tmm7\n")
    };
}

/// One step over k: all products of planes i + j < planes, with as few loads as possible.
macro_rules! step {
    (1, $r:tt, $c:tt) => {
        concat!(a!($r, "0"), b!($c, "0"), multiply!($r, $c), ahead!(1), advance!("1024"))
    };
    (2, $r:tt, $c:tt) => {
        concat!(
            a!($r, "1024"),
            b!($c, "0"),
            multiply!($r, $c),
            a!($r, "0"),
            multiply!($r, $c),
            b!($c, "1024"),
            multiply!($r, $c),
            ahead!(2),
            advance!("2048")
        )
    };
    (3, $r:tt, $c:tt) => {
        concat!(
            a!($r, "2048"),
            b!($c, "0"),
            multiply!($r, $c),
            a!($r, "1024"),
            multiply!($r, $c),
            b!($c, "1024"),
            multiply!($r, $c),
            a!($r, "0"),
            multiply!($r, $c),
            b!($c, "2048"),
            multiply!($r, $c),
            b!($c, "0"),
            multiply!($r, $c),
            ahead!(3),
            advance!("3072")
        )
    };
}

/// Fetches a share of the tiles of B that come next into the second cache, while the present ones are used: with eight
/// blocks of rows all of them. Weights of a layer do not stay there from chunk to chunk.
macro_rules! ahead {
    ("lines", $at:literal) => {
        concat!("prefetcht1 [{p0} + ", $at, "]\nprefetcht1 [{p1} + ", $at, "]\n")
    };
    (1) => {
        concat!(ahead!("lines", "0"), ahead!("lines", "64"), "add {p0}, 128\nadd {p1}, 128\n")
    };
    (2) => {
        concat!(ahead!(1), ahead!(1))
    };
    (3) => {
        concat!(ahead!(2), ahead!(1))
    };
}

macro_rules! advance {
    ($bytes:literal) => {
        concat!(
            "add {a0}, ",
            $bytes,
            "\nadd {a1}, ",
            $bytes,
            "\nadd {b0}, ",
            $bytes,
            "\nadd {b1}, ",
            $bytes,
            "\n"
        )
    };
}

/// Sums begin as zero.
macro_rules! zero {
    (1, 1) => {
        "tilezero tmm0\n"
    };
    (1, 2) => {
        concat!(zero!(1, 1), "tilezero tmm1\n")
    };
    (2, 1) => {
        concat!(zero!(1, 1), "tilezero tmm2\n")
    };
    (2, 2) => {
        concat!(zero!(1, 2), "tilezero tmm2\ntilezero tmm3\n")
    };
}

/// Sums begin in C.
macro_rules! load {
    (1, 1) => {
        "tileloadd tmm0, [{c0} + {stride}*1]\n"
    };
    (1, 2) => {
        concat!(load!(1, 1), "tileloadd tmm1, [{c0} + {stride}*1 + 64]\n")
    };
    (2, 1) => {
        concat!(load!(1, 1), "tileloadd tmm2, [{c1} + {stride}*1]\n")
    };
    (2, 2) => {
        concat!(
            load!(1, 2),
            "tileloadd tmm2, [{c1} + {stride}*1]\n",
            "tileloadd tmm3, [{c1} + {stride}*1 + 64]\n"
        )
    };
}

/// Sums end in C. The comment makes use of an operand that one row of tiles does not need.
macro_rules! store {
    (1, 1) => {
        "tilestored [{c0} + {stride}*1], tmm0 # {c1}\n"
    };
    (1, 2) => {
        concat!(store!(1, 1), "tilestored [{c0} + {stride}*1 + 64], tmm1\n")
    };
    (2, 1) => {
        concat!(store!(1, 1), "tilestored [{c1} + {stride}*1], tmm2\n")
    };
    (2, 2) => {
        concat!(
            store!(1, 2),
            "tilestored [{c1} + {stride}*1], tmm2\n",
            "tilestored [{c1} + {stride}*1 + 64], tmm3\n"
        )
    };
}

/// Walks over k for one block; `panel` bytes lie between tiles of neighbouring lines.
///
/// # Safety
/// Tiles are configured; operands and C lie where the block says.
#[inline(always)]
unsafe fn sums(planes: usize, block: &Block, a: *const u8, b: *const u8, panel: usize) {
    // Neighbouring blocks of rows fetch neighbouring shares of the next columns.
    let share = block.at[0] / 32 % 8 * block.steps.len() * planes * 128;
    let next = b.wrapping_add(2 * panel + share);
    macro_rules! walk {
        ($planes:tt, $r:tt, $c:tt) => {
            // SAFETY: the caller's promise; what one row or column of tiles does not need is not read.
            unsafe {
                asm!(
                    "test {load:e}, {load:e}",
                    "jz 3f",
                    load!($r, $c),
                    "jmp 2f",
                    "3:",
                    zero!($r, $c),
                    "2:",
                    step!($planes, $r, $c),
                    "dec {steps}",
                    "jnz 2b",
                    store!($r, $c),
                    a0 = inout(reg) a => _,
                    a1 = inout(reg) a.wrapping_add(panel) => _,
                    b0 = inout(reg) b => _,
                    b1 = inout(reg) b.wrapping_add(panel) => _,
                    p0 = inout(reg) next => _,
                    p1 = inout(reg) next.wrapping_add(panel) => _,
                    c0 = in(reg) block.c,
                    c1 = in(reg) block.c.wrapping_add(16 * block.stride),
                    stride = in(reg) block.stride * size_of::<f32>(),
                    line = in(reg) size_of::<Line>(),
                    steps = inout(reg) block.steps.len() => _,
                    load = in(reg) u32::from(block.load),
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                )
            }
        };
    }
    match (planes, block.pieces) {
        (1, [1, 1]) => walk!(1, 1, 1),
        (1, [1, _]) => walk!(1, 1, 2),
        (1, [_, 1]) => walk!(1, 2, 1),
        (1, _) => walk!(1, 2, 2),
        (2, [1, 1]) => walk!(2, 1, 1),
        (2, [1, _]) => walk!(2, 1, 2),
        (2, [_, 1]) => walk!(2, 2, 1),
        (2, _) => walk!(2, 2, 2),
        (_, [1, 1]) => walk!(3, 1, 1),
        (_, [1, _]) => walk!(3, 1, 2),
        (_, [_, 1]) => walk!(3, 2, 1),
        _ => walk!(3, 2, 2),
    }
}
