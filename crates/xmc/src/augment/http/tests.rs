//! Against a server of our own on the loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::*;
use crate::augment::Item;

/// What the server does with a call.
#[derive(Clone, Debug)]
enum Act {
    /// Status, further header lines, body.
    Say(u16, &'static str, &'static str),
    /// Says nothing for so long.
    Slow(u64),
}

/// Head and body of the calls that came.
type Calls = Arc<Mutex<Vec<(String, serde_json::Value)>>>;

/// A server that acts by the script, then by its last line; each call has a connection of its own.
fn serve(script: Vec<Act>) -> (String, Calls) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let calls = Calls::default();
    let log = calls.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (head, body) = read(connection.as_ref().unwrap());
            let mut log = log.lock().unwrap();
            let act = script[log.len().min(script.len() - 1)].clone();
            log.push((head, body));
            drop(log);
            std::thread::spawn(move || act_on(connection.unwrap(), &act));
        }
    });
    (url, calls)
}

fn read(connection: &TcpStream) -> (String, serde_json::Value) {
    let mut reader = BufReader::new(connection);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).unwrap() > 2 {
        head.push_str(&line);
        line.clear();
    }
    let header = |line: &str| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned);
    let length: usize = head.lines().find_map(header).unwrap().trim().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head, serde_json::from_slice(&body).unwrap())
}

fn act_on(mut connection: TcpStream, act: &Act) {
    match act {
        Act::Slow(milliseconds) => std::thread::sleep(Duration::from_millis(*milliseconds)),
        Act::Say(status, header, body) => {
            let length = body.len();
            let _ = write!(
                connection,
                "HTTP/1.1 {status} Said\r\nContent-Length: {length}\r\nConnection: close\r\n{header}\r\n{body}"
            );
        }
    }
}

const GOOD: &str = r#"{"choices":[{"message":{"content":"a whale\na ship"},"finish_reason":"stop"}],
    "usage":{"prompt_tokens":11,"completion_tokens":6}}"#;
const KEY: &str = "sk-very-secret";

fn config(url: &str) -> HttpConfig {
    HttpConfig {
        url: url.to_owned(),
        model: "m".to_owned(),
        concurrency: 1,
        wait: Duration::from_millis(5),
        timeout: Duration::from_millis(400),
        ..HttpConfig::default()
    }
}

fn prompt(i: u32) -> Prompt {
    let item = Item { id: i.to_string(), source: i, text: "sea".to_owned(), meta: None };
    Prompt { key: format!("key {i}"), source: i, text: format!("text {i}"), item, seed: 7 + u64::from(i) }
}

fn run(config: HttpConfig, n: u32) -> (Result<()>, Vec<Answer>) {
    let mut answers = Vec::new();
    let mut http = Http::with_key(config, Some(KEY.to_owned())).unwrap();
    let mut keep = |answer| {
        answers.push(answer);
        Ok(())
    };
    let outcome = http.generate(&mut (0..n).map(prompt), &mut keep);
    answers.sort_by_key(|answer| answer.source);
    (outcome, answers)
}

