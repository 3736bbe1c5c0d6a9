//! Which type of ggml is which format?

use crate::quant::Format;

/// Formats that are read, for messages.
pub(super) const SUPPORTED: &str = "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K or Q6_K";

/// The format of a type's number, if it is read.
pub(super) fn format(kind: u32) -> Option<Format> {
    match kind {
        0 => Some(Format::F32),
        1 => Some(Format::F16),
        2 => Some(Format::Q4_0),
        3 => Some(Format::Q4_1),
        8 => Some(Format::Q8_0),
        12 => Some(Format::Q4K),
        14 => Some(Format::Q6K),
        30 => Some(Format::Bf16),
        _ => None,
    }
}

/// What the makers of files call a type.
pub(super) fn name(kind: u32) -> String {
    let name = match kind {
        6 => "Q5_0",
        7 => "Q5_1",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        13 => "Q5_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return format(kind).map_or_else(|| format!("type {kind}"), |format| format.to_string()),
    };
    name.to_owned()
}
