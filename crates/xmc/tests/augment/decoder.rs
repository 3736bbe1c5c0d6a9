//! A decoder on this machine as a generator: S-11 (a text depends on its prompt and seed alone) and S-30 (a dry run counts
//! what a real one reads).

use std::fs;
use std::path::Path;

use xmc::augment::config::AugmentConfig;
use xmc::augment::language_model::{LanguageModel, Reader, Writing};
use xmc::augment::pipeline::Pipeline;
use xmc::augment::template::Template;
use xmc::augment::{Answer, Finish, Generate, Item, Prompt};
use xmc::config;
use xmc::events::Silent;
use xmc::nn::decoder::Source;
use xmc::nn::generate::Sampling;

use crate::toy;
use crate::toy_decoder::decoder;

/// A run whose sources have pages of up to 40 tokens, of which 6 are shown.
fn init(dir: &Path) -> Pipeline<'static> {
    toy::data().save(&dir.join("data")).unwrap();
    let line = |label: usize| {
        let words: Vec<String> =
            (0..label * 5 % 41).map(|i| format!("a{}", (label + i) % toy::LABELS)).collect();
        format!("{{\"id\": {label}, \"title\": \"c{label}\", \"body\": \"{}\"}}\n", words.join(" "))
    };
    // Some have none.
    fs::write(dir.join("meta.jsonl"), (0..20).map(line).collect::<String>()).unwrap();
    let template =
        "chat = false\nbody_tokens = 6\nparts = [\"b1 b2 \", \"{title} \", \"{body} \", \"{text} b3\"]\n";
    fs::write(dir.join("template.toml"), template).unwrap();
    let sets = [
        format!("data={}", dir.join("data").display()),
        format!("meta={}", dir.join("meta.jsonl").display()),
        "generator.kind=decoder".to_owned(),
        format!("generator.path={}", decoder(dir).display()),
        format!("generator.template={}", dir.join("template.toml").display()),
        "generator.max_new_tokens=9".to_owned(),
    ];
    let config = config::load::<AugmentConfig>(None, &sets).unwrap();
    Pipeline::init(&dir.join("run"), config, &Silent).unwrap()
}

/// Answers with `sets` over the settings of the run, by source; nothing that was answered before counts.
fn answers(dir: &Path, sets: &[&str], threads: usize) -> Vec<Answer> {
    let generated = dir.join("run/generated");
    if generated.exists() {
        fs::remove_dir_all(&generated).unwrap();
    }
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    let run = Pipeline::open(&dir.join("run"), &sets, &Silent).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| run.generate(false)).unwrap();
    let text = fs::read_to_string(generated.join("shard-00000.jsonl")).unwrap();
    let mut answers: Vec<Answer> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    answers.sort_by_key(|answer| answer.source);
    answers
}

fn texts(answers: &[Answer]) -> Vec<&str> {
    answers.iter().map(|answer| answer.text.as_str()).collect()
}

#[test]
fn texts_depend_neither_on_what_is_written_beside_them_nor_on_threads() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path());
    for how in ["generator.temperature=0", "generator.temperature=0.8"] {
        let one = answers(dir.path(), &[how, "generator.batch_size=1"], 1);
        assert_eq!(one.len(), toy::LABELS);
        for (batch, threads) in [("generator.batch_size=8", 2), ("generator.batch_size=64", 1)] {
            assert_eq!(answers(dir.path(), &[how, batch], threads), one, "{how} {batch}");
        }
    }
}

#[test]
fn one_candidate_is_greedy_and_another_seed_draws_other_texts() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path());
    let greedy = answers(dir.path(), &["generator.temperature=0"], 2);
    let single = answers(dir.path(), &["generator.temperature=0.8", "generator.top_k=1"], 2);
    assert_eq!(texts(&single), texts(&greedy));
    let [first, other] = ["seed=0", "seed=1"].map(|seed| answers(dir.path(), &[seed], 2));
    assert_ne!(texts(&first), texts(&other));
    assert_ne!(texts(&first), texts(&greedy));
}

#[test]
fn a_dry_run_counts_the_tokens_that_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let run = init(dir.path());
    let before = run.estimate(false).unwrap();
    assert!(before.counted && before.no_meta == 4, "{before:?}");
    let report = run.generate(false).unwrap();
    assert_eq!((before.prompts, before.prompt_tokens), (report.answers, report.prompt_tokens));
    assert!(report.new_tokens <= before.answer_tokens && report.failed == 0, "{report:?}");
    // No prompt has more than its fixed words, title, text and the 6 tokens of its page.
    let longest = answers(dir.path(), &[], 2).iter().map(|answer| answer.prompt_tokens).max().unwrap();
    assert_eq!(longest, 1 + 2 + 1 + 6 + 2 + 1);
    let after = run.estimate(false).unwrap();
    assert_eq!((after.prompts, after.prompt_tokens), (0, 0));
}

/// A template with `head` before the parts of the run.
fn with_template(dir: &Path, head: &str) -> String {
    let path = dir.join("other.toml");
    fs::write(&path, format!("{head}\nparts = [\"b1 b2 \", \"{{title}} \", \"{{text}} b3\"]\n")).unwrap();
    format!("generator.template={}", path.display())
}

