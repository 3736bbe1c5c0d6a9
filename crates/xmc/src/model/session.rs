//! How are single rows answered, one after the other?

use xmc_data::Row;

use super::ensemble;
use crate::error::Result;
use crate::methods::{dexml, elias, quest, xr_linear, xr_transformer};

/// Buffers of a model that answers row after row; one for each thread.
#[allow(clippy::large_enum_variant, reason = "there are few")]
pub enum Session<'m> {
    /// Walks down label trees.
    XrLinear(xr_linear::Session<'m>),
    /// Embeds, and walks down label trees.
    XrTransformer(xr_transformer::Session<'m>),
    /// Embeds, and compares with all labels.
    Dexml(dexml::Session<'m>),
    /// Embeds, and follows an index to a few labels.
    Elias(elias::Session<'m>),
    /// Reads behind a prompt, and compares with all labels.
    Quest(quest::Session<'m>),
    /// Asks several models.
    Ensemble(ensemble::Session<'m>),
}

impl Session<'_> {
    /// The best labels of a text, best first.
    pub fn text(&mut self, text: &str) -> Result<&[(u32, f32)]> {
        match self {
            Session::XrLinear(session) => session.text(text),
            Session::XrTransformer(session) => session.text(text),
            Session::Dexml(session) => session.text(text),
            Session::Elias(session) => session.text(text),
            Session::Quest(session) => session.text(text),
            Session::Ensemble(session) => session.text(text),
        }
    }

    /// The best labels of a row of features, best first; ids that the model does not know are ignored.
    pub fn features(&mut self, row: Row<'_>) -> Result<&[(u32, f32)]> {
        match self {
            Session::XrLinear(session) => session.features(row),
            Session::XrTransformer(session) => session.features(row),
            Session::Dexml(session) => session.features(row),
            Session::Elias(session) => session.features(row),
            Session::Quest(session) => session.features(row),
            Session::Ensemble(session) => session.features(row),
        }
    }
}
