//! The files of a task as agents pull them: all pieces are there, in the blobs of its files.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use edge_mirror_base::{clock::UnixMillis, tasks};
use edge_mirror_gofd::{PIECE_BYTES, PieceDigest, PieceHasher, PieceLayout, PieceSource};
use edge_mirror_protocol::{dispatch::TaskFile, package::Sha256};
use edge_mirror_store::{OpenedPackage, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::server::blob_key;

/// Bytes read at a time for digests.
const BUFFER_BYTES: usize = 256 << 10;

/// A file, and its place among all bytes.
#[derive(Debug)]
struct SeedFile {
    offset: u64,
    size: u64,
    sha256: Sha256,
}

#[derive(Debug)]
pub(crate) struct TaskSeed {
    layout: PieceLayout,
    files: Arc<[SeedFile]>,
    store: Store,
    leading: watch::Sender<u32>,
    heard: Mutex<HashMap<IpAddr, UnixMillis>>,
    /// Ends the connections that pull it.
    pub(crate) end: CancellationToken,
}

impl TaskSeed {
    /// None if it is larger than what agents can be told.
    pub(crate) fn new(files: &[TaskFile], store: Store) -> Option<Self> {
        let mut offset = 0u64;
        let files = files.iter().map(|file| {
            let seed = SeedFile { offset, size: file.size, sha256: file.sha256 };
            offset = offset.saturating_add(file.size);
            seed
        });
        let files: Arc<[SeedFile]> = files.collect();
        let layout = PieceLayout::new(offset, PIECE_BYTES)?;
        let (leading, _) = watch::channel(layout.pieces());
        Some(Self {
            layout,
            files,
            store,
            leading,
            heard: Mutex::default(),
            end: CancellationToken::new(),
        })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.layout.length()
    }

    /// The last request of an agent.
    pub(crate) fn heard_at(&self, ip: IpAddr) -> Option<UnixMillis> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).get(&ip.to_canonical()).copied()
    }

    /// Reads all files for the digests of the pieces. Blocks.
    pub(crate) fn digest(&self) -> io::Result<Vec<PieceDigest>> {
        let (mut hasher, mut buffer) = (PieceHasher::default(), vec![0; BUFFER_BYTES]);
        for file in &*self.files {
            let (_, opened) = open(&self.store, file)?;
            let mut at = 0;
            while at < file.size {
                let want =
                    usize::try_from(file.size - at).map_or(BUFFER_BYTES, |n| n.min(BUFFER_BYTES));
                opened.file().read_exact_at(&mut buffer[..want], at)?;
                hasher.update(&buffer[..want]);
                at += want as u64;
            }
        }
        Ok(hasher.finish())
    }
}

fn open(store: &Store, file: &SeedFile) -> io::Result<OpenedPackage> {
    let opened = store.open_package(blob_key(file.sha256)).map_err(io::Error::other)?;
    let opened = opened.ok_or_else(|| io::Error::other("a file was removed meanwhile"))?;
    // Not swept while agents pull it.
    opened.0.note_served();
    Ok(opened)
}

impl PieceSource for TaskSeed {
    fn layout(&self) -> PieceLayout {
        self.layout
    }

    fn leading(&self) -> watch::Receiver<u32> {
        self.leading.subscribe()
    }

    async fn read(&self, offset: u64, bytes: usize) -> io::Result<Bytes> {
        let (files, store) = (self.files.clone(), self.store.clone());
        tasks::blocking_limited(move || read_at(&files, &store, offset, bytes)).await
    }

    fn note_request(&self, from: IpAddr) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.insert(from.to_canonical(), UnixMillis::now());
    }
}

/// Reads bytes that may be of several files. Blocks.
fn read_at(files: &[SeedFile], store: &Store, offset: u64, bytes: usize) -> io::Result<Bytes> {
    let (mut read, end) = (BytesMut::zeroed(bytes), offset + bytes as u64);
    let first = files.partition_point(|file| file.offset + file.size <= offset);
    for file in files[first..].iter().take_while(|file| file.offset < end) {
        let (from, to) = (file.offset.max(offset), (file.offset + file.size).min(end));
        if from >= to {
            continue;
        }
        let place = |at: u64| usize::try_from(at - offset).map_err(io::Error::other);
        let (_, opened) = open(store, file)?;
        let part = &mut read[place(from)?..place(to)?];
        opened.file().read_exact_at(part, from - file.offset)?;
    }
    Ok(read.freeze())
}
