//! A tree that the user brings, in the files that libpecos writes.
//!
//! * A folder with `config.json` (`{"len": D}`) and `C0.npz` to `C{D-1}.npz`, from the root down: sparse matrices
//!   `[nodes of this level, nodes of the level above]` with one entry per row, or none where the node is pruned. The last has
//!   one row per label.
//! * One such matrix `[L, groups]`; the levels above are added as for balanced clustering.

use std::path::Path;

use serde::Deserialize;
use xmc_data::formats::npz;
use xmc_data::{Csr, Error, Result};

use super::chain::levels_above;
use super::config::ClusterConfig;
use crate::tree::Tree;

/// More levels than any tree has.
const MOST_LEVELS: usize = 64;

#[derive(Deserialize)]
struct ChainConfig {
    len: usize,
}

/// Reads the tree of `num_labels` labels at `path`.
pub fn read_tree(path: &Path, num_labels: usize, config: &ClusterConfig) -> Result<Tree> {
    config.check()?;
    let levels = if path.is_dir() { read_folder(path)? } else { read_groups(path, config)? };
    let found = levels.last().map_or(0, Vec::len);
    if found != num_labels {
        return Err(Error::file(
            path,
            format!("a tree of {found} labels, expected the {num_labels} of the data"),
        ));
    }
    let tree = Tree::from_parents(&levels).map_err(|e| Error::file(path, e.to_string()))?;
    if tree.labels().is_empty() {
        return Err(Error::file(path, "a tree without labels: every one is pruned"));
    }
    Ok(tree)
}

fn read_folder(path: &Path) -> Result<Vec<Vec<Option<u32>>>> {
    let config_path = path.join("config.json");
    let text = std::fs::read_to_string(&config_path).map_err(Error::io(&config_path))?;
    let config: ChainConfig = serde_json::from_str(&text)
        .map_err(|e| Error::file(&config_path, format!("expected {{\"len\": number of levels}}: {e}")))?;
    if !(1..=MOST_LEVELS).contains(&config.len) {
        let problem = format!("{} levels, expected 1 to {MOST_LEVELS}", config.len);
        return Err(Error::file(&config_path, problem));
    }
    let mut levels = Vec::with_capacity(config.len);
    let mut above = 1;
    for t in 0..config.len {
        let file = path.join(format!("C{t}.npz"));
        let matrix = npz::read(&file)?;
        if matrix.cols() != above {
            let problem =
                format!("nodes hang below {} others, but the level above has {above}", matrix.cols());
            return Err(Error::file(&file, problem));
        }
        above = matrix.rows();
        levels.push(parents(&matrix, &file)?);
    }
    Ok(levels)
}

fn read_groups(path: &Path, config: &ClusterConfig) -> Result<Vec<Vec<Option<u32>>>> {
    let matrix = npz::read(path)?;
    let (labels, groups) = (matrix.rows(), matrix.cols());
    if groups > labels {
        return Err(Error::file(
            path,
            format!("{groups} groups for {labels} labels, expected at most as many"),
        ));
    }
    let mut levels: Vec<Vec<Option<u32>>> = levels_above(matrix.cols(), config)
        .iter()
        .map(|ends| {
            let sizes = ends.array_windows().map(|&[from, to]| (to - from) as usize);
            sizes.enumerate().flat_map(|(p, size)| std::iter::repeat_n(Some(p as u32), size)).collect()
        })
        .collect();
    levels.push(parents(&matrix, path)?);
    Ok(levels)
}

/// Column of the one entry of each row.
fn parents(matrix: &Csr, path: &Path) -> Result<Vec<Option<u32>>> {
    let parent = |(i, row): (usize, xmc_data::Row<'_>)| match row.indices {
        [] => Ok(None),
        [parent] => Ok(Some(*parent)),
        more => Err(Error::file(path, format!("node {i} hangs below {} others, expected one", more.len()))),
    };
    matrix.iter().enumerate().map(parent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use xmc_data::CsrBuilder;

    /// Writes child -> parent as a matrix; `u32::MAX` is a pruned child.
    fn write(path: &Path, parents: &[u32], cols: usize) {
        let mut b = CsrBuilder::new();
        for &p in parents {
            b.push((p != u32::MAX).then_some((p, 1.0)));
        }
        npz::write(path, &b.finish(cols).unwrap()).unwrap();
    }

    fn read(path: &Path, num_labels: usize) -> std::result::Result<Tree, String> {
        read_tree(path, num_labels, &ClusterConfig::default()).map_err(|e| e.to_string())
    }

    #[test]
    fn one_matrix_gets_its_levels_above() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("C.npz");
        let groups: Vec<u32> = (0..80).map(|label| label % 40).collect();
        write(&file, &groups, 40);
        let tree = read(&file, 80).unwrap();
        assert_eq!((0..=3).map(|t| tree.width(t)).collect::<Vec<_>>(), [1, 3, 40, 80]);
        assert_eq!(&tree.labels()[..4], [0, 40, 1, 41]);
    }

    #[test]
    fn a_folder_is_read_from_the_root_down() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), r#"{"len": 2}"#).unwrap();
        write(&dir.path().join("C0.npz"), &[0, 0], 1);
        write(&dir.path().join("C1.npz"), &[1, 0, u32::MAX, 1], 2);
        assert_eq!(read(dir.path(), 4).unwrap().labels(), [1, 0, 3]);
    }

    #[test]
    fn damaged_trees_are_refused_by_file() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert!(read(dir.path(), 4).unwrap_err().contains("config.json"));
        std::fs::write(at("config.json"), "{").unwrap();
        assert!(read(dir.path(), 4).unwrap_err().contains("number of levels"));
        std::fs::write(at("config.json"), r#"{"len": 0}"#).unwrap();
        assert!(read(dir.path(), 4).unwrap_err().contains("0 levels"));
        std::fs::write(at("config.json"), r#"{"len": 2}"#).unwrap();
        assert!(read(dir.path(), 4).unwrap_err().contains("C0.npz"));
        write(&at("C0.npz"), &[0, 0], 1);
        write(&at("C1.npz"), &[1, 0, 2, 1], 3);
        assert!(read(dir.path(), 4).unwrap_err().contains("the level above has 2"));
        write(&at("C1.npz"), &[1, 0, 1], 2);
        assert!(read(dir.path(), 4).unwrap_err().contains("a tree of 3 labels, expected the 4"));
        write(&at("C1.npz"), &[u32::MAX; 4], 2);
        assert!(read(dir.path(), 4).unwrap_err().contains("every one is pruned"));
        write(&at("wide.npz"), &[0, 1], 4_000_000_000);
        assert!(read(&at("wide.npz"), 2).unwrap_err().contains("4000000000 groups for 2 labels"));
        std::fs::write(at("C1.npz"), b"PK").unwrap();
        assert!(read(dir.path(), 4).unwrap_err().contains("C1.npz"));
        let mut two = CsrBuilder::new();
        two.push([(0, 1.0), (1, 1.0)]);
        two.push([]);
        npz::write(&at("two.npz"), &two.finish(2).unwrap()).unwrap();
        assert!(read(&at("two.npz"), 2).unwrap_err().contains("node 0 hangs below 2 others"));
    }
}
