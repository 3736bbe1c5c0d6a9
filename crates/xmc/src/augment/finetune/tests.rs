//! A tiny decoder learns from a teacher's answers.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use tempfile::TempDir;
use xmc_nn::decoder::Quantization;
use xmc_nn::generate::{Generator, Request, Sampling};
use xmc_nn::{Batch, Precision};

use super::*;
use crate::config::checks;
use crate::encoder::PrecisionChoice;
use crate::events::Silent;

/// A LLaMA of two layers that has learned nothing, with a tokenizer, in Q8_0 and Q4_0.
fn decoder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../xmc-nn/tests/golden/gguf/decoder.gguf")
}

/// Folders of a test.
struct World {
    dir: TempDir,
    examples: PathBuf,
}

const WORDS: [&str; 10] =
    ["tide", "glacier", "world", "year", "text", "line", "days", "user", "comment", "return"];

impl World {
    /// Behind the prompt with a word stand that word and the next one.
    fn new(n: usize) -> Self {
        let dir = TempDir::new().unwrap();
        let examples = dir.path().join("train.jsonl");
        let line = |i: usize| {
            let (word, next) = (WORDS[i % 10], WORDS[(i + 1) % 10]);
            json!({"source": i, "prompt": format!("{} {word}:", i / 10), "completion": format!("{word}\n{next}")})
                .to_string()
        };
        fs::write(&examples, (0..n).map(line).collect::<Vec<_>>().join("\n")).unwrap();
        World { dir, examples }
    }

    fn out(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn tune(
        &self,
        name: &str,
        config: &FinetuneConfig,
        resume: bool,
        events: &dyn Events,
    ) -> Result<FinetuneReport> {
        let (decoder, out) = (decoder(), self.out(name));
        let task = Finetune { decoder: &decoder, examples: &self.examples, out: &out, seed: 3, resume };
        finetune(&task, &config.clone().check()?, events)
    }

    /// The files of a tuned decoder, but the curves, which hold times.
    fn files(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.out(name)).unwrap().map(|entry| entry.unwrap());
        let named = entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap()));
        named.filter(|(name, _)| name != CURVES).collect()
    }
}

fn quick() -> FinetuneConfig {
    FinetuneConfig {
        precision: PrecisionChoice::F32,
        lr: 0.02,
        batch_size: 10,
        epochs: 2,
        max_len: 48,
        tokens_per_batch: 64,
        held_out: 0.1,
        validate_steps: 3,
        checkpoint_minutes: 0.0,
        export: xmc_nn::tune::Export::F32,
        ..FinetuneConfig::default()
    }
}

#[test]
fn thirty_steps_lower_the_loss_and_the_decoder_that_comes_out_answers_so() {
    let world = World::new(50);
    let before = fs::read(decoder()).unwrap();
    let config = FinetuneConfig { epochs: 6, ..quick() };
    let report = world.tune("tuned", &config, false, &Silent).unwrap();
    assert_eq!((report.examples, report.outcome.steps), (50, 30));
    let (first, last) = (report.outcome.loss_before.unwrap(), report.outcome.loss_after.unwrap());
    assert!(last < 0.7 * first, "{first} {last}");
    assert_eq!(before, fs::read(decoder()).unwrap(), "the decoder that it began with stays as it was");
    assert!(!world.out("tuned.run").exists());

    // The folder is a decoder whose held-out loss is the one that was measured with the adapter beside the weights.
    let source = Source::open(&world.out("tuned")).unwrap();
    let merged = Decoder::open(&source, Quantization::Stored, Precision::F32).unwrap();
    let examples = Examples::read(&world.examples, &source, 48).unwrap();
    let held_out = crate::random::Draws::new(3, crate::random::Purpose::Split, 0).distinct(5, 50);
    let (batch, from) = examples.batch(&held_out);
    let logs = xmc_nn::generate::log_likelihood(&merged, &batch, &from, None).unwrap();
    let loss = -logs.iter().sum::<f64>() / examples.counted(&held_out) as f64;
    assert!((loss - last).abs() < 1e-4, "{loss} {last}");

    // And a generator continues prompts with it.
    let tokenizer = source.tokenizer(48).unwrap();
    let request = Request {
        prompt: tokenizer.encode_one("2 tide:").unwrap(),
        max_new_tokens: 12,
        stop: source.config().eos.clone(),
        ..Request::default()
    };
    let mut texts = Vec::new();
    Generator::new(&merged, Sampling::GREEDY, 1, None)
        .unwrap()
        .run([request].into_iter(), &mut |_, answer| {
            texts.push(tokenizer.decode(&answer.ids).unwrap());
            Ok(())
        })
        .unwrap();
    assert!(texts[0].contains("tide"), "{texts:?}");
}

/// Panics at a step, as a process that is killed.
struct Dies {
    left: AtomicU64,
}

impl Events for Dies {
    fn progress(&self, _: u64, _: u64) {
        assert!(self.left.fetch_sub(1, Ordering::SeqCst) > 1, "killed");
    }
}

#[test]
fn a_killed_run_goes_on_and_ends_with_the_same_bits() {
    let world = World::new(50);
    world.tune("whole", &quick(), false, &Silent).unwrap();
    for steps in [1, 3, 6, 10] {
        // With a checkpoint behind every step, and with none but those behind epochs.
        for minutes in [0.0, 60.0] {
            let name = format!("killed.{steps}.{minutes}");
            let config = FinetuneConfig { checkpoint_minutes: minutes, ..quick() };
            let dies = Dies { left: AtomicU64::new(steps) };
            let run = || world.tune(&name, &config, false, &dies).is_ok();
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
            assert!(!world.out(&name).exists());
            world.tune(&name, &config, true, &Silent).unwrap();
            let (mut found, mut expected) = (world.files(&name), world.files("whole"));
            // It names how often checkpoints are written.
            assert!(found.remove(TUNED).is_some() && expected.remove(TUNED).is_some());
            assert_eq!(found, expected, "{name}");
        }
    }
}

