//! What is written about every setting, once: help, messages and the did-you-mean read it from here.

/// A table of a configuration file.
#[derive(Debug)]
pub struct Group {
    /// Name of the table; empty for the top level.
    pub name: &'static str,
    /// What the settings in it decide.
    pub meaning: &'static str,
    /// Its settings in the order of explanation.
    pub keys: &'static [Key],
}

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Name within its table.
    pub name: &'static str,
    /// What it decides.
    pub meaning: &'static str,
    /// Which values it takes, as the end of "expected …".
    pub allowed: &'static str,
}

impl Group {
    /// Full name of a key of this group: `cluster.seed`, or `weights` at the top level.
    pub(crate) fn path(&self, key: &Key) -> String {
        if self.name.is_empty() { key.name.to_owned() } else { format!("{}.{}", self.name, key.name) }
    }
}

/// The key that `path` (without list positions) names.
pub(super) fn find(groups: &'static [Group], path: &str) -> Option<&'static Key> {
    groups.iter().find_map(|group| group.keys.iter().find(|key| group.path(key) == path))
}

/// The known key that the writer of `path` most likely meant: the same name in another table, or a name a few typing
/// errors away.
pub(super) fn nearest(groups: &'static [Group], path: &str) -> Option<String> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let known = || groups.iter().flat_map(|group| group.keys.iter().map(|key| group.path(key)));
    known().find(|candidate| last(candidate) == last(path)).or_else(|| {
        let group = |path: &str| path.rsplit_once('.').map_or(String::new(), |(group, _)| group.to_owned());
        // A name in another table is a little further away.
        let errors = |known: &String| {
            2 * strsim::damerau_levenshtein(&last(known), &last(path))
                + usize::from(group(known) != group(path))
        };
        known()
            .min_by_key(errors)
            .filter(|known| errors(known) <= 1 + 2 * last(path).chars().count().div_ceil(4))
    })
}
