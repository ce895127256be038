//! The bytes of sample files. Pure but for chance.

use std::io;

use super::sizes;

const STEP: usize = 64 << 10;
const PATTERN: &[u8; 16] = b"0123456789ABCDEF";

/// The kind of a sample's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SampleKind {
    Text,
    Random,
    Pattern,
}

impl SampleKind {
    pub(super) const ALL: [(Self, &'static str, &'static str); 3] = [
        (Self::Text, "text", "可读文本内容（重复的文本行）"),
        (Self::Random, "random", "随机字节内容"),
        (Self::Pattern, "pattern", "重复的字节模式"),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(kind, of, _)| (of == name).then_some(kind))
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Random => "random",
            Self::Pattern => "pattern",
        }
    }
}

/// A sample file to be.
#[derive(Clone, Debug)]
pub(super) struct SampleFile {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) kind: SampleKind,
    /// A head that says what it is comes first.
    pub(super) has_head: bool,
}

impl SampleFile {
    fn head(&self) -> String {
        let Self { name, bytes, kind, .. } = self;
        let size = sizes::format(*bytes);
        format!(
            "# edge-mirror sample file {name}\n# {bytes} bytes ({size}) of {} follow\n\n",
            kind.name()
        )
    }

    /// Writes it piece by piece.
    pub(super) fn write(&self, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if self.has_head {
            write(self.head().as_bytes())?;
        }
        let (mut left, mut line) = (self.bytes, 1_u64);
        let mut piece = Vec::with_capacity(STEP + 64);
        while left > 0 {
            piece.clear();
            match self.kind {
                SampleKind::Pattern => {
                    piece.extend_from_slice(&PATTERN.repeat(STEP / PATTERN.len()))
                }
                SampleKind::Random => {
                    piece.resize(STEP, 0);
                    fastrand::Rng::new().fill(&mut piece);
                }
                SampleKind::Text => {
                    while piece.len() < STEP {
                        piece.extend_from_slice(
                            format!("line {line} of a sample file\n").as_bytes(),
                        );
                        line += 1;
                    }
                }
            }
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            write(&piece[..count])?;
            left -= count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_its_size_and_a_head_if_it_is_to() {
        for (kind, ..) in SampleKind::ALL {
            for bytes in [1, 1000, 200_001] {
                let mut sample = SampleFile { name: "x.txt".into(), bytes, kind, has_head: false };
                let written = |sample: &SampleFile| {
                    let mut all = Vec::new();
                    sample
                        .write(|piece| {
                            all.extend_from_slice(piece);
                            Ok(())
                        })
                        .unwrap();
                    all
                };
                assert_eq!(written(&sample).len() as u64, bytes, "{kind:?}");
                sample.has_head = true;
                let all = written(&sample);
                assert!(all.starts_with(b"# edge-mirror sample file x.txt\n"));
                assert_eq!(all.len(), sample.head().len() + usize::try_from(bytes).unwrap());
            }
        }
        assert_eq!(SampleKind::named("zip"), None);
    }
}
