//! What happens, on stderr: bars on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use xmc::events::{Events, StageReport};

/// Shows a run to a person.
pub(crate) struct Terminal {
    quiet: bool,
    bars: bool,
    bar: Mutex<ProgressBar>,
    /// What a log was told last of the stage, and when.
    log: Mutex<Log>,
}

/// Where there is no bar, hours of silence would look like a hang.
struct Log {
    said: Instant,
    done: Option<(u64, u64)>,
}

/// Time between two lines of a log about one stage.
const LOG_EVERY: Duration = Duration::from_mins(1);

impl Terminal {
    /// Bars only if stderr is a terminal; nothing at all if `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        let bars = !quiet && io::stderr().is_terminal();
        let log = Mutex::new(Log { said: Instant::now(), done: None });
        Terminal { quiet, bars, bar: Mutex::new(ProgressBar::hidden()), log }
    }

    /// A line for the user, unless quiet.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            self.with_bar(|bar| bar.suspend(|| write_line(text)));
        }
    }

    fn with_log(&self, change: impl FnOnce(&mut Log)) {
        change(&mut self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// The bar goes, without a word.
    pub(crate) fn stage_over(&self) {
        self.with_bar(|bar| {
            bar.finish_and_clear();
            *bar = ProgressBar::hidden();
        });
    }

    /// A lock that is poisoned belongs to a thread that died; what it showed is still a bar.
    fn with_bar(&self, change: impl FnOnce(&mut ProgressBar)) {
        change(&mut self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Events for Terminal {
    fn stage_started(&self, name: &str) {
        self.with_log(|log| *log = Log { said: Instant::now(), done: None });
        if self.bars {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style("{prefix:<12} {spinner} {elapsed}   {msg}"));
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            self.with_bar(|shown| *shown = bar);
        }
    }

    fn progress(&self, done: u64, total: u64) {
        if self.bars {
            self.with_bar(|bar| {
                let first = bar.length().is_none();
                if first {
                    bar.set_length(total);
                    bar.set_style(style("{prefix:<12} {bar:32} {percent:>3}% {elapsed}, {eta} left   {msg}"));
                }
                bar.set_position(done);
                if first {
                    // What a resumed stage begins with was not done in this time.
                    bar.reset_eta();
                }
            });
        } else {
            self.with_log(|log| log.done = Some((done, total)));
        }
    }

    fn status(&self, text: &str) {
        if self.bars {
            return self.with_bar(|bar| bar.set_message(text.to_owned()));
        }
        let mut line = None;
        self.with_log(|log| {
            if log.said.elapsed() >= LOG_EVERY {
                let done = log.done.map_or(String::new(), |(done, total)| format!("{done} of {total}   "));
                line = Some(format!("             {done}{text}"));
                log.said = Instant::now();
            }
        });
        if let Some(line) = line {
            self.say(&line);
        }
    }

    fn stage_finished(&self, report: &StageReport) {
        self.stage_over();
        let how = if report.resumed {
            "done earlier, loaded".to_owned()
        } else {
            format!("{:.2} s", report.seconds)
        };
        self.say(&format!("{:<12} {how}", report.name));
    }

    fn message(&self, text: &str) {
        self.say(text);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// An error, for a person or a log; a closed stderr is nobody's problem.
pub(crate) fn complain(text: &str) {
    write_line(&format!("error: {text}"));
}

fn write_line(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
