//! What happens, on stderr: bars on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use xmc::events::{Events, StageReport};

/// Shows a run to a person.
pub(crate) struct Terminal {
    quiet: bool,
    bars: bool,
    bar: Mutex<ProgressBar>,
}

impl Terminal {
    /// Bars only if stderr is a terminal; nothing at all if `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        let bars = !quiet && io::stderr().is_terminal();
        Terminal { quiet, bars, bar: Mutex::new(ProgressBar::hidden()) }
    }

    /// A line for the user, unless quiet.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            self.with_bar(|bar| bar.suspend(|| write_line(text)));
        }
    }

    /// A lock that is poisoned belongs to a thread that died; what it showed is still a bar.
    fn with_bar(&self, change: impl FnOnce(&mut ProgressBar)) {
        change(&mut self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Events for Terminal {
    fn stage_started(&self, name: &str) {
        if self.bars {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style("{msg:<12} {spinner} {elapsed}"));
            bar.set_message(name.to_owned());
            bar.enable_steady_tick(std::time::Duration::from_millis(200));
            self.with_bar(|shown| *shown = bar);
        }
    }

    fn progress(&self, done: u64, total: u64) {
        if self.bars {
            self.with_bar(|bar| {
                if bar.length().is_none() {
                    bar.set_length(total);
                    bar.set_style(style("{msg:<12} {bar:32} {percent:>3}% {elapsed}, {eta} left"));
                }
                bar.set_position(done);
            });
        }
    }

    fn stage_finished(&self, report: &StageReport) {
        if self.bars {
            self.with_bar(|bar| {
                bar.finish_and_clear();
                *bar = ProgressBar::hidden();
            });
        }
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
