//! Label ids and label names.

use std::collections::HashMap;
use std::path::Path;

use crate::error::{Error, Result};

/// Index of a label, from 0; a newtype because rows, features and tree nodes are `u32` too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelId(pub u32);

/// The names of all labels, in id order, as one text and offsets: two allocations for millions of labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSet {
    text: String,
    /// `[L + 1]` byte offsets into `text`.
    offsets: Vec<u64>,
}

impl LabelSet {
    /// Collects names in id order.
    pub fn new<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        let mut set = LabelSet { text: String::new(), offsets: vec![0] };
        for name in names {
            set.push(name.as_ref());
        }
        set
    }

    /// Names `0`, `1`, … for data that has ids only.
    pub fn numbered(num_labels: usize) -> Self {
        LabelSet::new((0..num_labels).map(|l| l.to_string()))
    }

    /// Appends a name and returns its id.
    pub fn push(&mut self, name: &str) -> LabelId {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        self.text.push_str(name);
        self.offsets.push(self.text.len() as u64);
        LabelId((self.len() - 1) as u32)
    }

    /// Number of labels L.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// True if there is no label.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Name of a label, if the id exists.
    pub fn get(&self, id: LabelId) -> Option<&str> {
        let l = id.0 as usize;
        let (start, end) = (*self.offsets.get(l)?, *self.offsets.get(l + 1)?);
        self.text.get(start as usize..end as usize)
    }

    /// All names in id order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.offsets.windows(2).map(|w| self.text.get(w[0] as usize..w[1] as usize).unwrap_or(""))
    }

    /// Name to id; an error names the first duplicate with its line.
    pub fn index(&self, path: &Path) -> Result<HashMap<&str, LabelId>> {
        let mut ids = HashMap::with_capacity(self.len());
        for (l, name) in self.iter().enumerate() {
            if let Some(LabelId(first)) = ids.insert(name, LabelId(l as u32)) {
                let expected = format!("label names that differ (line {} has the same)", first + 1);
                return Err(Error::parse(path, l as u64 + 1, name, expected));
            }
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_by_id() {
        let mut set = LabelSet::new(["sea", "", "mountain"]);
        assert_eq!(set.len(), 3);
        assert_eq!(set.get(LabelId(1)), Some(""));
        assert_eq!(set.push("river"), LabelId(3));
        assert_eq!(set.get(LabelId(3)), Some("river"));
        assert_eq!(set.get(LabelId(4)), None);
        assert_eq!(LabelSet::default().push("x"), LabelId(0));
    }

    #[test]
    fn a_duplicate_name_is_reported_with_both_lines() {
        let set = LabelSet::new(["a", "b", "a"]);
        let message = set.index(Path::new("Y.txt")).map(|_| ()).unwrap_err().to_string();
        assert_eq!(message, "Y.txt:3: found `a`, expected label names that differ (line 1 has the same)");
    }
}
