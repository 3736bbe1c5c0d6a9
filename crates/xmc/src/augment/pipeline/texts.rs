//! Stages that write: what generators are asked and answer, and the synthetic texts in the answers.

use std::path::Path;

use serde::{Deserialize, Serialize};
use xmc_data::Strings;
use xmc_data::formats::lines;

use super::Pipeline;
use crate::augment::asking::{Asking, Estimate, Kept};
use crate::augment::cache::Cache;
use crate::augment::config::{GeneratorKind, ParseConfig};
use crate::augment::files::STARTS;
use crate::augment::items::sources;
use crate::augment::parse::{Counts, Parser, Rules};
use crate::augment::questions::{self, GenerateReport};
use crate::augment::replay::replay;
use crate::augment::teach::{Prompts, TeachReport, draw, teach};
use crate::augment::template::Template;
use crate::augment::{Direction, Synthetic};
use crate::error::{Error, Result};

/// Folder of answers, and the file with the key of each source in it.
const GENERATED: &str = "generated";
const KEYS: &str = "keys.txt";

/// What was parsed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParseReport {
    /// What is written for.
    pub sources: usize,
    /// Sources with a synthetic text.
    pub with_texts: usize,
    /// Synthetic texts.
    pub texts: usize,
    /// Texts of a source: the least of a tenth of them, the median, the most of nine tenths.
    pub per_source: [usize; 3],
    /// What became of the lines of answers.
    pub lines: Counts,
}

impl Pipeline<'_> {
    /// Has the generator answer for every source that has no answer yet, and with `retry` for those where it failed.
    pub fn generate(&self, retry: bool) -> Result<GenerateReport> {
        let items = self.items()?;
        if self.config.generator.kind == GeneratorKind::Replay {
            return Ok(GenerateReport { sources: items.len(), ..GenerateReport::default() });
        }
        let asking = Asking::new(&self.config)?;
        let cut = |text: &str, tokens| asking.cut(text, tokens);
        let questions = asking.questions(&cut)?;
        let (mut cache, mut generator) = (self.cache()?, asking.generator()?);
        let (report, keys) =
            questions::generate(items, &questions, &mut cache, &mut *generator, retry, self.events)?;
        lines::write(&self.dir.join(GENERATED).join(KEYS), &Strings::new(keys))?;
        Ok(report)
    }

    /// What that would cost.
    pub fn estimate(&self, retry: bool) -> Result<Estimate> {
        if self.config.generator.kind == GeneratorKind::Replay {
            return Ok(Estimate { sources: self.items()?.len(), counted: true, ..Estimate::default() });
        }
        Asking::new(&self.config)?.estimate(self.items()?, &self.cache()?, retry)
    }

    /// Asks about `n` sources, rare and frequent ones evenly, and writes the answers as examples into `out`, from which a
    /// decoder learns to answer for the others. What it will read is the template `fields`.
    pub fn teach(&self, n: usize, out: &Path) -> Result<TeachReport> {
        if self.config.generator.kind == GeneratorKind::Replay {
            let expected = "extractive, decoder or http: a teacher that can be asked";
            return Err(xmc_data::Error::config("generator.kind", "replay", expected).into());
        }
        let items = self.items()?;
        let y = &self.data.train.y;
        let frequencies: Vec<u64> = match self.config.direction {
            Direction::Label => y.transpose().iter().map(|row| row.len() as u64).collect(),
            Direction::Instance => y.iter().map(|row| row.len() as u64).collect(),
        };
        let drawn = draw(&frequencies, n, self.config.seed);
        let asking = Asking::new(&self.config)?;
        let cut = |text: &str, tokens| asking.cut(text, tokens);
        let (questions, fields) = (asking.questions(&cut)?, Template::fields(self.config.direction));
        let asked = drawn.iter().filter_map(|&source| items.get(source as usize).cloned()).collect();
        let (mut cache, mut generator) = (self.cache()?, asking.generator()?);
        questions::generate(asked, &questions, &mut cache, &mut *generator, false, self.events)?;
        let prompts = Prompts {
            teacher: &|item| questions.prompt(item.clone()),
            student: &|item| fields.fill(item, &cut),
        };
        teach(out, &items, &drawn, &prompts, &mut Kept(&mut cache), self.events)
    }

    fn cache(&self) -> Result<Cache> {
        let cache = Cache::open(&self.dir.join(GENERATED))?;
        if cache.damaged() > 0 {
            self.events.message(&format!("{} damaged answers will be asked for again", cache.damaged()));
        }
        Ok(cache)
    }

    /// Cuts answers into synthetic texts, each once for a source; or takes those that were written before.
    pub fn parse(&self) -> Result<ParseReport> {
        let (synthetic, counts) = match self.config.generator.kind {
            GeneratorKind::Replay => (self.replayed()?, Counts::default()),
            _ => self.parsed()?,
        };
        let mut sizes: Vec<usize> = (0..synthetic.sources()).map(|i| synthetic.of(i).len()).collect();
        sizes.sort_unstable();
        let size = |tenths| sizes.get(sizes.len() * tenths / 10).copied().unwrap_or(0);
        let report = ParseReport {
            sources: sizes.len(),
            with_texts: sizes.iter().filter(|&&size| size > 0).count(),
            texts: synthetic.texts.len(),
            per_source: [size(1), size(5), size(9)],
            lines: counts,
        };
        synthetic.write(&self.dir)?;
        Ok(report)
    }

    fn parsed(&self) -> Result<(Synthetic, Counts)> {
        let path = self.after("generate", Path::new(GENERATED).join(KEYS))?;
        let items = self.items()?;
        let (keys, mut cache) = (lines::read(&path)?, self.cache()?);
        let asking = Asking::new(&self.config)?;
        let ParseConfig { max_per_item, drop_known } = self.config.parse;
        let mut parser = Parser::new(Rules { max_per_item, drop_known }, asking.lines());
        let (mut texts, mut levels, mut starts) = (Strings::default(), Vec::new(), vec![0]);
        if keys.len() != items.len() {
            let problem =
                format!("keys of {} sources, but the data have {}: generate again", keys.len(), items.len());
            return Err(Error::file(&path, problem));
        }
        for (item, key) in items.iter().zip(keys.iter()) {
            let missing =
                || Error::file(&path, format!("no answer for source {}: generate again", item.source));
            for (text, level) in parser.parse(&cache.get(key)?.ok_or_else(missing)?, item) {
                texts.push(&text);
                levels.push(level);
            }
            starts.push(texts.len() as u64);
        }
        Ok((Synthetic::new(texts, starts, levels)?, parser.counts().clone()))
    }

    fn replayed(&self) -> Result<Synthetic> {
        let unset = || xmc_data::Error::config("generator.path", "nothing", "the folder or file to replay");
        let path = self.config.generator.path.as_deref().ok_or_else(unset)?;
        replay(path, sources(&self.data, self.config.direction)?)
    }

    /// The synthetic texts that were parsed last.
    pub(super) fn synthetic(&self) -> Result<Synthetic> {
        self.after("parse", STARTS)?;
        let synthetic = Synthetic::read(&self.dir)?;
        let (found, sources) = (synthetic.sources(), sources(&self.data, self.config.direction)?.len());
        if found != sources {
            let problem = format!("texts of {found} sources, but the data have {sources}: parse again");
            return Err(Error::file(&self.dir.join(STARTS), problem));
        }
        Ok(synthetic)
    }
}
