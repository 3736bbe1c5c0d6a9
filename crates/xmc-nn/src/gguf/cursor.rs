//! How is metadata read without trusting it? Every step asks whether the file has the bytes; arrays are walked and
//! remembered as a place.

use std::fmt;
use std::ops::Range;

/// How deep arrays of arrays may go; files have none.
const DEPTH: usize = 4;

/// A position in the bytes of a file.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The value of a key; what is long stays in the file.
#[derive(Debug)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(Range<usize>),
    Array(Array),
}

/// Values of one kind, walked once: all of them lie in the file.
#[derive(Debug)]
pub(super) struct Array {
    kind: Kind,
    len: usize,
    /// First byte of the first value.
    start: usize,
}

/// Kinds of values, with the numbers of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    fn of(number: u32) -> Result<Self, String> {
        const ALL: [Kind; 13] = [
            Kind::U8,
            Kind::I8,
            Kind::U16,
            Kind::I16,
            Kind::U32,
            Kind::I32,
            Kind::F32,
            Kind::Bool,
            Kind::Text,
            Kind::Array,
            Kind::U64,
            Kind::I64,
            Kind::F64,
        ];
        let kind = ALL.get(number as usize);
        kind.copied().ok_or_else(|| format!("has a value of kind {number}; expected 0 to 12"))
    }

    /// Bytes of a value, where all have the same.
    fn width(self) -> Option<usize> {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => Some(1),
            Kind::U16 | Kind::I16 => Some(2),
            Kind::U32 | Kind::I32 | Kind::F32 => Some(4),
            Kind::U64 | Kind::I64 | Kind::F64 => Some(8),
            Kind::Text | Kind::Array => None,
        }
    }
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Cursor { bytes, at }
    }

    /// The next byte to be read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next `len` bytes.
    fn take(&mut self, len: u64) -> Result<Range<usize>, String> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        match end.filter(|&end| end <= self.bytes.len()) {
            Some(end) => Ok(std::mem::replace(&mut self.at, end)..end),
            None => Err(format!(
                "{len} bytes at byte {} do not lie in a file of {}; it is truncated or damaged",
                self.at,
                self.bytes.len()
            )),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let range = self.take(N as u64)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[range]);
        Ok(array)
    }

    pub(super) fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<Range<usize>, String> {
        let len = self.u64()?;
        self.take(len)
    }

    /// The name of a `what`.
    pub(super) fn name(&mut self, what: &str) -> Result<String, String> {
        let range = self.text().map_err(|problem| format!("name of a {what}: {problem}"))?;
        let name = std::str::from_utf8(&self.bytes[range]);
        name.map(str::to_owned).map_err(|_| format!("the name of a {what} is no UTF-8; the file is damaged"))
    }

    /// A kind and a value of it.
    pub(super) fn value(&mut self) -> Result<Value, String> {
        let kind = Kind::of(self.u32()?)?;
        Ok(match kind {
            Kind::Text => Value::Text(self.text()?),
            Kind::Array => Value::Array(self.walk_array(0)?),
            number => self.number(number)?,
        })
    }

    /// A value that is neither a text nor an array.
    fn number(&mut self, kind: Kind) -> Result<Value, String> {
        Ok(match kind {
            Kind::U8 => Value::Unsigned(u8::from_le_bytes(self.array()?).into()),
            Kind::I8 => Value::Signed(i8::from_le_bytes(self.array()?).into()),
            Kind::U16 => Value::Unsigned(u16::from_le_bytes(self.array()?).into()),
            Kind::I16 => Value::Signed(i16::from_le_bytes(self.array()?).into()),
            Kind::U32 => Value::Unsigned(self.u32()?.into()),
            Kind::I32 => Value::Signed(i32::from_le_bytes(self.array()?).into()),
            Kind::F32 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            Kind::Bool => Value::Bool(self.array::<1>()? != [0]),
            Kind::U64 => Value::Unsigned(self.u64()?),
            Kind::I64 => Value::Signed(i64::from_le_bytes(self.array()?)),
            Kind::F64 => Value::Float(f64::from_le_bytes(self.array()?)),
            Kind::Text | Kind::Array => return Err("a list where a number must be".to_owned()),
        })
    }

    /// Goes over an array. Every value has a byte at least, so that the file's end ends the walk.
    fn walk_array(&mut self, depth: usize) -> Result<Array, String> {
        if depth == DEPTH {
            return Err(format!("lists lie more than {DEPTH} deep in each other"));
        }
        let kind = Kind::of(self.u32()?)?;
        let len = self.u64()?;
        let start = self.at;
        match kind.width() {
            Some(width) => _ = self.take(len.saturating_mul(width as u64))?,
            None => {
                for _ in 0..len {
                    if kind == Kind::Text { _ = self.text()? } else { _ = self.walk_array(depth + 1)? }
                }
            }
        }
        let len = usize::try_from(len).map_err(|_| format!("has {len} values"))?;
        Ok(Array { kind, len, start })
    }
}

impl Array {
    /// All texts, out of the bytes of the file.
    pub(super) fn texts<'a>(&self, bytes: &'a [u8]) -> Result<Vec<&'a str>, String> {
        if self.kind != Kind::Text {
            return Err(format!("is {self}"));
        }
        let mut cursor = Cursor::new(bytes, self.start);
        (0..self.len)
            .map(|i| {
                let range = cursor.text()?;
                std::str::from_utf8(&bytes[range]).map_err(|_| format!("holds no UTF-8 at place {i}"))
            })
            .collect()
    }

    /// All numbers, out of the bytes of the file.
    pub(super) fn numbers(&self, bytes: &[u8]) -> Result<Vec<f64>, String> {
        let mut cursor = Cursor::new(bytes, self.start);
        (0..self.len)
            .map(|_| match cursor.number(self.kind) {
                Ok(Value::Unsigned(n)) => Ok(n as f64),
                Ok(Value::Signed(n)) => Ok(n as f64),
                Ok(Value::Float(x)) => Ok(x),
                _ => Err(format!("is {self}")),
            })
            .collect()
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Unsigned(n) => n.fmt(f),
            Value::Signed(n) => n.fmt(f),
            Value::Float(x) => x.fmt(f),
            Value::Bool(flag) => flag.fmt(f),
            Value::Text(_) => f.write_str("a text"),
            Value::Array(array) => array.fmt(f),
        }
    }
}

impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {} values of kind {:?}", self.len, self.kind)
    }
}
