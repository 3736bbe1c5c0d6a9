//! Where do numbers live and where is computed? A choice at run time.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A place with memory and arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The processor, with as many threads as rayon has.
    Cpu,
}

impl FromStr for Device {
    type Err = Error;

    /// `cpu`, `auto` (the best there is) or `cuda:N`.
    fn from_str(asked: &str) -> Result<Self> {
        let problem = match asked {
            "cpu" | "auto" => return Ok(Device::Cpu),
            _ if asked.strip_prefix("cuda:").is_some_and(|n| n.parse::<u32>().is_ok()) => {
                "this program has no GPU back end yet; use `cpu` or `auto`"
            }
            _ => "expected `cpu`, `cuda:N` or `auto`",
        };
        Err(Error::Device { asked: asked.to_owned(), problem: problem.to_owned() })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_chosen_by_name() {
        assert_eq!("auto".parse::<Device>().unwrap(), Device::Cpu);
        assert_eq!("cpu".parse::<Device>().unwrap().to_string(), "cpu");
        for wrong in ["cuda:0", "gpu", "cuda:", ""] {
            let message = wrong.parse::<Device>().unwrap_err().to_string();
            assert!(message.starts_with(&format!("device `{wrong}`: ")), "{message}");
        }
    }
}
