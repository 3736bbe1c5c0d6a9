//! Which prompts are there, and which are answered? Each item's prompt has a key, and what a key was answered is kept.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

use super::cache::Cache;
use super::template::Template;
use super::{Answer, Finish, Generate, Item, Prompt};
use crate::error::{Error, Result};
use crate::events::Events;

/// How items become prompts with keys.
pub struct Questions<'a> {
    /// What a language model reads; none for generators that read the item.
    pub template: Option<&'a Template>,
    /// Shortens a text to so many tokens.
    pub cut: &'a dyn Fn(&str, usize) -> Result<String>,
    /// Who answers.
    pub model_id: String,
    /// What else answers depend on: temperature, lengths.
    pub params: serde_json::Value,
    /// Of all draws.
    pub seed: u64,
}

impl Questions<'_> {
    /// The prompt of an item. Items that are alike have the same, but for the source.
    ///
    /// # Errors
    /// If the item lacks what the template requires.
    pub fn prompt(&self, item: Item) -> Result<Prompt> {
        let text = match self.template {
            Some(template) => template.fill(&item, self.cut)?,
            None => String::new(),
        };
        // What a language model does not read makes no difference to its answer.
        let read = if self.template.is_some() { None } else { Some((&item.text, &item.meta)) };
        let all = serde_json::to_string(&(&self.model_id, &self.params, self.seed, &text, read));
        let all = all.map_err(|problem| Error::Mismatch(format!("source {}: {problem}", item.source)))?;
        let hash = xxh3_128(all.as_bytes());
        let seed = xxh3_64_with_seed(&hash.to_le_bytes(), self.seed);
        Ok(Prompt { key: format!("{hash:032x}"), source: item.source, text, item, seed })
    }
}

/// What was asked and answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GenerateReport {
    /// What is written for.
    pub sources: usize,
    /// Sources without metadata.
    pub no_meta: usize,
    /// Prompts that are different.
    pub prompts: usize,
    /// Of these, answered before.
    pub known: usize,
    /// Answered now.
    pub answers: usize,
    /// Of these, without success.
    pub failed: usize,
    /// The first reason for that.
    pub problem: Option<String>,
    /// Tokens that were read for the answers of now.
    pub prompt_tokens: u64,
    /// Tokens that were written.
    pub new_tokens: u64,
}

/// Has `generator` answer what `cache` does not hold yet, and with `retry` what failed; also the key of each item.
///
/// # Errors
/// If a prompt cannot be made, the generator cannot go on, or answers cannot be kept. Answers up to there are kept.
pub fn generate(
    items: Vec<Item>,
    questions: &Questions<'_>,
    cache: &mut Cache,
    generator: &mut dyn Generate,
    retry: bool,
    events: &dyn Events,
) -> Result<(GenerateReport, Vec<String>)> {
    let mut report = GenerateReport { sources: items.len(), ..GenerateReport::default() };
    report.no_meta = items.iter().filter(|item| item.meta.is_none()).count();
    let (mut keys, mut missing, mut seen) = (Vec::with_capacity(items.len()), Vec::new(), HashSet::new());
    for item in items {
        let prompt = questions.prompt(item)?;
        keys.push(prompt.key.clone());
        if !seen.insert(prompt.key.clone()) {
            continue;
        }
        if cache.has(&prompt.key, retry) {
            report.known += 1;
        } else {
            missing.push(prompt.item);
        }
    }
    report.prompts = seen.len();
    drop(seen);
    let total = missing.len() as u64;
    let mut problem = None;
    let mut prompts = missing.into_iter().map_while(|item| match questions.prompt(item) {
        Ok(prompt) => Some(prompt),
        Err(found) => {
            problem = Some(found);
            None
        }
    });
    let answered = generator.generate(&mut prompts, &mut |answer| {
        report.count(&answer);
        events.progress(report.answers as u64, total);
        cache.push(&answer)
    });
    cache.sync()?;
    answered?;
    if let Some(problem) = problem {
        return Err(problem);
    }
    if report.failed > 0 && report.failed == report.answers {
        let why = report.problem.unwrap_or_default();
        return Err(Error::Mismatch(format!("all {} prompts failed: {why}", report.answers)));
    }
    Ok((report, keys))
}