#[test]
fn neither_threads_nor_what_was_there_change_the_result() {
    let world = World::new(30);
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| world.tune(&format!("tuned{threads}"), &quick(), false, &Silent).unwrap());
    }
    assert_eq!(world.files("tuned1"), world.files("tuned3"));
    world.tune("tuned1", &quick(), false, &Silent).unwrap();
    assert_eq!(world.files("tuned1"), world.files("tuned3"));
}

#[test]
fn examples_are_cut_and_left_out_as_they_must_and_prompts_do_not_count() {
    let world = World::new(20);
    let source = Source::open(&decoder()).unwrap();
    let all = Examples::read(&world.examples, &source, 48).unwrap();
    let tokenizer = source.tokenizer(48).unwrap();
    let prompt = tokenizer.encode_one("1 tide:").unwrap();
    let answer = tokenizer.encode_words("tide\nglacier").unwrap();
    let row = all.tokens().row(10);
    assert_eq!(row, [&prompt[..], &answer[..], &[source.config().eos[0]]].concat());
    assert_eq!(all.counted(&[10]), answer.len() + 1);
    let (batch, from) = all.batch(&[10, 3]);
    assert_eq!((&batch.ids()[..row.len()], from[0]), (&row[..], prompt.len()));
    assert_eq!(batch.len(), Batch::new([[1u32]; 2]).len());

    let longest = (0..20).map(|i| all.tokens().row_len(i)).max().unwrap();
    let cut = Examples::read(&world.examples, &source, longest - 1).unwrap();
    assert!(cut.cut > 0 && cut.skipped == 0 && cut.len() == 20);
    assert!((0..20).all(|i| cut.tokens().row_len(i) < longest));
    let message = Examples::read(&world.examples, &source, 1).err().unwrap().to_string();
    assert!(message.contains("raise max_len"), "{message}");
}

#[test]
fn wrong_input_is_refused_with_its_place() {
    let world = World::new(5);
    let fails =
        |config: &FinetuneConfig| world.tune("tuned", config, false, &Silent).unwrap_err().to_string();
    for (line, expected) in [
        (
            "{\"prompt\": \"a\"}",
            "train.jsonl:2: found `{\"prompt\": \"a\"}`, expected an object with the texts",
        ),
        ("{\"prompt\": \"a\", \"completion\": \" \"}", "expected a `completion` that is not empty"),
        ("nonsense", "train.jsonl:2: found `nonsense`"),
    ] {
        fs::write(&world.examples, format!("\n{line}\n")).unwrap();
        assert!(fails(&quick()).contains(expected), "{}", fails(&quick()));
    }
    fs::write(&world.examples, "\n").unwrap();
    assert!(fails(&quick()).contains("has no examples"));
    fs::create_dir(world.out("tuned")).unwrap();
    fs::write(world.out("tuned/thesis"), "1").unwrap();
    assert!(fails(&quick()).contains("is not a tuned decoder"));
}

#[test]
fn settings_are_documented_and_wrong_ones_refused() {
    checks::documentation_is_complete::<FinetuneConfig>();
    checks::printed_file_gives_the_defaults::<FinetuneConfig>();
    checks::wrong_kinds_are_refused::<FinetuneConfig>();
    checks::are_refused::<FinetuneConfig>(&[
        "rank=0",
        "alpha=0",
        "dropout=1",
        "lr=0",
        "lr_end=2",
        "warmup=1",
        "beta2=1",
        "clip=-1",
        "batch_size=0",
        "epochs=0",
        "max_len=0",
        "tokens_per_batch=0",
        "held_out=1",
        "export=f16",
        "quantization=q3",
    ]);
}

/// A real decoder learns the form of answers, where `XMC_DECODER` names its file (`scripts/fetch-decoder`).
#[test]
fn a_real_decoder_learns_the_form_of_answers() {
    let Some(decoder) = std::env::var_os("XMC_DECODER").map(PathBuf::from) else { return };
    let world = World::new(100);
    let out = world.out("tuned");
    let task = Finetune { decoder: &decoder, examples: &world.examples, out: &out, seed: 3, resume: false };
    let config = FinetuneConfig { lr: 1e-3, epochs: 1, export: xmc_nn::tune::Export::Bf16, ..quick() };
    let report = finetune(&task, &config.check().unwrap(), &Silent).unwrap();
    let (first, last) = (report.outcome.loss_before.unwrap(), report.outcome.loss_after.unwrap());
    assert!(last < 0.7 * first, "{first} {last}");
    let source = Source::open(&out).unwrap();
    let merged = Decoder::open(&source, Quantization::Q8_0, Precision::F32).unwrap();
    let examples = Examples::read(&world.examples, &source, 48).unwrap();
    let rows: Vec<u32> = (0..10).collect();
    let (batch, from) = examples.batch(&rows);
    let logs = xmc_nn::generate::log_likelihood(&merged, &batch, &from, None).unwrap();
    let loss = -logs.iter().sum::<f64>() / examples.counted(&rows) as f64;
    assert!(loss < 0.7 * first, "{loss} {first}: the exported decoder has learned too");
}
