//! What all fuzz targets need: a bound on single allocations, a file for readers that open one, the packed form of npz
//! inputs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Most bytes that may be asked for at once. Inputs have kilobytes: whoever asks for more believed a damaged number.
/// (Memory that is asked for and never touched does not count as used, so the fuzzer's own limit would not see it.)
const MOST_BYTES: usize = 512 << 20;

struct Bounded;

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

// SAFETY: everything is left to the allocator of the system.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check(size);
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Ends the process, because an allocator must not panic; the fuzzer keeps the input.
fn check(bytes: usize) {
    if bytes > MOST_BYTES {
        eprintln!("{bytes} bytes asked for at once");
        std::process::abort();
    }
}

/// Members that a sparse matrix of scipy may have.
pub const MEMBERS: [&str; 7] = ["format", "shape", "data", "indptr", "indices", "row", "col"];

/// A folder of this process, in memory where the system has such a place.
pub fn scratch() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let shm = Path::new("/dev/shm");
        let base = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let folder = base.join(format!("xmc-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        folder
    })
}

/// Writes `bytes` to a temporary file and hands it to `read`.
pub fn with_file<T>(bytes: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    let path = scratch().join("input");
    std::fs::write(&path, bytes).expect("a temporary file");
    read(&path)
}

/// A zip with valid checksums of `(member: u8, length: u16, bytes)*`, so that mutations reach what lies behind the
/// checksums.
pub fn zip_of(mut packed: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut taken = [false; MEMBERS.len()];
    while let Some((&[member, low, high], rest)) = packed.split_first_chunk::<3>() {
        let len = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
        let (bytes, rest) = rest.split_at(len);
        packed = rest;
        let member = usize::from(member) % MEMBERS.len();
        if !std::mem::replace(&mut taken[member], true) {
            zip.start_file(format!("{}.npy", MEMBERS[member]), options).expect("a member begins");
            zip.write_all(bytes).expect("a member is written");
        }
    }
    zip.finish().expect("a zip in memory").into_inner()
}

/// Models of libpecos of which files are replaced, one of each form, and their files, in the order that the first
/// byte of an input counts.
pub fn pecos_files() -> Vec<(PathBuf, PathBuf)> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/xmc-linear/tests/golden/pecos");
    let mut all = Vec::new();
    for name in ["one_level", "scattered_mmap"] {
        let model = golden.join(name);
        let mut files = Vec::new();
        collect_files(&model, &mut files);
        files.sort();
        all.extend(files.into_iter().map(|file| (model.clone(), file)));
    }
    all
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of golden files") {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() { collect_files(&path, files) } else { files.push(path) }
    }
}
