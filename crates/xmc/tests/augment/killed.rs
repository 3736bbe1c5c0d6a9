//! A mapping whose process is killed again and again ends with the same bits, and finds nothing twice.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use xmc::augment::map::{MapConfig, Search, map};
use xmc::events::Silent;
use xmc::index::{Dtype, LabelEmbeddings};

const QUERIES: usize = 100_000;
const TARGETS: usize = 12_000;
const DIM: usize = 16;

/// Set for the process that is killed.
const FOLDER: &str = "XMC_TEST_MAP_IN";

/// Any numbers, of length 1.
fn rows(count: usize, seed: u32) -> LabelEmbeddings {
    let mut state = seed;
    let mut values: Vec<f32> = (0..count * DIM)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    for row in values.chunks_exact_mut(DIM) {
        xmc::nn::pool::normalize(row);
    }
    LabelEmbeddings::from_values(DIM, &values, Dtype::F32).unwrap()
}

/// Maps in `dir` and leaves ids and cosines there; how many queries were found before.
fn run(dir: &Path) -> usize {
    let of: Vec<u32> = (0..QUERIES as u32).collect();
    let config = MapConfig { search: Search::Exact, k: 5, ..MapConfig::default() };
    let mapped =
        map(&rows(QUERIES, 1), &of, &rows(TARGETS, 2), &config, &dir.join("ongoing"), &Silent).unwrap();
    let save = |found: &xmc::augment::Neighbours| {
        let numbers =
            found.ids.iter().map(|&id| id.cast_unsigned()).chain(found.cosines.iter().map(|c| c.to_bits()));
        std::fs::write(dir.join("aside"), numbers.flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();
        std::fs::rename(dir.join("aside"), dir.join("found")).unwrap();
        Ok(())
    };
    mapped.keep(save).unwrap().1.resumed
}

/// Not a test but what the test below starts.
#[test]
fn map_where_told() {
    if let Some(dir) = std::env::var_os(FOLDER) {
        run(Path::new(&dir));
    }
}

#[test]
fn killed_twenty_times_a_mapping_ends_with_the_same_bits() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = std::time::Instant::now();
    assert_eq!(run(whole.path()), 0);
    let usual = start.elapsed();
    let ongoing = parts.path().join("ongoing");
    let (mut before, mut grown) = (0, 0);
    for kill in 0..20u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::map_where_told"])
            .env(FOLDER, parts.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // At any moment of a run, none of which comes to its end.
        std::thread::sleep(usual.mul_f64(f64::from(kill * 7 % 20) / 40.0) + Duration::from_millis(5));
        child.kill().unwrap();
        child.wait().unwrap();
        let bytes = std::fs::metadata(&ongoing).map_or(0, |m| m.len());
        // A torn block may be cut off; what is whole stays.
        assert!(bytes + 4096 * 40 + 16 >= before || parts.path().join("found").exists());
        grown += u32::from(bytes > before);
        before = bytes;
    }
    let finished = parts.path().join("found").exists();
    assert!(finished || run(parts.path()) > 0, "grew in {grown} of 20");
    let [expected, found] = [&whole, &parts].map(|dir| std::fs::read(dir.path().join("found")).unwrap());
    assert!(expected == found);
    assert!(!ongoing.exists() || finished);
}
