//! GGUF files: metadata, tensors, tokenizers. Whatever opens must be usable: no panic, no endless loop, no memory that
//! the file does not back.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use xmc_fuzz::with_file;
use xmc_nn::decoder::Source;
use xmc_nn::gguf::File;

/// Weights that are unpacked at most.
const SOME: usize = 1 << 16;

fuzz_target!(|data: &[u8]| with_file(data, open));

fn open(path: &Path) {
    if let Ok(file) = File::open(path) {
        for name in file.tensors() {
            let Ok(Some((&[rows, cols], _))) = file.tensor(name) else { continue };
            let Ok(matrix) = file.matrix(name, rows, cols) else { continue };
            if rows > 0 && cols <= SOME {
                matrix.row(rows - 1, &mut vec![0.0; cols]);
            }
        }
    }
    let Ok(source) = Source::open(path) else { return };
    let _ = (source.fingerprint(), source.chat_template(), source.config().rope_frequencies());
    let Ok(tokenizer) = source.tokenizer(16) else { return };
    for text in ["", "The tide and 12 whales", "\u{0}e\u{301}<|end|>  \n", &"ab ".repeat(50)] {
        let Ok(ids) = tokenizer.encode_one(text) else { continue };
        assert!(!ids.is_empty() && ids.len() <= 16);
        assert!(ids.iter().all(|&id| (id as usize) < source.config().vocab));
        let _ = tokenizer.decode(&ids);
    }
}
