//! What does a teacher write? A large generator answers for a sample of the sources, and its answers become examples from
//! which a small decoder learns the task (`finetune`, or another program).
//!
//! ```text
//! draw      a sample of sources, rare and frequent ones evenly
//! ask       the teacher's prompt, instructions and examples in it, for each
//! write     the student's prompt, fields only, and the teacher's answer
//! ```
//!
//! | file | a line |
//! |---|---|
//! | `train.jsonl` | `{"source", "prompt", "completion"}`: what `finetune` reads |
//! | `chat.jsonl` | `{"messages": [{"role": "user", "content"}, {"role": "assistant", "content"}]}`: for other programs |
//!
//! Whether an answer is asked for twice is the business of the generator: one that keeps what it wrote makes `teach` go on
//! where it stopped.

mod draw;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use xmc_data::formats::source::write_text;

pub use draw::draw;

use super::{Answer, Finish, Generate, Item, Prompt};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::run::create;

/// Name of the file of examples.
pub const TRAIN: &str = "train.jsonl";

/// Name of the same as chats.
pub const CHAT: &str = "chat.jsonl";

/// What teacher and student read of an item.
pub struct Prompts<'a> {
    /// The question to the teacher.
    pub teacher: &'a dyn Fn(&Item) -> Result<Prompt>,
    /// What the student will be given to continue when it has learned.
    pub student: &'a dyn Fn(&Item) -> Result<String>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeachReport {
    /// Sources that were asked for.
    pub asked: usize,
    /// Examples that were written.
    pub examples: usize,
    /// Answers that failed.
    pub failed: usize,
    /// Answers with nothing in them, or only half a line.
    pub empty: usize,
    /// Answers that were too long, of which the last line was dropped.
    pub cut: usize,
    /// Tokens that the teacher read.
    pub prompt_tokens: u64,
    /// Tokens that it wrote.
    pub new_tokens: u64,
}

/// Asks `teacher` about the items `drawn` and writes the examples into the folder `dir`.
///
/// # Errors
/// If an item has no such number, a prompt cannot be made, the teacher cannot go on, no answer is of use, or files cannot
/// be written.
pub fn teach(
    dir: &Path,
    items: &[Item],
    drawn: &[u32],
    prompts: &Prompts<'_>,
    teacher: &mut dyn Generate,
    events: &dyn Events,
) -> Result<TeachReport> {
    create(dir)?;
    let asked: Vec<&Item> = drawn.iter().map(|&source| item(items, source)).collect::<Result<_>>()?;
    let answers = ask(&asked, prompts, teacher, events)?;
    let mut report = TeachReport { asked: asked.len(), ..TeachReport::default() };
    let mut examples = Vec::new();
    for item in asked {
        let Some(answer) = answers.get(&item.source) else { continue };
        if let Some(completion) = report.of(answer) {
            examples.push((item.source, (prompts.student)(item)?, completion));
        }
    }
    report.examples = examples.len();
    if examples.is_empty() {
        let first = answers.values().find(|answer| answer.finish == Finish::Failed);
        let why = first.map(|answer| format!("; the first problem: {}", answer.text)).unwrap_or_default();
        return Err(Error::Mismatch(format!(
            "none of the teacher's {} answers is of use ({} failed, {} empty){why}",
            report.asked, report.failed, report.empty
        )));
    }
    write(&dir.join(CHAT), &examples, |(_, prompt, completion)| {
        json!({ "messages": [
            { "role": "user", "content": prompt }, { "role": "assistant", "content": completion },
        ] })
    })?;
    write(
        &dir.join(TRAIN),
        &examples,
        |(source, prompt, completion)| json!({ "source": source, "prompt": prompt, "completion": completion }),
    )?;
    Ok(report)
}

fn item(items: &[Item], source: u32) -> Result<&Item> {
    items.get(source as usize).ok_or_else(|| {
        Error::Mismatch(format!("source {source} was drawn, but there are {} sources only", items.len()))
    })
}

/// The teacher's answers by source.
fn ask(
    asked: &[&Item],
    prompts: &Prompts<'_>,
    teacher: &mut dyn Generate,
    events: &dyn Events,
) -> Result<BTreeMap<u32, Answer>> {
    let mut problem = None;
    let mut questions = asked.iter().map_while(|item| match (prompts.teacher)(item) {
        Ok(prompt) => Some(prompt),
        Err(found) => {
            problem = Some(found);
            None
        }
    });
    let mut answers = BTreeMap::new();
    let answered = teacher.generate(&mut questions, &mut |answer| {
        answers.insert(answer.source, answer);
        events.progress(answers.len() as u64, asked.len() as u64);
        Ok(())
    });
    match problem {
        Some(problem) => Err(problem),
        None => answered.map(|()| answers),
    }
}

impl TeachReport {
    /// Counts an answer; what of it can be learned from.
    fn of(&mut self, answer: &Answer) -> Option<String> {
        self.prompt_tokens += answer.prompt_tokens;
        self.new_tokens += answer.new_tokens;
        let text = match answer.finish {
            Finish::Failed => {
                self.failed += 1;
                return None;
            }
            Finish::Stop => answer.text.as_str(),
            // The last line may be half a line, and a student must not learn to end there.
            Finish::Length => {
                self.cut += 1;
                answer.text.rsplit_once('\n').map_or("", |(lines, _)| lines)
            }
        };
        let text = text.trim();
        if text.is_empty() {
            self.empty += 1;
            return None;
        }
        Some(text.to_owned())
    }
}

type Example = (u32, String, String);

fn write(path: &Path, examples: &[Example], line: impl Fn(&Example) -> Value) -> Result<()> {
    Ok(write_text(path, |file| examples.iter().try_for_each(|example| writeln!(file, "{}", line(example))))?)
}
