//! Where does every parameter lie? All of a model in one run of floats, so that an optimiser is one loop.

use std::ops::Range;

use crate::error::{Error, Result};

/// One named parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Name as Hugging Face spells it, without the prefix of the model class.
    pub name: String,
    /// Shape, outermost first; linear weights are `[out, in]`.
    pub shape: Vec<usize>,
    /// Place in the run of values.
    pub range: Range<usize>,
    /// Whether weight decay applies: matrices yes, biases and norms no.
    pub decay: bool,
}

/// Names, shapes and places of all parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    params: Vec<Param>,
}

impl Layout {
    /// Appends a parameter and returns its place. Vectors do not decay.
    pub fn push(&mut self, name: impl Into<String>, shape: &[usize]) -> Range<usize> {
        let start = self.len();
        // Sizes come from files: too many floats to count are as good as the largest number.
        let n = shape.iter().fold(1, |n: usize, &size| n.saturating_mul(size));
        let range = start..start.saturating_add(n);
        let decay = shape.len() > 1;
        self.params.push(Param { name: name.into(), shape: shape.to_vec(), range: range.clone(), decay });
        range
    }

    /// Number of floats.
    pub fn len(&self) -> usize {
        self.params.last().map_or(0, |param| param.range.end)
    }

    /// Whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.params.is_empty()
    }

    /// All parameters in their order.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// The parameter of that name.
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|param| param.name == name)
    }

    /// Refuses values of another length.
    pub fn check(&self, values: &[f32]) -> Result<()> {
        if values.len() == self.len() {
            return Ok(());
        }
        Err(Error::Shape(format!("{} values for {} parameters", values.len(), self.len())))
    }
}
