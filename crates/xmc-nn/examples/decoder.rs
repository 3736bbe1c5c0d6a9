//! What does a decoder do, and in which time? For comparisons with other programs and for a first look.
//!
//! ```text
//! decoder logits FILE --ids IDS.jsonl --out LOGITS.f32        logits of every token, [t, vocab] for each text
//! decoder encode FILE --ids IDS.jsonl [--out ROWS.f32]        embeddings of texts: last token, length 1
//! decoder step FILE --ids IDS.jsonl --labels IDS.jsonl        training steps of a soft prompt, two texts a pair
//! decoder generate FILE --ids IDS.jsonl [--slots 8]           continuations of prompts
//! ```
//!
//! FILE is a GGUF file or a folder of Hugging Face. Texts come as token ids, a JSON list on each line, so that all programs
//! compute the same. One JSON object with times goes to stdout; `ids` in that of `generate`. Further options: `--batch
//! 32` texts of a step, or tokens of a pass of `encode` (1024), `--prompt 5` tokens in front, `--steps N`, `--new 128` tokens,
//! `--temperature 0`, `--top-k 0`, `--top-p 1`, `--seed 0`, `--stop ID`, `--quantization stored`, `--precision bf16`. `RAYON_NUM_THREADS`
//! sets the threads.

#![allow(clippy::print_stdout)] // An example prints.

use std::collections::HashMap;
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use xmc_nn::decoder::{Decoder, Prompted, PromptedConfig, Quantization, Source};
use xmc_nn::generate::{Finish, Generator, Request, Sampling};
use xmc_nn::optim::{AdamW, AdamWConfig};
use xmc_nn::{Batch, Precision, Tensor, Tokens};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [verb, file, options @ ..] = &words[..] else {
        return Err("usage: decoder logits|encode|step|generate FILE --ids IDS.jsonl …".into());
    };
    let options = Options::new(options)?;
    let begin = Clocks::now();
    let precision = if options.text("precision", "bf16") == "f32" { Precision::F32 } else { Precision::Bf16 };
    let quantization = options.text("quantization", "stored").parse::<Quantization>()?;
    let decoder = Decoder::open(&Source::open(Path::new(file))?, quantization, precision)?;
    let open = begin.spent();
    let mut report = match &verb[..] {
        "logits" => logits(&decoder, &options)?,
        "encode" => encode(decoder, &options)?,
        "step" => step(decoder, &options)?,
        "generate" => generate(&decoder, &options)?,
        _ => return Err(format!("`{verb}`: expected logits, encode, step or generate").into()),
    };
    report["open_seconds"] = json!(open.0);
    report["peak_mb"] = json!(peak_mb());
    report["threads"] = json!(rayon::current_num_threads());
    println!("{report}");
    Ok(())
}

/// Logits of every token of every text.
fn logits(decoder: &Decoder, options: &Options) -> Result<Value> {
    let mut out = std::fs::File::create(options.needed("out")?)?;
    let texts = options.ids("ids")?;
    for text in &texts {
        let hidden = decoder.hidden(&Batch::new([text]), None)?;
        out.write_all(bytemuck::cast_slice(&decoder.logits(&hidden)?))?;
    }
    Ok(json!({ "texts": texts.len() }))
}

/// Embeddings of texts, in passes of about so many tokens.
fn encode(decoder: Decoder, options: &Options) -> Result<Value> {
    let texts = Tokens::new(options.ids("ids")?);
    let prompted = prompted(decoder, options, 0)?;
    let rows: Vec<u32> = (0..texts.len() as u32).collect();
    let tokens: usize = rows.iter().map(|&i| texts.row_len(i as usize)).sum();
    let begin = Clocks::now();
    let found = prompted.embed_rows(&texts, &rows, options.number("batch", Prompted::PASS)?, &|_, _| ())?;
    let report = begin.report(json!({ "texts": texts.len() }), tokens);
    if let Some(out) = options.0.get("out") {
        std::fs::write(out, bytemuck::cast_slice(found.host()))?;
    }
    Ok(report)
}

/// Steps of a soft prompt: texts and labels of a batch, each pair against the other labels.
fn step(decoder: Decoder, options: &Options) -> Result<Value> {
    let (texts, labels) = (options.ids("ids")?, options.ids("labels")?);
    let mut prompted = prompted(decoder, options, 5)?;
    let b = options.number("batch", 32)?.max(1);
    let steps = options.number("steps", usize::MAX)?;
    let config = AdamWConfig { weight_decay: 0.01, ..AdamWConfig::default() };
    let mut optimiser = AdamW::new(prompted.layout(), config);
    let mut grads = vec![0.0; prompted.layout().len()];
    let (mut losses, mut tokens) = (Vec::new(), 0);
    let begin = Clocks::now();
    for (texts, labels) in texts.chunks_exact(b).zip(labels.chunks_exact(b)).take(steps) {
        let [texts, labels] = [texts, labels].map(Batch::new);
        let (x, x_tape) = prompted.embed_train(&texts, None)?;
        let (y, y_tape) = prompted.embed_train(&labels, None)?;
        let (loss, dx, dy) = contrast(&x, &y, 0.05);
        prompted.backward(&texts, x_tape, &dx, &mut grads)?;
        prompted.backward(&labels, y_tape, &dy, &mut grads)?;
        optimiser.step(prompted.params_mut(), &mut grads, 1e-3, 1.0)?;
        prompted.refresh();
        losses.push(loss);
        tokens += texts.tokens() + labels.tokens();
    }
    Ok(begin.report(json!({ "steps": losses.len(), "losses": losses }), tokens))
}