#[test]
fn answers_end_before_their_stop_words_and_nothing_is_written_behind_them() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path());
    // The likeliest tokens: draws depend on the key, in which the stop words are.
    let greedy =
        |head: &str| answers(dir.path(), &[&with_template(dir.path(), head), "generator.temperature=0"], 2);
    let free = greedy("chat = false");
    let words: Vec<&str> = free[0].text.split(' ').collect();
    let stop = format!("{} {}", words[2], words[3]);
    let stopped = greedy(&format!("chat = false\nstop = \"{stop}\""));
    assert!(stopped[0].new_tokens <= 4 && free[0].new_tokens == 9, "{:?}", stopped[0]);
    for (free, stopped) in free.iter().zip(&stopped) {
        let end = free.text.find(&stop);
        assert_eq!(stopped.text, free.text[..end.unwrap_or(free.text.len())]);
        assert_eq!(stopped.finish == Finish::Stop, end.is_some(), "{stopped:?}");
    }
}

#[test]
fn parts_that_are_left_out_are_missed_by_no_prompt() {
    let dir = tempfile::tempdir().unwrap();
    let run = init(dir.path());
    let template = "chat = false\nparts = [\"b1 b2 b3 \", \"a1 {url} \", \"{text}\"]\n";
    fs::write(dir.path().join("template.toml"), template).unwrap();
    let report = run.generate(false).unwrap();
    assert_eq!((report.answers, report.failed), (toy::LABELS, 0));
}

#[test]
fn another_chat_is_another_question() {
    let dir = tempfile::tempdir().unwrap();
    let run = init(dir.path());
    with_template(dir.path(), "");
    fs::rename(dir.path().join("other.toml"), dir.path().join("template.toml")).unwrap();
    let path = dir.path().join("decoder/tokenizer_config.json");
    let before = fs::read_to_string(&path).unwrap_or_else(|_| "{}".to_owned());
    run.generate(false).unwrap();
    assert_eq!(run.estimate(false).unwrap().prompts, 0);
    let mut config: serde_json::Value = serde_json::from_str(&before).unwrap();
    config["chat_template"] = "a1 {{ messages[0].content }} a2 ".into();
    fs::write(&path, config.to_string()).unwrap();
    let estimate = run.estimate(false).unwrap();
    assert_eq!(estimate.prompts, toy::LABELS);
    assert!(estimate.hours > 0.0, "{estimate:?}");
    // Two words more for each prompt.
    let report = run.generate(false).unwrap();
    assert_eq!((report.prompt_tokens, report.failed), (estimate.prompt_tokens, 0));
}

#[test]
fn prompts_have_the_tokens_of_examples() {
    let dir = tempfile::tempdir().unwrap();
    let source = Source::open(&decoder(dir.path())).unwrap();
    let tokenizer = source.tokenizer(64).unwrap();
    for (parts, shared) in
        [(vec!["b1 b2 b3\n", "{text}"], 2), (vec!["b1 ", "{title} ", "{text}"], 0), (vec!["{text}"], 0)]
    {
        let parts = parts.into_iter().map(str::to_owned).collect();
        let template = Template { chat: false, parts, ..Template::default() };
        let reader = Reader::new(&source, &template).unwrap();
        // Behind the token that begins a text.
        assert_eq!(reader.start().len(), 1 + shared);
        let prompt = template.fill(&prompt(0, "a1 a2").item, &|text, n| reader.cut(text, n)).unwrap();
        let found = [reader.start(), &reader.rest(&prompt).unwrap()].concat();
        assert_eq!(found[1..], tokenizer.encode_words(&prompt).unwrap(), "{prompt}");
    }
}

fn model(dir: &Path) -> LanguageModel {
    let template = Template { chat: false, parts: vec!["{text}".to_owned()], ..Template::default() };
    let writing = Writing { max_new_tokens: 3, sampling: Sampling::GREEDY, slots: 4 };
    LanguageModel::open(&decoder(dir), &template, writing).unwrap()
}

fn prompt(source: u32, text: &str) -> Prompt {
    let item = Item { id: source.to_string(), source, text: text.to_owned(), meta: None };
    Prompt { key: source.to_string(), source, text: text.to_owned(), item, seed: 1 }
}

#[test]
fn prompts_that_cannot_be_read_do_not_end_a_run_however_many_they_are() {
    let dir = tempfile::tempdir().unwrap();
    // More in a row than are sorted together.
    let long = "a1 ".repeat(80);
    let mut prompts: Vec<Prompt> = (0..600).map(|source| prompt(source, &long)).collect();
    prompts.insert(300, prompt(600, ""));
    prompts.extend((601..604).map(|source| prompt(source, "a1 b2")));
    let mut answers = Vec::new();
    let mut keep = |answer| {
        answers.push(answer);
        Ok(())
    };
    model(dir.path()).generate(&mut prompts.into_iter(), &mut keep).unwrap();
    answers.sort_by_key(|answer: &Answer| answer.source);
    assert_eq!(answers.iter().map(|answer| answer.source).collect::<Vec<_>>(), (0..604).collect::<Vec<_>>());
    for answer in &answers {
        let expected = match answer.source {
            0..600 => "64 positions: lower body_tokens",
            600 => "no token",
            _ => "",
        };
        assert_eq!(answer.finish == Finish::Failed, answer.source <= 600, "{answer:?}");
        assert!(answer.text.contains(expected), "{answer:?}");
    }
}
