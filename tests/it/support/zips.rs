//! Packages for tests.

use std::io::{Cursor, Write};

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// A package of one file with this text.
pub(crate) fn zip_of(text: &str) -> Vec<u8> {
    stored_zip(&[("meeting.txt", text.as_bytes())])
}

/// A package of about `size` bytes that nothing can compress.
pub(crate) fn big_zip(size: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut content = vec![0; size];
    random.fill(&mut content);
    stored_zip(&[("big.bin", &content)])
}

fn stored_zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, content) in files {
        zip.start_file(*name, stored).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}
