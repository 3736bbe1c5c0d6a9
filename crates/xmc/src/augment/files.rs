//! What lies in a run folder, and how do the stages read each other's files?
//!
//! Those of the release of SKIM, so that its runs go on here and ours there, and JSON lines beside them:
//!
//! ```text
//! synthetic.jsonl        {"source", "k", "text", "level"} a line
//! raw_rewrites.txt       one synthetic text a line
//! start_indices.npy      i8 [sources + 1]
//! ngbr_indices_mat.npy   i4 [texts, k]
//! ngbr_scores_mat.npy    f4 [texts, k]: cosines
//! trn_X_Y_skim.npz       the augmented matrix, as scipy saves it
//! provenance.jsonl       where each new pair comes from
//! build.json             what was added, in numbers
//! ```

use std::path::Path;

use serde::{Deserialize, Serialize};
use xmc_data::Strings;
use xmc_data::formats::lines;
use xmc_data::formats::npy::Array;
use xmc_data::formats::source::{open_lines, write_text};

use super::{Neighbours, Synthetic};
use crate::error::{Error, Result};

/// Synthetic texts with their sources.
pub const SYNTHETIC: &str = "synthetic.jsonl";
/// Synthetic texts alone.
pub const TEXTS: &str = "raw_rewrites.txt";
/// Which texts belong to which source.
pub const STARTS: &str = "start_indices.npy";
/// Nearest targets.
pub const NEIGHBOURS: &str = "ngbr_indices_mat.npy";
/// Their cosines.
pub const COSINES: &str = "ngbr_scores_mat.npy";
/// The augmented matrix.
pub const AUGMENTED: &str = "trn_X_Y_skim.npz";
/// Where its new pairs come from.
pub const PROVENANCE: &str = "provenance.jsonl";
/// What was added, in numbers.
pub const BUILT: &str = "build.json";

/// A line of [`SYNTHETIC`].
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    source: u32,
    k: u32,
    #[serde(borrow)]
    text: std::borrow::Cow<'a, str>,
    #[serde(default)]
    level: u8,
}

impl Synthetic {
    /// Puts the parts together after checking that they fit.
    pub fn new(texts: Strings, starts: Vec<u64>, levels: Vec<u8>) -> Result<Self> {
        let fail = |problem: String| Err(Error::Mismatch(problem));
        if starts.first() != Some(&0) || !starts.is_sorted() {
            return fail("starts of synthetic texts must be numbers that rise from 0".to_owned());
        }
        if starts.last() != Some(&(texts.len() as u64)) || levels.len() != texts.len() {
            return fail(format!(
                "{} synthetic texts with {} levels, but their sources say {}: parse again",
                texts.len(),
                levels.len(),
                starts.last().copied().unwrap_or_default()
            ));
        }
        Ok(Synthetic { texts, starts, levels })
    }

    /// Writes the three files of synthetic texts.
    pub fn write(&self, run: &Path) -> Result<()> {
        write_text(&run.join(SYNTHETIC), |w| {
            for source in 0..self.sources() {
                for (k, text) in self.of(source).enumerate() {
                    let level = self.levels.get(text).copied().unwrap_or_default();
                    let text = self.texts.get(text).into();
                    serde_json::to_writer(
                        &mut *w,
                        &Line { source: source as u32, k: k as u32, text, level },
                    )?;
                    w.write_all(b"\n")?;
                }
            }
            Ok(())
        })?;
        lines::write(&run.join(TEXTS), &self.texts)?;
        let starts: Vec<i64> = self.starts.iter().map(|&at| at.cast_signed()).collect();
        Ok(Array::new(&[starts.len()], starts)?.write(&run.join(STARTS))?)
    }

    /// Reads the synthetic texts of a run: its JSON lines, or the two files of the release if there are none.
    pub fn read(run: &Path) -> Result<Self> {
        let starts = read_starts(&run.join(STARTS))?;
        let path = run.join(SYNTHETIC);
        let (texts, levels) = if path.exists() {
            read_lines(&path, &starts)?
        } else {
            let texts = lines::read(&run.join(TEXTS))?;
            let levels = vec![0; texts.len()];
            (texts, levels)
        };
        Synthetic::new(texts, starts, levels)
            .map_err(|problem| Error::file(&run.join(STARTS), problem.to_string()))
    }
}

/// Offsets of the texts of each source.
pub fn read_starts(path: &Path) -> Result<Vec<u64>> {
    let starts = Array::<i64>::read(path)?;
    let fail = |problem: String| Err(Error::file(path, problem));
    if starts.shape.len() != 1 {
        return fail(format!("an array of shape {:?}, expected one dimension", starts.shape));
    }
    if let Some(at) = starts.values.windows(2).position(|pair| pair[0] > pair[1]) {
        return fail(format!(
            "source {at} starts at {} and ends at {}",
            starts.values[at],
            starts.values[at + 1]
        ));
    }
    if starts.values.first() != Some(&0) {
        return fail(format!("begins with {:?}, expected 0", starts.values.first()));
    }
    Ok(starts.values.iter().map(|at| at.cast_unsigned()).collect())
}

