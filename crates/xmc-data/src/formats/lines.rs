//! How are plain lists read and written: one text or one label name a line?

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::source::{Packing, open_lines, write_text};
use crate::error::Result;
use crate::strings::Strings;

/// All lines of a file; empty lines are empty texts.
pub fn read(path: &Path) -> Result<Strings> {
    // Doubling a buffer of gigabytes would cost half as much again; a plain file says its size.
    let bytes = match Packing::of_name(path) {
        Packing::Plain => fs::metadata(path).map_or(0, |m| m.len() as usize),
        Packing::Gzip | Packing::Zstd => 0,
    };
    let mut texts = Strings::with_capacity(0, bytes);
    let mut lines = open_lines(path)?;
    while let Some(line) = lines.next_line()? {
        texts.push(line);
    }
    texts.shrink_to_fit();
    Ok(texts)
}

/// Writes one text a line; line ends inside a text become blanks, because here a line is a row.
pub fn write(path: &Path, texts: &Strings) -> Result<()> {
    write_text(path, |w| texts.iter().try_for_each(|text| write_line(w, text)))
}

fn write_line(w: &mut dyn Write, text: &str) -> io::Result<()> {
    if text.contains(['\n', '\r']) {
        writeln!(w, "{}", text.replace("\r\n", " ").replace(['\n', '\r'], " "))
    } else {
        writeln!(w, "{text}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        // Each case writes and syncs files.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn texts_without_line_ends_come_back(
            texts in proptest::collection::vec("[^\r\n\u{feff}]{0,20}", 0..12),
        ) {
            let dir = tempfile::tempdir().unwrap();
            for name in ["a.txt", "a.txt.gz", "a.txt.zst"] {
                let path = dir.path().join(name);
                write(&path, &Strings::new(&texts)).unwrap();
                prop_assert_eq!(read(&path).unwrap(), Strings::new(&texts));
            }
        }
    }

    #[test]
    fn a_text_of_several_lines_stays_one_row() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write(&path, &Strings::new(["one\r\ntwo\nthree", "four"])).unwrap();
        assert_eq!(read(&path).unwrap(), Strings::new(["one two three", "four"]));
    }
}