#[test]
fn what_passes_is_waited_for() {
    let (url, calls) = serve(vec![
        Act::Say(429, "Retry-After: 1\r\n", r#"{"error":{"message":"too many"}}"#),
        Act::Say(500, "", "oh"),
        Act::Slow(2000),
        Act::Say(200, "", r#"{"choices":[{"mess"#),
        Act::Say(200, "", GOOD),
    ]);
    let start = Instant::now();
    let (outcome, answers) = run(config(&url), 1);
    outcome.unwrap();
    let expected = Answer {
        key: "key 0".to_owned(),
        source: 0,
        text: "a whale\na ship".to_owned(),
        finish: Finish::Stop,
        prompt_tokens: 11,
        new_tokens: 6,
    };
    assert_eq!(answers, [expected]);
    // The second that it asked for, and the time that a reply may take.
    assert!(start.elapsed() >= Duration::from_millis(1400), "{:?}", start.elapsed());
    let calls = calls.lock().unwrap();
    assert_eq!(calls.len(), 5);
    for (head, body) in calls.iter() {
        assert!(head.starts_with("POST /v1/chat/completions "), "{head}");
        assert!(head.to_lowercase().contains(&format!("authorization: bearer {KEY}")), "{head}");
        assert_eq!(body["messages"][0]["content"], "text 0");
        assert_eq!(
            (&body["model"], &body["max_tokens"], &body["seed"]),
            (&"m".into(), &250.into(), &7.into())
        );
    }
}

#[test]
fn what_cannot_work_is_asked_once_and_the_key_is_shown_nowhere() {
    for (status, advice) in [(401, "http.key_env"), (404, "http.model")] {
        let said = r#"{"error":{"message":"bad key sk-very-secret"}}"#;
        let (url, calls) = serve(vec![Act::Say(status, "", said)]);
        let (outcome, answers) = run(config(&url), 3);
        let problem = outcome.unwrap_err().to_string();
        assert!(problem.contains(&format!("status {status}")) && problem.contains(advice), "{problem}");
        assert!(problem.contains("bad key (key)") && !problem.contains(KEY), "{problem}");
        assert_eq!((answers.len(), calls.lock().unwrap().len()), (0, 1));
    }
    let http = Http::with_key(config("http://a/v1"), Some(KEY.to_owned())).unwrap();
    assert!(!format!("{http:?}").contains(KEY));
}

#[test]
fn a_key_that_a_server_repeats_is_not_shown_in_part_or_in_a_reply_that_is_not_understood() {
    // Where a long message is cut lies within the key; replies are quoted where they are no answers.
    let long = format!(r#"{{"error":{{"message":"{}sk-very-secret"}}}}"#, "x".repeat(380)).leak();
    for (status, said) in [
        (400, &*long),
        (400, "sk-very-secret, in plain text"),
        (200, r#"{"choices":"sk-very-secret"}"#),
        (200, r#"{"choices":[{"message":{"content":["sk-very-secret"]}}]}"#),
    ] {
        let (url, _) = serve(vec![Act::Say(status, "", said)]);
        let (outcome, answers) = run(HttpConfig { attempts: 1, ..config(&url) }, 1);
        outcome.unwrap();
        assert_eq!(answers[0].finish, Finish::Failed);
        assert!(!answers[0].text.contains("sk-"), "{}", answers[0].text);
    }
}

#[test]
fn time_runs_out_for_who_waits_too() {
    for status in [429, 500] {
        let (url, calls) = serve(vec![Act::Say(status, "Retry-After: 30\r\n", "")]);
        let max_time = Some(Duration::from_millis(300));
        let start = Instant::now();
        let (outcome, answers) = run(HttpConfig { max_time, ..config(&url) }, 2);
        let problem = outcome.unwrap_err().to_string();
        assert!(problem.contains("max_hours"), "{problem}");
        assert_eq!((answers.len(), calls.lock().unwrap().len()), (0, 1));
        // Not so long as the server asks.
        assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
    }
}

#[test]
fn a_prompt_that_is_refused_or_fails_too_often_is_no_end() {
    let (url, calls) = serve(vec![
        Act::Say(400, "", r#"{"error":"too long"}"#),
        Act::Say(500, "", ""),
        Act::Say(500, "", ""),
        Act::Say(200, "", GOOD),
    ]);
    let (outcome, answers) = run(HttpConfig { attempts: 2, ..config(&url) }, 3);
    outcome.unwrap();
    let shown: Vec<_> = answers.iter().map(|answer| (answer.finish, answer.text.as_str())).collect();
    let failed = |text| (Finish::Failed, text);
    let expected = [
        failed("status 400: too long"),
        failed("status 500:  (tried 2 times)"),
        (Finish::Stop, "a whale\na ship"),
    ];
    assert_eq!(shown, expected);
    assert_eq!(calls.lock().unwrap().len(), 4);
}

#[test]
fn many_prompts_are_asked_at_once_and_each_once() {
    let (url, calls) = serve(vec![Act::Say(200, "", GOOD)]);
    let (outcome, answers) = run(HttpConfig { concurrency: 7, ..config(&url) }, 50);
    outcome.unwrap();
    assert_eq!(answers.iter().map(|answer| answer.source).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    let mut texts: Vec<String> =
        calls.lock().unwrap().iter().map(|(_, body)| body["messages"][0]["content"].to_string()).collect();
    texts.sort();
    texts.dedup();
    assert_eq!((texts.len(), calls.lock().unwrap().len()), (50, 50));
}

#[test]
fn a_cap_keeps_what_was_paid_for() {
    let (url, calls) = serve(vec![Act::Say(200, "", GOOD)]);
    let (outcome, answers) = run(HttpConfig { max_tokens: Some(40), ..config(&url) }, 10);
    let problem = outcome.unwrap_err().to_string();
    assert!(problem.contains("51 tokens are used, max_tokens allows 40"), "{problem}");
    assert_eq!((answers.len(), calls.lock().unwrap().len()), (3, 3));
}

#[test]
fn the_other_api_continues_a_prompt() {
    let reply = r#"{"choices":[{"text":" and so on","finish_reason":"length"}]}"#;
    let (url, calls) = serve(vec![Act::Say(200, "", reply)]);
    let extra = serde_json::Map::from_iter([("top_k".to_owned(), 200.into())]);
    let (outcome, answers) = run(HttpConfig { api: Api::Completions, extra, ..config(&(url + "/")) }, 1);
    outcome.unwrap();
    assert_eq!((answers[0].text.as_str(), answers[0].finish), (" and so on", Finish::Length));
    let calls = calls.lock().unwrap();
    assert!(calls[0].0.starts_with("POST /v1/completions "), "{}", calls[0].0);
    assert_eq!((&calls[0].1["prompt"], &calls[0].1["top_k"]), (&"text 0".into(), &200.into()));
}

#[test]
fn what_cannot_be_asked_is_refused_before() {
    let with = |change: fn(&mut HttpConfig)| {
        let mut config = config("http://localhost:1/v1");
        change(&mut config);
        Http::new(config).unwrap_err().to_string()
    };
    let problem = with(|config| config.url = "http://me:secret@host/v1".to_owned());
    assert!(problem.contains("http.url") && !problem.contains("secret"), "{problem}");
    assert!(with(|config| config.url = "localhost".to_owned()).contains("http://localhost:8080/v1"));
    assert!(with(|config| config.model.clear()).contains("http.model"));
    assert!(with(|config| config.concurrency = 0).contains("from 1 to 1024"));
    let problem = with(|config| config.key_env = Some("XMC_NO_SUCH_KEY".to_owned()));
    assert!(problem.contains("http.key_env") && problem.contains("XMC_NO_SUCH_KEY"), "{problem}");
    // Whoever gives the key in place of the name of its variable does not see it again.
    let problem = with(|config| config.key_env = Some(KEY.to_owned()));
    assert!(problem.contains("http.key_env") && !problem.contains("sk-"), "{problem}");
}

#[test]
fn an_endpoint_that_answers_nothing_ends_the_run_and_no_prompt_is_said_to_fail() {
    // A port that nobody listens on.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = |concurrency| HttpConfig {
        attempts: 2,
        wait: Duration::from_millis(1),
        concurrency,
        ..config(&format!("http://{gone}/v1"))
    };
    let (outcome, answers) = run(config(3), 30);
    let problem = outcome.unwrap_err().to_string();
    assert!(
        problem.contains("none of the first 8 prompts") && problem.contains("tried 2 times"),
        "{problem}"
    );
    assert!(answers.is_empty(), "{answers:?}");
    // Of a few prompts each is told of.
    let (outcome, answers) = run(config(3), 7);
    outcome.unwrap();
    assert_eq!((answers.len(), answers[0].finish), (7, Finish::Failed));
}
