//! What a run tells whoever started it. The library itself prints nothing.

/// A finished stage.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StageReport {
    /// Name of the stage.
    pub name: String,
    /// Wall seconds it took; of the earlier run if it was loaded.
    pub seconds: f64,
    /// Highest resident memory of the process up to the end of the stage, bytes; 0 where the system does not say.
    pub peak_memory: u64,
    /// True if the result was loaded from an earlier run.
    pub resumed: bool,
}

/// Receives what happens during a run, from any thread.
pub trait Events: Sync {
    /// A stage begins.
    fn stage_started(&self, _name: &str) {}
    /// `done` of `total` steps of the present stage are finished.
    fn progress(&self, _done: u64, _total: u64) {}
    /// How the present stage goes, in a few words: a loss, a speed. Replaces the words before.
    fn status(&self, _text: &str) {}
    /// A stage ended.
    fn stage_finished(&self, _report: &StageReport) {}
    /// Something a user should know.
    fn message(&self, _text: &str) {}
}

/// Tells nobody.
pub struct Silent;

impl Events for Silent {}
