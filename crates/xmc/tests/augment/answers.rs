//! S-13: a generation over HTTP whose process is killed again and again asks nothing twice that was answered, ends with the same
//! answers, and leaves the key nowhere.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use xmc::augment::config::AugmentConfig;
use xmc::augment::pipeline::Pipeline;
use xmc::config::{self, Checked};
use xmc::data::dataset::{Dataset, Part};
use xmc::data::{CsrBuilder, LabelSet, Strings};
use xmc::events::Silent;

const LABELS: usize = 240;
const KILLS: usize = 20;
const CONCURRENCY: usize = 4;
/// Set for the process that is killed: the folder of the run.
const FOLDER: &str = "XMC_TEST_ANSWER_IN";
const KEY_ENV: &str = "XMC_TEST_ANSWER_KEY";
const KEY: &str = "sk-Zq7-never-to-be-seen";

/// Labels that were asked for, in the order of their calls.
type Calls = Arc<Mutex<Vec<usize>>>;

/// A server that answers by the label in the prompt.
fn serve() -> (String, Calls) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let calls = Calls::default();
    let log = calls.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let log = log.clone();
            // A process that was killed leaves half a call, which counts for nothing.
            std::thread::spawn(move || answer(&connection, &log));
        }
    });
    (url, calls)
}

fn answer(mut connection: &TcpStream, calls: &Calls) -> Option<()> {
    let mut reader = BufReader::new(connection);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).ok()? > 2 {
        head.push_str(&line.to_lowercase());
        line.clear();
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.trim().parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let body: Value = serde_json::from_slice(&body).ok()?;
    let prompt = body["messages"][0]["content"].as_str()?;
    let (_, behind) = prompt.split_once("label-")?;
    let label: usize = behind.split_whitespace().next()?.parse().ok()?;
    calls.lock().unwrap().push(label);
    std::thread::sleep(Duration::from_millis((label % 4) as u64));
    let authorised = head.contains(&format!("authorization: bearer {}", KEY.to_lowercase()));
    let text = if authorised { format!("query {label}\nanother {label}") } else { "no key came".to_owned() };
    let reply = json!({
        "choices": [{ "message": { "content": text }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 7, "completion_tokens": 4 },
    })
    .to_string();
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{reply}",
        reply.len()
    )
    .ok()
}

/// Settings of a run in `dir` that asks the server at `url`.
fn settings(dir: &Path, url: &str, key_env: &str) -> Checked<AugmentConfig> {
    let sets = [
        format!("data={}", dir.join("data").display()),
        "generator.kind=http".to_owned(),
        format!("http.url={url}"),
        "http.model=m".to_owned(),
        format!("http.key_env={key_env}"),
        format!("http.concurrency={CONCURRENCY}"),
    ];
    config::load(None, &sets).unwrap()
}

/// A run in `dir` that asks the server at `url`.
fn init(dir: &Path, url: &str) {
    let mut y = CsrBuilder::new();
    y.push([(0, 1.0)]);
    let y = y.finish(LABELS).unwrap();
    let train = Part { texts: Some(Strings::new(["row"])), features: None, y, filter: Vec::new() };
    let names = LabelSet::new((0..LABELS).map(|label| format!("label-{label}")));
    Dataset::new(Path::new("many"), names, train, None).unwrap().save(&dir.join("data")).unwrap();
    Pipeline::init(&dir.join("run"), settings(dir, url, KEY_ENV), &Silent).unwrap();
}

/// Not a test but what the test below starts.
#[test]
fn generate_where_told() {
    if let Some(dir) = std::env::var_os(FOLDER) {
        let run = Pipeline::open(&Path::new(&dir).join("run"), &[], &Silent).unwrap();
        println!("{:?}", run.generate(false).unwrap());
    }
}

fn process(dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "answers::generate_where_told", "--nocapture"]);
    command.env(FOLDER, dir).env(KEY_ENV, KEY).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A process that comes to its end.
