//! How much memory does this process use, and how is an amount written?

use std::fs;

/// Units from large to small, as powers of 1024.
const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Highest resident memory of this process so far in bytes; 0 where the system does not say.
///
/// The system's mark is never reset between stages: measuring programs read the same mark at the end.
pub fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// `1610612736` to `1.5 GiB`.
pub fn show(bytes: u64) -> String {
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

/// `4GiB`, `512M`, `1.5 gb` or plain bytes; all units are powers of 1024.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("found `{text}`, expected an amount of memory like 4GiB or 512MiB");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_uppercase();
    let letter = unit.trim_end_matches('B').trim_end_matches('I');
    let factor = match letter {
        "" if matches!(unit.as_str(), "" | "B") => 1,
        "" => return Err(wrong()),
        _ => {
            UNITS.iter().find(|(name, _)| name.starts_with(letter) && letter.len() == 1).ok_or_else(wrong)?.1
        }
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    if number > 0.0 { Ok((number * factor as f64) as u64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("4GiB", 4 << 30),
            ("4g", 4 << 30),
            ("1.5 GB", 3 << 29),
            ("512M", 512 << 20),
            ("77", 77),
            ("8B", 8),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "4XB", "-1G", "0", "4 G iB", "1.2.3M", "4IB", "NaN"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_are_written_in_the_largest_fitting_unit() {
        assert_eq!(
            (show(1023), show(1536), show(3 << 29)),
            ("1023 B".into(), "1.5 KiB".into(), "1.5 GiB".into())
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_is_at_least_what_was_just_touched() {
        let block = vec![1u8; 32 << 20];
        assert!(peak() > block.len() as u64);
    }
}
