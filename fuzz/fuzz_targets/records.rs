//! Texts with labels as JSON lines, CSV and TSV, with guessed and with given fields: no panic, no endless loop.
#![no_main]

use std::io::Cursor;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use xmc_data::formats::fields::{FieldOptions, Record};
use xmc_data::formats::jsonl::Jsonl;
use xmc_data::formats::table::{Delimiter, Table};

fuzz_target!(|data: &[u8]| {
    let name = Path::new("input");
    let reader = || Box::new(Cursor::new(data.to_vec()));
    let mut record = Record::default();
    let given = |text: &str, labels: &str| FieldOptions {
        text: vec![text.to_owned()],
        labels: Some(labels.to_owned()),
        ..FieldOptions::default()
    };
    for options in [FieldOptions::default(), given("t", "l")] {
        if let Ok(mut file) = Jsonl::from_reader(name, reader(), &options) {
            let _ = file.guess().to_string();
            while file.read(&mut record).unwrap_or(false) {}
        }
    }
    let without_header = FieldOptions { header: Some(false), ..given("1", "2") };
    for delimiter in [Delimiter::Comma, Delimiter::Tab, Delimiter::Semicolon] {
        for options in [FieldOptions::default(), without_header.clone()] {
            if let Ok(mut table) = Table::from_reader(name, reader(), delimiter, &options) {
                let _ = table.guess().to_string();
                while table.read(&mut record).unwrap_or(false) {}
            }
        }
    }
});
