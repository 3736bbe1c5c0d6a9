//! Is there anybody? An endpoint that answers nothing ends the run, early.

use crate::augment::Answer;
use crate::error::{Error, Result};

/// Prompts of which one at least must be answered, or refused for what it says.
const SILENT: usize = 8;

/// What became of a prompt.
pub(super) struct Outcome {
    /// For the prompt.
    pub(super) answer: Answer,
    /// Whether it was tried as often as allowed.
    pub(super) given_up: bool,
}

/// Prompts that were given up before the first answer of all. An endpoint that answers nothing is an error, and no reason to
/// write down that each prompt fails.
#[derive(Default)]
pub(super) struct Silence {
    given_up: Vec<Answer>,
    over: bool,
}

impl Silence {
    /// What may be kept now.
    pub(super) fn hear(&mut self, outcome: Outcome) -> Result<Vec<Answer>> {
        if self.over {
            return Ok(vec![outcome.answer]);
        }
        let Outcome { answer, given_up } = outcome;
        if !given_up {
            self.over = true;
            self.given_up.push(answer);
            return Ok(std::mem::take(&mut self.given_up));
        }
        self.given_up.push(answer);
        if self.given_up.len() < SILENT {
            return Ok(Vec::new());
        }
        let why = self.given_up.first().map_or("", |answer| answer.text.as_str());
        Err(Error::Mismatch(format!("the endpoint has answered none of the first {SILENT} prompts: {why}")))
    }

    /// What was never kept: so few prompts that none of them tells of the others.
    pub(super) fn rest(self) -> Vec<Answer> {
        self.given_up
    }
}
