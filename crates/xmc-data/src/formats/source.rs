//! How are text files opened, whatever they are packed in?
//!
//! `.gz` and `.zst` are recognised by their first bytes, so a compressed file under any name is read; a file whose
//! *name* promises compression but whose bytes do not is an error rather than garbage. `-` is standard input.
//! Nothing here holds more than one line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::atomic::write_atomically;
use crate::error::{Error, Result};

/// Bytes asked of the system at once.
const BUFFER: usize = 1 << 17;
/// Higher levels save a tenth of the size for ten times the time and 100 MB of memory.
const ZSTD_LEVEL: i32 = 9;
/// UTF-8 byte-order mark, as Windows programs write it.
pub(crate) const MARK: &[u8] = "\u{feff}".as_bytes();
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// How the bytes of a file are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As they are.
    Plain,
    /// gzip, `.gz`
    Gzip,
    /// Zstandard, `.zst`
    Zstd,
}

impl Packing {
    /// What the name of a file promises.
    pub fn of_name(path: &Path) -> Packing {
        match path.extension().and_then(|e| e.to_str()) {
            Some("gz") => Packing::Gzip,
            Some("zst") => Packing::Zstd,
            _ => Packing::Plain,
        }
    }

    /// Ending of a file name, with its dot.
    pub fn suffix(self) -> &'static str {
        match self {
            Packing::Plain => "",
            Packing::Gzip => ".gz",
            Packing::Zstd => ".zst",
        }
    }

    fn of_bytes(start: &[u8]) -> Packing {
        if start.starts_with(GZIP_MAGIC) {
            Packing::Gzip
        } else if start.starts_with(ZSTD_MAGIC) {
            Packing::Zstd
        } else {
            Packing::Plain
        }
    }
}

/// The name without `.gz` or `.zst`: what is inside.
pub fn inner_name(path: &Path) -> PathBuf {
    match Packing::of_name(path) {
        Packing::Plain => path.to_owned(),
        Packing::Gzip | Packing::Zstd => path.with_extension(""),
    }
}

/// Opens a file, or standard input for `-`, for buffered reading of its unpacked bytes.
pub fn open_bytes(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    if path.as_os_str() == "-" {
        return unpack(path, BufReader::with_capacity(BUFFER, io::stdin()));
    }
    let file = File::open(path).map_err(Error::io(path))?;
    if file.metadata().map_err(Error::io(path))?.is_dir() {
        return Err(Error::file(path, "is a folder, expected a file"));
    }
    unpack(path, BufReader::with_capacity(BUFFER, file))
}

fn unpack(path: &Path, mut raw: BufReader<impl Read + Send + 'static>) -> Result<Box<dyn BufRead + Send>> {
    // One read of a file or pipe gives at least four bytes unless there are fewer.
    let found = Packing::of_bytes(raw.fill_buf().map_err(Error::io(path))?);
    let promised = Packing::of_name(path);
    if promised != Packing::Plain && found != promised {
        let suffix = promised.suffix();
        return Err(Error::file(
            path,
            format!("the name ends in `{suffix}`, but the content is not such data (empty or truncated?)"),
        ));
    }
    Ok(match found {
        Packing::Plain => Box::new(raw),
        Packing::Gzip => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(raw))),
        Packing::Zstd => {
            let decoder = zstd::Decoder::with_buffer(raw).map_err(Error::io(path))?;
            Box::new(BufReader::with_capacity(BUFFER, decoder))
        }
    })
}

/// Turns a failure while reading into an error that says whether the system or the content is to blame.
pub(crate) fn read_error(path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => Error::file(path, format!("truncated: {source}")),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
            Error::file(path, format!("damaged: {source}"))
        }
        _ => Error::Io { path: path.to_owned(), source },
    }
}

/// The lines of a text file, one at a time, without their ends (`\n` or `\r\n`) and without a byte-order mark.
pub struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    line: String,
    number: u64,
}

/// Opens a text file, or standard input for `-`, for reading line by line.
pub fn open_lines(path: impl AsRef<Path>) -> Result<Lines> {
    let path = path.as_ref();
    Ok(Lines::new(path, open_bytes(path)?))
}

impl Lines {
    /// Reads lines from `reader`; `path` is for messages.
    pub fn new(path: &Path, reader: Box<dyn BufRead + Send>) -> Self {
        Lines { path: path.to_owned(), reader, line: String::new(), number: 0 }
    }

    /// The next line, or `None` at the end. A last line without an end counts, an empty rest after the last end
    /// does not.
    pub fn next_line(&mut self) -> Result<Option<&str>> {
        Ok(self.advance()?.then_some(self.line.as_str()))
    }

