//! The text format of the XMC repository and svmlight, plain or packed: no panic; what was read comes back the same
//! after writing it.
#![no_main]

use std::io::Cursor;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use xmc_data::formats::{svmlight, xmc_text};
use xmc_fuzz::{scratch, with_file};

fuzz_target!(|data: &[u8]| {
    let name = Path::new("input");
    let reader = || Box::new(Cursor::new(data.to_vec()));
    let copy = scratch().join("copy.txt");
    if data.starts_with(&[0x1f, 0x8b]) || data.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let _ = with_file(data, xmc_text::read);
        return;
    }
    let _ = with_file(data, xmc_text::read_sparse);
    if let Ok((x, y)) = xmc_text::from_reader(name, reader()) {
        xmc_text::write(&copy, &x, &y).expect("rows are written");
        assert_eq!(xmc_text::read(&copy).expect("what was written is read"), (x, y));
    }
    for zero_based in [None, Some(true)] {
        if let Ok((x, y)) = svmlight::from_reader(name, reader(), zero_based) {
            svmlight::write(&copy, &x, &y).expect("rows are written");
            let back = svmlight::read(&copy, Some(false)).expect("what was written is read");
            assert_eq!(back, (x, y));
        }
    }
});
