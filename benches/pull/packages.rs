//! The packages that are pulled.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

const MEBIBYTE: u64 = 1 << 20;
/// A paper of a meeting, scanned.
const ENTRY_BYTES: usize = 10 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Stored,
    Deflated,
}

/// A package of at least so many bytes, where nginx finds it.
pub fn make(folder: &Path, mebibytes: u64, method: Method) -> PathBuf {
    let path = folder.join(format!("www/uploads/packages/{method:?}-{mebibytes}.zip"));
    if path.is_file() {
        return path;
    }
    let mut zip = ZipWriter::new(BufWriter::new(File::create(&path).expect("a file")));
    let options = match method {
        Method::Stored => {
            SimpleFileOptions::default().compression_method(CompressionMethod::Stored)
        }
        Method::Deflated => SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(1)),
    };
    let mut random = fastrand::Rng::with_seed(mebibytes);
    for number in 0.. {
        if zip_bytes(&path) >= mebibytes * MEBIBYTE - ENTRY_BYTES as u64 / 2 {
            break;
        }
        zip.start_file(format!("paper-{number}.pdf"), options).expect("an entry");
        zip.write_all(&content(&mut random, method)).expect("its bytes");
        zip.flush().expect("room for them");
    }
    zip.finish().expect("a directory").flush().expect("room for it");
    path
}

fn zip_bytes(path: &Path) -> u64 {
    path.metadata().expect("the package").len()
}

/// What is stored is random. What is deflated hardly shrinks, as PDFs and
/// pictures may: nearly every byte of it has to be decoded, which is the worst.
fn content(random: &mut fastrand::Rng, method: Method) -> Vec<u8> {
    let mut bytes = vec![0; ENTRY_BYTES];
    random.fill(&mut bytes);
    if method == Method::Deflated {
        // The larger of two is more often large.
        let other: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(ENTRY_BYTES).collect();
        bytes.iter_mut().zip(other).for_each(|(byte, other)| *byte = (*byte).max(other));
    }
    bytes
}