    /// Moves to the next line, which [`Lines::line`] then gives; false at the end.
    pub fn advance(&mut self) -> Result<bool> {
        let mut line = std::mem::take(&mut self.line).into_bytes();
        line.clear();
        let read = self.reader.read_until(b'\n', &mut line).map_err(|e| read_error(&self.path, e))?;
        if read == 0 {
            return Ok(false);
        }
        self.number += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if self.number == 1 && line.starts_with(MARK) {
            line.drain(..MARK.len());
        }
        self.line = String::from_utf8(line).map_err(|e| not_utf8(&self.path, self.number, e.as_bytes()))?;
        Ok(true)
    }

    /// The line moved to last.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Number of that line, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An error about that line.
    pub fn error(&self, value: &str, expected: impl Into<String>) -> Error {
        Error::parse(&self.path, self.number, value, expected)
    }
}

/// The error for bytes that are no text, with the likely cause.
pub(crate) fn not_utf8(path: &Path, number: u64, line: &[u8]) -> Error {
    let utf16 = number == 1 && (line.starts_with(&[0xff, 0xfe]) || line.starts_with(&[0xfe, 0xff]));
    let expected = if utf16 {
        "UTF-8 text (this file is UTF-16; convert it with `iconv -f UTF-16 -t UTF-8`)"
    } else {
        "UTF-8 text (if the file is Latin-1, convert it with `iconv -f LATIN1 -t UTF-8`)"
    };
    // Show the place of the first wrong byte, not the start of a long line.
    let valid = std::str::from_utf8(line).map_or_else(|e| e.valid_up_to(), str::len);
    let shown = line.get(valid.saturating_sub(20)..).unwrap_or(line);
    Error::parse(path, number, &String::from_utf8_lossy(shown), expected)
}

/// Writes a file atomically, packed as its name says.
pub fn write_text(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    write_atomically(path, |file| {
        let written = match Packing::of_name(path) {
            Packing::Plain => write(file),
            Packing::Gzip => {
                let mut packed = GzEncoder::new(file, Compression::best());
                write(&mut packed).and_then(|()| packed.finish().map(|_| ()))
            }
            Packing::Zstd => zstd_encoder(file).and_then(|mut packed| {
                write(&mut packed)?;
                packed.finish().map(|_| ())
            }),
        };
        written.map_err(Error::io(path))
    })
}

fn zstd_encoder<W: Write>(file: W) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(file, ZSTD_LEVEL)?;
    // Without it a flipped bit would go unnoticed.
    encoder.include_checksum(true)?;
    Ok(encoder)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all_lines(path: &Path) -> Result<Vec<String>> {
        let mut lines = open_lines(path)?;
        let mut all = Vec::new();
        while let Some(line) = lines.next_line()? {
            all.push(line.to_owned());
        }
        Ok(all)
    }

    fn written(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    proptest! {
        // Each case writes and syncs files.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn lines_come_back_from_every_packing(
            lines in proptest::collection::vec("[^\r\n\u{feff}]{0,30}", 0..20),
        ) {
            for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join(format!("a.txt{}", packing.suffix()));
                write_text(&path, |w| lines.iter().try_for_each(|l| writeln!(w, "{l}"))).unwrap();
                prop_assert_eq!(&all_lines(&path).unwrap(), &lines);
            }
        }
    }

    #[test]
    fn marks_and_line_ends_of_other_systems_are_removed() {
        let (_dir, path) = written("a.txt", "\u{feff}one\r\ntwo\r\n\nlast".as_bytes());
        assert_eq!(all_lines(&path).unwrap(), ["one", "two", "", "last"]);
    }

    #[test]
    fn compressed_content_is_found_under_a_plain_name() {
        let dir = tempfile::tempdir().unwrap();
        let (packed, plain) = (dir.path().join("a.txt.gz"), dir.path().join("a.txt"));
        write_text(&packed, |w| w.write_all(b"one\n")).unwrap();
        std::fs::rename(&packed, &plain).unwrap();
        assert_eq!(all_lines(&plain).unwrap(), ["one"]);
    }

    #[test]
    fn several_gzip_members_are_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gz");
        write_text(&path, |w| w.write_all(b"one\n")).unwrap();
        let member = std::fs::read(&path).unwrap();
        std::fs::write(&path, [member.clone(), member].concat()).unwrap();
        assert_eq!(all_lines(&path).unwrap(), ["one", "one"]);
    }

    #[test]
    fn bytes_that_are_no_utf8_are_reported_with_their_line() {
        let (_dir, path) = written("a.txt", b"fine\ncaf\xe9\n");
        let message = all_lines(&path).unwrap_err().to_string();
        assert!(message.contains("a.txt:2: found `caf\u{fffd}`, expected UTF-8 text"), "{message}");
        let (_dir, path) = written("a.txt", b"\xff\xfea\0b\0\n\0");
        assert!(all_lines(&path).unwrap_err().to_string().contains("this file is UTF-16"));
    }
}