impl GenerateReport {
    fn count(&mut self, answer: &Answer) {
        self.answers += 1;
        self.prompt_tokens += answer.prompt_tokens;
        self.new_tokens += answer.new_tokens;
        if answer.finish == Finish::Failed {
            self.failed += 1;
            self.problem.get_or_insert_with(|| answer.text.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::augment::Direction;
    use crate::events::Silent;

    /// Answers with the text of the item; fails for some; counts.
    struct Parrot {
        calls: usize,
        stop_after: usize,
    }

    impl Generate for Parrot {
        fn generate(
            &mut self,
            prompts: &mut dyn Iterator<Item = Prompt>,
            done: &mut dyn FnMut(Answer) -> Result<()>,
        ) -> Result<()> {
            for prompt in prompts {
                if self.calls == self.stop_after {
                    return Err(Error::Mismatch("no more".to_owned()));
                }
                self.calls += 1;
                let failed = prompt.item.text == "bad";
                let finish = if failed { Finish::Failed } else { Finish::Stop };
                let (key, source, text) = (prompt.key, prompt.source, prompt.item.text);
                done(Answer { key, source, text, finish, prompt_tokens: 2, new_tokens: 1 })?;
            }
            Ok(())
        }
    }

    fn items(texts: &[&str]) -> Vec<Item> {
        let item = |(text, source): (&&str, u32)| Item {
            id: source.to_string(),
            source,
            text: (*text).to_owned(),
            meta: None,
        };
        texts.iter().zip(0..).map(item).collect()
    }

    #[expect(clippy::unnecessary_wraps, reason = "tokenizers can fail")]
    fn uncut(text: &str, _tokens: usize) -> Result<String> {
        Ok(text.to_owned())
    }

    fn questions(template: Option<&Template>, temperature: f32) -> Questions<'_> {
        let params = json!({ "temperature": temperature });
        Questions { template, cut: &uncut, model_id: "parrot".to_owned(), params, seed: 3 }
    }

    #[test]
    fn nothing_is_asked_twice_and_a_change_asks_again() {
        let dir = tempfile::tempdir().unwrap();
        let template = Template::fields(Direction::Label);
        let ask = |texts: &[&str], questions: &Questions<'_>, retry: bool, stop_after: usize| {
            let mut cache = Cache::open(dir.path()).unwrap();
            let mut parrot = Parrot { calls: 0, stop_after };
            let outcome = generate(items(texts), questions, &mut cache, &mut parrot, retry, &Silent);
            (outcome, parrot.calls)
        };
        let (one, other) = (questions(Some(&template), 0.8), questions(Some(&template), 0.7));
        let texts = ["a", "b", "a", "bad", "c"];
        let (outcome, calls) = ask(&texts, &one, false, 2);
        assert!(outcome.unwrap_err().to_string().contains("no more"));
        assert_eq!(calls, 2);
        let (outcome, calls) = ask(&texts, &one, false, 99);
        let (report, keys) = outcome.unwrap();
        assert_eq!((calls, report.prompts, report.known, report.answers, report.failed), (2, 4, 2, 2, 1));
        assert_eq!((report.prompt_tokens, report.problem.as_deref()), (4, Some("bad")));
        assert!(keys[0] == keys[2] && keys[0] != keys[1]);
        // Again: nothing; what failed, if told so; all, if the temperature or the template is another.
        assert_eq!(ask(&texts, &one, false, 99).1, 0);
        let (outcome, calls) = ask(&texts, &one, true, 99);
        assert!(outcome.unwrap_err().to_string().contains("all 1 prompts failed: bad"));
        assert_eq!(calls, 1);
        assert_eq!(ask(&texts, &other, false, 99).1, 4);
        let template = Template::instructed(Direction::Label);
        assert_eq!(ask(&texts, &questions(Some(&template), 0.8), false, 99).1, 4);
    }
}
