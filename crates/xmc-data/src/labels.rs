//! Label ids and label names.

use std::collections::HashMap;

use crate::strings::Strings;

/// Index of a label, from 0; a newtype because rows, features and tree nodes are `u32` too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelId(pub u32);

/// The names of all labels, in id order. Names may repeat: real vocabularies have labels that differ only in their
/// identifier, and a model must still give back each of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSet {
    names: Strings,
}

impl LabelSet {
    /// Collects names in id order.
    pub fn new<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        LabelSet { names: Strings::new(names) }
    }

    /// Names `0`, `1`, … for data that has ids only.
    pub fn numbered(num_labels: usize) -> Self {
        LabelSet::new((0..num_labels).map(|l| l.to_string()))
    }

    /// Appends a name and returns its id.
    pub fn push(&mut self, name: &str) -> LabelId {
        self.names.push(name);
        LabelId((self.len() - 1) as u32)
    }

    /// Number of labels L.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// True if there is no label.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Name of a label, if the id exists.
    pub fn get(&self, id: LabelId) -> Option<&str> {
        let l = id.0 as usize;
        (l < self.len()).then(|| self.names.get(l))
    }

    /// All names in id order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter()
    }

    /// The names as texts, for saving them or making features of them.
    pub fn names(&self) -> &Strings {
        &self.names
    }

    /// Name to id; of labels with one name the first.
    pub fn index(&self) -> HashMap<&str, LabelId> {
        let mut ids = HashMap::with_capacity(self.len());
        for (l, name) in self.iter().enumerate() {
            ids.entry(name).or_insert(LabelId(l as u32));
        }
        ids
    }

    /// Number of labels whose name an earlier label has already.
    pub fn repeated(&self) -> usize {
        self.len() - self.index().len()
    }
}

impl From<Strings> for LabelSet {
    fn from(names: Strings) -> Self {
        LabelSet { names }
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
    fn a_repeated_name_is_kept_counted_and_found_under_its_first_id() {
        let set = LabelSet::new(["a", "b", "a"]);
        assert_eq!(set.repeated(), 1);
        assert_eq!(set.index()["a"], LabelId(0));
        assert_eq!(set.get(LabelId(2)), Some("a"));
    }
}
