//! The sample meeting's package: an agenda and a paper that open anywhere, and slides
//! that make it as large as real ones.

use std::{
    fs::File,
    io::{self, BufWriter, Seek, Write},
    path::Path,
};

use edge_mirror_base::atomic::Scratch;
use zip::{CompressionMethod, ZipWriter, result::ZipResult, write::SimpleFileOptions};

const AGENDA: &str = "\
示例会议 Sample meeting\n\
\n\
1. 会议包由主控服务器保存 / The main server keeps the package\n\
2. 节点自动同步并校验 / Nodes pull and verify it by themselves\n\
3. 平板从节点下载 / Tablets download it from a node\n";

/// Number of files that make up the size.
const SLIDES: u64 = 20;

/// Makes a package of about so many bytes, in a file that is gone when it is closed.
pub(super) fn package(folder: &Path, size_bytes: u64) -> io::Result<File> {
    let scratch = Scratch::create_in(folder)?;
    write(BufWriter::new(scratch.file()), size_bytes).map_err(io::Error::other)?;
    scratch.reader()
}

fn write(output: impl Write + Seek, size_bytes: u64) -> ZipResult<()> {
    let mut zip = ZipWriter::new(output);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    zip.start_file("agenda.txt", options)?;
    zip.write_all(AGENDA.as_bytes())?;
    zip.start_file("paper.pdf", options)?;
    zip.write_all(&paper())?;
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    // The same bytes each time, and not compressible.
    let (mut random, mut block) = (fastrand::Rng::with_seed(1), vec![0; 64 << 10]);
    for number in 1..=SLIDES {
        zip.start_file(format!("slides-{number}.bin"), stored)?;
        let mut left = size_bytes / SLIDES;
        while left > 0 {
            random.fill(&mut block);
            let length = usize::try_from(left).unwrap_or(block.len()).min(block.len());
            zip.write_all(&block[..length])?;
            left -= length as u64;
        }
    }
    zip.finish()?.flush()?;
    Ok(())
}

/// Returns a PDF of one page: four objects and the table of their offsets.
fn paper() -> Vec<u8> {
    let drawn = "BT /F 24 Tf 72 720 Td (edge-mirror: a sample paper) Tj ET";
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R \
         /Resources << /Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{drawn}\nendstream", drawn.len()),
    ];
    let mut pdf = "%PDF-1.4\n".to_owned();
    let mut table = "0000000000 65535 f \n".to_owned();
    for (number, object) in (1..).zip(&objects) {
        table += &format!("{:010} 00000 n \n", pdf.len());
        pdf += &format!("{number} 0 obj\n{object}\nendobj\n");
    }
    let (begin, size) = (pdf.len(), objects.len() + 1);
    pdf += &format!(
        "xref\n0 {size}\n{table}trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{begin}\n%%EOF\n"
    );
    pdf.into_bytes()
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::package::VerifyLevel;
    use edge_mirror_store::verify::check_zip;

    use super::*;

    #[test]
    fn the_sample_is_a_good_package_of_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let file = package(folder.path(), 1_000_000).unwrap();
        assert_eq!(check_zip(&file, VerifyLevel::Full).unwrap(), 2 + SLIDES);
        let size = file.metadata().unwrap().len();
        assert!((1_000_000..1_010_000).contains(&size), "{size}");
    }

    #[test]
    fn the_papers_table_points_at_its_objects() {
        let pdf = String::from_utf8(paper()).unwrap();
        let table = pdf.split("xref\n0 5\n").nth(1).unwrap();
        for (number, line) in (1..).zip(table.lines().skip(1).take(4)) {
            let offset: usize = line[..10].parse().unwrap();
            assert!(pdf[offset..].starts_with(&format!("{number} 0 obj")), "{line}");
        }
    }
}
