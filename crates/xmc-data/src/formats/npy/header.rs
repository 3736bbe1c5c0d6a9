//! What does the header of a numpy array say?
//!
//! `\x93NUMPY`, version (2 bytes), header length (u16, or u32 from version 2 on), then a Python dictionary such as
//! `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }` padded with blanks.

use std::io::{self, Read, Write};

use super::Checked;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Headers of plain arrays have about 118 bytes; anything beyond this is damage, not data.
const MAX_HEADER: usize = 1 << 16;

/// Type, order and size of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Kind of the elements: `f` float, `i` and `u` integer, `b` bool, `S` bytes, `U` text.
    pub(crate) kind: char,
    /// Bytes of an element (characters for `U`).
    pub(crate) size: usize,
    pub(crate) big_endian: bool,
    /// First index runs fastest.
    pub(crate) fortran: bool,
    pub(crate) shape: Vec<u64>,
}

impl Header {
    /// A little-endian array in C order.
    pub(crate) fn new(kind: char, size: usize, shape: &[u64]) -> Self {
        Header { kind, size, big_endian: false, fortran: false, shape: shape.to_vec() }
    }

    /// The type as numpy writes it.
    pub(crate) fn descr(&self) -> String {
        let order = match self {
            Header { size: 1, .. } | Header { kind: 'S', .. } => '|',
            Header { big_endian: true, .. } => '>',
            _ => '<',
        };
        format!("{order}{}{}", self.kind, self.size)
    }

    /// Number of elements, if it fits.
    pub(crate) fn count(&self) -> Option<u64> {
        self.shape.iter().try_fold(1u64, |n, &side| n.checked_mul(side))
    }

    /// Bytes of an element.
    pub(crate) fn item_bytes(&self) -> u64 {
        let width = if self.kind == 'U' { 4 } else { 1 };
        (self.size as u64).saturating_mul(width)
    }

    /// Reads a header, leaving `reader` at the first element; the error says what is wrong.
    pub(crate) fn read(reader: &mut dyn Read) -> Checked<Self> {
        let short = |e: io::Error| format!("truncated or damaged header: {e}");
        let mut start = [0; 8];
        reader.read_exact(&mut start).map_err(short)?;
        if !start.starts_with(MAGIC) {
            return Err("not a numpy array (.npy)".into());
        }
        let len = match start[6] {
            1 => {
                let mut len = [0; 2];
                reader.read_exact(&mut len).map_err(short)?;
                usize::from(u16::from_le_bytes(len))
            }
            2 | 3 => {
                let mut len = [0; 4];
                reader.read_exact(&mut len).map_err(short)?;
                u32::from_le_bytes(len) as usize
            }
            version => return Err(format!("numpy format version {version}, expected 1 to 3")),
        };
        if len > MAX_HEADER {
            return Err(format!("damaged header: it claims to have {len} bytes"));
        }
        let mut text = vec![0; len];
        reader.read_exact(&mut text).map_err(short)?;
        let text = std::str::from_utf8(&text).map_err(|_| "damaged header: not text".to_owned())?;
        Header::parse(text)
            .ok_or_else(|| format!("unsupported numpy type or damaged header `{}`", text.trim()))
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let rest = &text[text.find(key)? + key.len()..];
            Some(rest.trim_start().strip_prefix(':')?.trim_start())
        };
        let descr = value("'descr'")?.strip_prefix('\'')?;
        let descr = &descr[..descr.find('\'')?];
        let mut letters = descr.chars();
        let order = letters.next()?;
        let kind = letters.next().filter(|k| "fiubSU".contains(*k))?;
        let size = letters.as_str().parse().ok()?;
        let fortran = value("'fortran_order'")?.starts_with("True");
        let sides = value("'shape'")?.strip_prefix('(')?;
        let shape = sides[..sides.find(')')?]
            .split(',')
            .map(|side| side.trim().trim_end_matches('L'))
            .filter(|side| !side.is_empty())
            .map(|side| side.parse().ok())
            .collect::<Option<Vec<u64>>>()?;
        Some(Header { kind, size, big_endian: order == '>', fortran, shape })
    }

    /// Writes the header in version 1, padded so that the elements start at a multiple of 64 bytes.
    pub(crate) fn write(&self, writer: &mut dyn Write) -> io::Result<()> {
        let mut sides = String::new();
        for side in &self.shape {
            sides.push_str(&side.to_string());
            sides.push_str(", ");
        }
        let order = if self.fortran { "True" } else { "False" };
        let mut text = format!(
            "{{'descr': '{}', 'fortran_order': {order}, 'shape': ({}), }}",
            self.descr(),
            sides.trim_end()
        );
        let before = MAGIC.len() + 4;
        while !(before + text.len() + 1).is_multiple_of(64) {
            text.push(' ');
        }
        text.push('\n');
        writer.write_all(MAGIC)?;
        writer.write_all(&[1, 0])?;
        writer.write_all(&(text.len() as u16).to_le_bytes())?;
        writer.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_headers_are_read_back_and_aligned() {
        for shape in [&[][..], &[7], &[3, 1_000_000]] {
            for header in [Header::new('f', 4, shape), Header::new('b', 1, shape), Header::new('S', 3, shape)]
            {
                let mut bytes = Vec::new();
                header.write(&mut bytes).unwrap();
                assert_eq!(bytes.len() % 64, 0);
                assert_eq!(Header::read(&mut bytes.as_slice()).unwrap(), header);
            }
        }
    }

    #[test]
    fn spellings_of_old_pythons_are_read() {
        let header = Header::parse("{'descr': '>i8', 'fortran_order': True, 'shape': (3L, 4L), }").unwrap();
        assert_eq!((header.big_endian, header.fortran, header.shape), (true, true, vec![3, 4]));
    }

    #[test]
    fn sizes_that_overflow_are_not_wrapped() {
        assert_eq!(Header::new('f', 4, &[1 << 40, 1 << 40]).count(), None);
        assert_eq!(Header::new('U', usize::MAX, &[]).item_bytes(), u64::MAX);
    }
}