/// mean of logsumexp_j x_i y_j / tau - x_i y_i / tau, and its gradients.
fn contrast(x: &Tensor, y: &Tensor, tau: f64) -> (f64, Tensor, Tensor) {
    let (b, d) = (x.rows(), x.cols());
    let [mut dx, mut dy] = [(); 2].map(|()| Tensor::zeros(b, d, x.device()));
    let mut loss = 0.0;
    for (i, x) in x.host().chunks_exact(d).enumerate() {
        let scores: Vec<f64> = y
            .host()
            .chunks_exact(d)
            .map(|y| x.iter().zip(y).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() / tau)
            .collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
        loss += (largest + sum.ln() - scores[i]) / b as f64;
        for (j, score) in scores.iter().enumerate() {
            let p = (score - largest).exp() / sum - f64::from(u8::from(i == j));
            let slope = (p / tau / b as f64) as f32;
            for c in 0..d {
                dx.host_mut()[i * d + c] += slope * y.host()[j * d + c];
                dy.host_mut()[j * d + c] += slope * x[c];
            }
        }
    }
    (loss, dx, dy)
}

/// Continuations of prompts.
fn generate(decoder: &Decoder, options: &Options) -> Result<Value> {
    let prompts = options.ids("ids")?;
    let sampling = Sampling {
        temperature: options.number("temperature", 0.0)?,
        top_k: options.number("top-k", 0)?,
        top_p: options.number("top-p", 1.0)?,
    };
    let (new, seed) = (options.number("new", 128)?, options.number("seed", 0u64)?);
    let stop: Vec<u32> = options.0.get("stop").map(|id| id.parse()).transpose()?.into_iter().collect();
    let mut generator = Generator::new(decoder, sampling, options.number("slots", 8)?, None)?;
    let mut found = vec![Value::Null; prompts.len()];
    let requests = prompts.into_iter().zip(seed..).map(|(prompt, seed)| Request {
        prompt,
        seed,
        max_new_tokens: new,
        stop: stop.clone(),
    });
    let begin = Clocks::now();
    let usage = generator.run(requests, &mut |i, text| {
        found[i] = json!({
            "ids": text.ids,
            "stopped": text.finish == Finish::Stop,
            "log_likelihood": text.log_likelihood,
        });
        Ok(())
    })?;
    let report = json!({ "prompt_tokens": usage.prompt_tokens, "passes": usage.steps, "found": found });
    Ok(begin.report(report, usage.new_tokens))
}

/// The decoder behind a prompt of the embeddings of its first tokens, as many as `--prompt` says.
fn prompted(decoder: Decoder, options: &Options, tokens: u32) -> Result<Prompted> {
    let n = options.number("prompt", tokens)?;
    let mut rows = vec![0.0; n as usize * decoder.config().hidden];
    decoder.embed(&(1..=n).collect::<Vec<_>>(), &mut rows);
    Ok(Prompted::new(Arc::new(decoder), PromptedConfig::default(), &rows, 0)?)
}

/// What stands behind FILE: `--name value`.
struct Options(HashMap<String, String>);

impl Options {
    fn new(words: &[String]) -> Result<Self> {
        let pairs = words.chunks(2).map(|pair| match pair {
            [name, value] if name.starts_with("--") => Ok((name[2..].to_owned(), value.clone())),
            _ => Err(format!("`{}`: expected --name value", pair.join(" ")).into()),
        });
        pairs.collect::<Result<_>>().map(Options)
    }

    fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).map_or(default, |value| value)
    }

    fn needed(&self, name: &str) -> Result<&str> {
        self.0.get(name).map(|value| &value[..]).ok_or_else(|| format!("--{name} is missing").into())
    }

    fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T> {
        let Some(value) = self.0.get(name) else { return Ok(default) };
        value.parse().map_err(|_| format!("--{name} {value}: expected a number").into())
    }

    /// Lists of token ids.
    fn ids(&self, name: &str) -> Result<Vec<Vec<u32>>> {
        let path = self.needed(name)?;
        let lines = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let list = |(i, line)| {
            serde_json::from_str(line).map_err(|error| format!("{path}:{}: {error}", i + 1).into())
        };
        lines.lines().enumerate().map(list).collect()
    }
}

/// Wall and processor time.
struct Clocks(Instant, f64);

impl Clocks {
    fn now() -> Self {
        Clocks(Instant::now(), Self::cpu())
    }

    fn cpu() -> f64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    }

    fn spent(&self) -> (f64, f64) {
        (self.0.elapsed().as_secs_f64(), Self::cpu() - self.1)
    }

    /// Adds times to a report of work on so many tokens.
    fn report(&self, mut report: Value, tokens: usize) -> Value {
        let (wall, cpu) = self.spent();
        report["tokens"] = json!(tokens);
        report["seconds"] = json!(wall);
        report["cpu_seconds"] = json!(cpu);
        report["tokens_per_second"] = json!(tokens as f64 / wall);
        report["tokens_per_cpu_second"] = json!(tokens as f64 / cpu);
        report
    }
}

/// Largest memory of the process so far, where the system says.
fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok().map(|kb| kb / 1024.0)
}
