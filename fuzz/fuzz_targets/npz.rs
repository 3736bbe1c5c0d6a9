//! scipy's sparse matrices and numpy's dense ones: no panic, no memory that the file does not back; what was read
//! comes back the same after writing it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xmc_data::formats::{npy, npz};
use xmc_fuzz::{scratch, with_file, zip_of};

/// Larger matrices than this are not written back.
const MOST_ROWS: usize = 1000;

fuzz_target!(|data: &[u8]| {
    if data.starts_with(b"\x93NUMPY") {
        let _ = with_file(data, npy::read_dense);
        return;
    }
    let read = if data.starts_with(b"PK") {
        with_file(data, npz::read)
    } else {
        with_file(&zip_of(data), npz::read)
    };
    if let Ok(m) = read
        && m.rows() <= MOST_ROWS
    {
        let copy = scratch().join("copy.npz");
        npz::write(&copy, &m).expect("a matrix is written");
        assert_eq!(npz::read(&copy).expect("what was written is read"), m);
    }
});
