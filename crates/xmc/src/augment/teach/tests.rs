//! A teacher of a few lines.

use super::*;
use crate::events::Silent;

/// Answers by the last figure of the source.
struct Teacher {
    asked: Vec<String>,
}

impl Generate for Teacher {
    fn generate(
        &mut self,
        prompts: &mut dyn Iterator<Item = Prompt>,
        done: &mut dyn FnMut(Answer) -> Result<()>,
    ) -> Result<()> {
        let mut all: Vec<Prompt> = prompts.collect();
        // Any order will do.
        all.reverse();
        for Prompt { key, source, text, .. } in all {
            self.asked.push(text);
            let (text, finish) = match source % 10 {
                1 => ("the connection was lost", Finish::Failed),
                2 => ("  \n", Finish::Stop),
                3 => ("half a li", Finish::Length),
                4 => ("whole line\nanother\nhalf a li", Finish::Length),
                _ => ("first\nsecond \n", Finish::Stop),
            };
            done(Answer { key, source, text: text.to_owned(), finish, prompt_tokens: 7, new_tokens: 3 })?;
        }
        Ok(())
    }
}

fn items(n: u32) -> Vec<Item> {
    (0..n)
        .map(|source| Item { id: source.to_string(), source, text: format!("item {source}"), meta: None })
        .collect()
}

fn question(item: &Item) -> Result<Prompt> {
    if item.source == 17 {
        return Err(Error::Mismatch("item 17 has no title".to_owned()));
    }
    let text = format!("Write queries for {}.", item.text);
    Ok(Prompt { key: item.id.clone(), source: item.source, text, item: item.clone(), seed: 0 })
}

fn run(dir: &Path, drawn: &[u32]) -> Result<(TeachReport, Vec<String>)> {
    let mut teacher = Teacher { asked: Vec::new() };
    let prompts = Prompts { teacher: &question, student: &|item| Ok(format!("{}\nqueries:\n", item.text)) };
    let report = teach(dir, &items(20), drawn, &prompts, &mut teacher, &Silent)?;
    Ok((report, teacher.asked))
}

#[test]
fn answers_become_examples_and_those_of_no_use_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("teach");
    let (report, asked) = run(&dir, &[1, 2, 3, 4, 5]).unwrap();
    assert_eq!(asked.len(), 5);
    assert!(asked.contains(&"Write queries for item 4.".to_owned()));
    assert_eq!(
        report,
        TeachReport { asked: 5, examples: 2, failed: 1, empty: 2, cut: 2, prompt_tokens: 35, new_tokens: 15 }
    );
    let lines = |name: &str| {
        let text = std::fs::read_to_string(dir.join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(
        lines(TRAIN),
        [
            json!({"source": 4, "prompt": "item 4\nqueries:\n", "completion": "whole line\nanother"}),
            json!({"source": 5, "prompt": "item 5\nqueries:\n", "completion": "first\nsecond"}),
        ]
    );
    assert_eq!(
        lines(CHAT)[1],
        json!({"messages": [{"role": "user", "content": "item 5\nqueries:\n"},
            {"role": "assistant", "content": "first\nsecond"}]})
    );
}

#[test]
fn what_cannot_be_asked_or_learned_from_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let message = |drawn: &[u32]| run(dir.path(), drawn).unwrap_err().to_string();
    assert_eq!(message(&[5, 17]), "item 17 has no title");
    assert!(message(&[20]).contains("source 20 was drawn, but there are 20 sources"));
    let useless = message(&[1, 2, 11]);
    assert!(useless.contains("2 failed, 1 empty") && useless.ends_with("connection was lost"), "{useless}");
    assert!(!dir.path().join(TRAIN).exists());
}

#[test]
fn rare_and_frequent_sources_are_drawn_evenly() {
    // 1,000 sources without a pair, 100 with one, 30 with 4 to 7, 3 with 1,000.
    let frequencies: Vec<u64> = [(1000, 0), (100, 1), (30, 5), (3, 1000)]
        .iter()
        .flat_map(|&(n, frequency)| vec![frequency; n])
        .collect();
    let drawn = draw(&frequencies, 63, 7);
    assert!(drawn.len() == 63 && drawn.is_sorted_by(|a, b| a < b));
    let of = |frequency| drawn.iter().filter(|&&s| frequencies[s as usize] == frequency).count();
    assert_eq!([of(0), of(1), of(5), of(1000)], [20, 20, 20, 3]);
    assert_eq!(drawn, draw(&frequencies, 63, 7));
    assert_ne!(drawn, draw(&frequencies, 63, 8));
    assert_eq!(draw(&frequencies, 5000, 7).len(), frequencies.len());
    assert!(draw(&[], 5, 7).is_empty() && draw(&frequencies, 0, 7).is_empty());
}