/// Texts and levels, of which `starts` says whose they must be.
fn read_lines(path: &Path, starts: &[u64]) -> Result<(Strings, Vec<u8>)> {
    let (mut texts, mut levels) = (Strings::default(), Vec::new());
    let mut lines = open_lines(path)?;
    let mut source = 0;
    while lines.advance()? {
        let line: Line<'_> = serde_json::from_str(lines.line()).map_err(|problem| {
            let expected = format!("{{\"source\", \"k\", \"text\", \"level\"}}: {problem}");
            lines.error(lines.line(), expected)
        })?;
        while starts.get(source + 1).is_some_and(|&end| end <= texts.len() as u64) {
            source += 1;
        }
        if line.source as usize != source {
            let expected = format!("source {source}, as {STARTS} says: parse again");
            return Err(lines.error(&format!("source {}", line.source), expected).into());
        }
        texts.push(&line.text);
        levels.push(line.level);
    }
    Ok((texts, levels))
}

impl Neighbours {
    /// Writes the two files of neighbours.
    pub fn write(&self, run: &Path) -> Result<()> {
        let texts = self.ids.len() / self.k.max(1);
        Array::new(&[texts, self.k], self.ids.clone())?.write(&run.join(NEIGHBOURS))?;
        Ok(Array::new(&[texts, self.k], self.cosines.clone())?.write(&run.join(COSINES))?)
    }

    /// Reads the nearest `most` neighbours of each text of a run; the release stores 200 and uses 10.
    pub fn read(run: &Path, most: usize) -> Result<Self> {
        let (ids, cosines) = (run.join(NEIGHBOURS), run.join(COSINES));
        let found = Array::<i32>::read_columns(&ids, most)?;
        let scores = Array::<f32>::read_columns(&cosines, most)?;
        let &[_, k] = found.shape.as_slice() else {
            return Err(Error::file(&ids, format!("shape {:?}, expected [texts, k]", found.shape)));
        };
        if scores.shape != found.shape {
            let problem =
                format!("shape {:?}, but {NEIGHBOURS} has {:?}: map again", scores.shape, found.shape);
            return Err(Error::file(&cosines, problem));
        }
        Ok(Neighbours { k, ids: found.values, cosines: scores.values })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn synthetic() -> Synthetic {
        let texts = Strings::new(["blue whale", "a \"big\"\nfish", "größe"]);
        Synthetic::new(texts, vec![0, 2, 2, 3, 3], vec![0, 1, 0]).unwrap()
    }

    #[test]
    fn synthetic_texts_come_back_with_sources_that_have_none() {
        let run = tempfile::tempdir().unwrap();
        synthetic().write(run.path()).unwrap();
        let back = Synthetic::read(run.path()).unwrap();
        assert_eq!(back, synthetic());
        assert_eq!(
            (back.sources(), back.of(0), back.of(1), back.of(3), back.of(4)),
            (4, 0..2, 2..2, 3..3, 0..0)
        );
        // The files of the release know neither levels nor line ends within a text.
        fs::remove_file(run.path().join(SYNTHETIC)).unwrap();
        let back = Synthetic::read(run.path()).unwrap();
        assert_eq!(back.texts, Strings::new(["blue whale", "a \"big\" fish", "größe"]));
        assert_eq!((back.starts, back.levels), (synthetic().starts, vec![0; 3]));
    }

    #[test]
    fn neighbours_come_back_whole_or_the_nearest_of_them() {
        let run = tempfile::tempdir().unwrap();
        let all =
            Neighbours { k: 3, ids: vec![4, 2, -1, 0, 1, 2], cosines: vec![0.9, 0.1, 0.0, 1.0, 0.5, 0.25] };
        all.write(run.path()).unwrap();
        assert_eq!(Neighbours::read(run.path(), 10).unwrap(), all);
        let two = Neighbours { k: 2, ids: vec![4, 2, 0, 1], cosines: vec![0.9, 0.1, 1.0, 0.5] };
        assert_eq!(Neighbours::read(run.path(), 2).unwrap(), two);
        let none = Neighbours { k: 3, ..Neighbours::default() };
        none.write(run.path()).unwrap();
        assert_eq!(Neighbours::read(run.path(), 10).unwrap(), none);
    }

    #[test]
    fn files_that_do_not_fit_are_named() {
        let run = tempfile::tempdir().unwrap();
        let message = || Synthetic::read(run.path()).unwrap_err().to_string();
        synthetic().write(run.path()).unwrap();
        let path = run.path().join(SYNTHETIC);
        let content = fs::read_to_string(&path).unwrap();
        fs::write(&path, content.replace("\"source\":2", "\"source\":1")).unwrap();
        assert!(
            message().contains("synthetic.jsonl:3: found `source 1`, expected source 2"),
            "{}",
            message()
        );
        fs::write(&path, content.replace("\"text\"", "\"txt\"")).unwrap();
        assert!(
            message().contains("synthetic.jsonl:1:") && message().contains("missing field"),
            "{}",
            message()
        );
        fs::write(&path, content.lines().take(2).collect::<Vec<_>>().join("\n")).unwrap();
        assert!(
            message().contains("start_indices.npy: 2 synthetic texts with 2 levels, but"),
            "{}",
            message()
        );
        Array::new(&[3], vec![0i64, 3, 2]).unwrap().write(&run.path().join(STARTS)).unwrap();
        assert!(message().contains("start_indices.npy: source 1 starts at 3 and ends at 2"), "{}", message());
        let a = Neighbours { k: 1, ids: vec![1], cosines: vec![0.5] };
        a.write(run.path()).unwrap();
        Array::new(&[1, 2], vec![0.5f32, 0.25]).unwrap().write(&run.path().join(COSINES)).unwrap();
        let message = Neighbours::read(run.path(), 10).unwrap_err().to_string();
        assert!(message.contains("ngbr_scores_mat.npy: shape [1, 2], but"), "{message}");
    }
}