fn finish(dir: &Path) -> Output {
    let output = process(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Whole lines of all answers, sorted.
fn answers(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let Ok(files) = fs::read_dir(dir.join("run/generated")) else { return lines };
    for path in files.map(|file| file.unwrap().path()) {
        if path.extension().is_some_and(|end| end == "jsonl") {
            let text = fs::read_to_string(path).unwrap();
            lines.extend(text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::to_owned));
        }
    }
    lines.sort();
    lines
}

/// Labels with an answer.
fn answered(dir: &Path) -> Vec<usize> {
    let source = |line: &String| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["source"].as_u64().unwrap() as usize
    };
    answers(dir).iter().map(source).collect()
}

#[test]
fn killed_twenty_times_a_generation_ends_with_the_same_answers_and_asks_none_again() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (whole, parts) = (whole.path(), parts.path());
    let (url, calls) = serve();
    init(whole, &url);
    init(parts, &url);
    let mut said = vec![finish(whole)];
    assert_eq!(std::mem::take(&mut *calls.lock().unwrap()).len(), LABELS);
    let mut asked = 0;
    for kill in 0..KILLS {
        let before: BTreeSet<usize> = answered(parts).into_iter().collect();
        let mut child = process(parts).spawn().unwrap();
        // After any number of calls, wherever the process is then.
        let after = 1 + kill * 7 % 12;
        while calls.lock().unwrap().len() < after {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
            std::thread::sleep(Duration::from_micros(100 + 50 * kill as u64));
        }
        child.kill().unwrap();
        said.push(child.wait_with_output().unwrap());
        let log = std::mem::take(&mut *calls.lock().unwrap());
        assert!(log.iter().all(|label| !before.contains(label)), "kill {kill}: asked again: {log:?}");
        asked += log.len();
        if kill % 3 == 0 {
            // As a loss of power would leave it.
            let path = parts.join("run/generated/shard-00000.jsonl");
            OpenOptions::new().append(true).open(path).unwrap().write_all(b"{\"check\":\"00").unwrap();
        }
    }
    let before = answered(parts).len();
    assert!(before > 0 && before < LABELS, "{before}");
    said.push(finish(parts));
    asked += std::mem::take(&mut *calls.lock().unwrap()).len();
    // What was under way in a process that was killed is all that can be asked again.
    assert!(asked <= LABELS + KILLS * CONCURRENCY, "{asked}");
    assert_eq!(answered(parts).len(), LABELS);
    assert!(answers(parts) == answers(whole));
    for dir in [whole, parts] {
        let run = Pipeline::open(&dir.join("run"), &[], &Silent).unwrap();
        assert_eq!(run.parse().unwrap().texts, 2 * LABELS);
    }
    assert!(crate::toy_files::files(&parts.join("run/")).iter().all(|(name, bytes)| {
        // Answers come in any order, and the settings name the folder.
        let free = name == "run.toml" || name.starts_with("generated/shard");
        free || fs::read(whole.join("run").join(name)).unwrap() == *bytes
    }));
    said.push(finish(parts));
    assert_eq!(calls.lock().unwrap().len(), 0);
    let written = [whole, parts].into_iter().flat_map(crate::toy_files::files).map(|(_, bytes)| bytes);
    for bytes in written.chain(said.into_iter().flat_map(|output| [output.stdout, output.stderr])) {
        assert!(!String::from_utf8_lossy(&bytes).contains(KEY), "the key is shown");
    }
}

#[test]
fn a_key_in_place_of_the_name_of_its_variable_is_neither_written_nor_shown() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), "http://localhost:1/v1", KEY);
    let problem = Pipeline::init(&dir.path().join("run"), settings, &Silent).err().unwrap().to_string();
    assert!(problem.contains("http.key_env") && !problem.contains(KEY), "{problem}");
    assert!(!dir.path().join("run").exists());
}
