use std::{os::unix::fs::symlink, path::Path};

use edge_mirror_gofd::{AgentTaskFile, PIECE_BYTES, PieceHasher};
use tempfile::TempDir;

use super::*;

/// Files with these sizes, their bytes one behind the other, and what a server says of them.
fn task(sizes: &[(&str, u64)]) -> (MetaInfo, Vec<u8>) {
    let length = sizes.iter().map(|(_, size)| size).sum();
    let bytes: Vec<u8> = (0..length).map(|at| (at * 7 % 253) as u8).collect();
    let mut hasher = PieceHasher::default();
    hasher.update(&bytes);
    let files = sizes.iter().map(|(path, size)| {
        let (path, name) = path.rsplit_once('/').unwrap();
        AgentTaskFile { length: *size, path: path.into(), name: name.into(), sum: String::new() }
    });
    let files = files.collect();
    (MetaInfo { length, piece_len: PIECE_BYTES, pieces: hasher.finish(), files }, bytes)
}

const SIZES: [(&str, u64); 5] = [
    ("/srv/a/x", 700_000),
    ("/srv/empty", 0),
    ("/srv/b/x", 1_500_000),
    ("/srv/c", 20),
    ("/srv/last", 0),
];

fn open(folder: &TempDir, meta: &MetaInfo) -> AgentFiles {
    AgentFiles::new(folder.path().join("down"), meta).unwrap()
}

fn piece(bytes: &[u8], piece: usize) -> &[u8] {
    bytes.chunks(PIECE_BYTES as usize).nth(piece).unwrap()
}

/// All that is in the folder, by name.
fn listing(folder: &TempDir) -> Vec<String> {
    fn walk(at: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, root, found),
                false => found.push(path.strip_prefix(root).unwrap().display().to_string()),
            }
        }
    }
    let mut found = Vec::new();
    walk(&folder.path().join("down"), &folder.path().join("down"), &mut found);
    found.sort();
    found
}

fn are_whole(folder: &TempDir, bytes: &[u8]) -> bool {
    let mut at = 0;
    SIZES.iter().all(|(path, size)| {
        let name = path.strip_prefix("/srv/").unwrap();
        let end = at + *size as usize;
        let part = &bytes[std::mem::replace(&mut at, end)..end];
        fs::read(folder.path().join("down").join(name)).is_ok_and(|read| read == part)
    })
}

#[test]
fn a_file_is_in_place_when_it_is_whole_and_not_before() {
    let (folder, (meta, bytes)) = (tempfile::tempdir().unwrap(), task(&SIZES));
    let files = open(&folder, &meta);
    assert_eq!(files.resume(&meta.pieces).unwrap(), 0);
    assert_eq!(listing(&folder), [""; 0]);
    files.write(0, piece(&bytes, 0)).unwrap();
    assert_eq!(listing(&folder), ["a/x", "b/.gofd-x", "empty"]);
    assert_eq!(files.read(600_000, 200_000).unwrap(), bytes[600_000..800_000]);
    files.write(1, piece(&bytes, 1)).unwrap();
    files.write(2, piece(&bytes, 2)).unwrap();
    assert_eq!(listing(&folder), ["a/x", "b/x", "c", "empty", "last"]);
    assert!(are_whole(&folder, &bytes));
    assert_eq!(files.read(2_199_990, 30).unwrap(), bytes[2_199_990..2_200_020]);
}

#[test]
fn what_is_here_is_not_pulled_again() {
    let (folder, (meta, bytes)) = (tempfile::tempdir().unwrap(), task(&SIZES));
    for begun in 0..=3u32 {
        let files = open(&folder, &meta);
        assert_eq!(files.resume(&meta.pieces).unwrap(), begun);
        if begun < 3 {
            files.write(begun, piece(&bytes, begun as usize)).unwrap();
        }
    }
    assert!(are_whole(&folder, &bytes));
    assert_eq!(listing(&folder).len(), 5);
}

#[test]
fn a_file_of_the_right_size_with_other_bytes_is_replaced_in_one_step() {
    let (folder, (meta, bytes)) = (tempfile::tempdir().unwrap(), task(&SIZES));
    let down = folder.path().join("down");
    fs::create_dir_all(down.join("b")).unwrap();
    fs::create_dir_all(down.join("a")).unwrap();
    fs::write(down.join("a/x"), &bytes[..700_000]).unwrap();
    let mut other = bytes[700_000..2_200_000].to_vec();
    other[1_400_000] ^= 1;
    fs::write(down.join("b/x"), &other).unwrap();
    let files = open(&folder, &meta);
    assert_eq!(files.resume(&meta.pieces).unwrap(), 0);
    files.write(0, piece(&bytes, 0)).unwrap();
    assert_eq!(fs::read(down.join("b/x")).unwrap(), other, "it stays until the new one is whole");
    assert_eq!(files.read(700_000, 100).unwrap(), bytes[700_000..700_100]);
    files.write(1, piece(&bytes, 1)).unwrap();
    files.write(2, piece(&bytes, 2)).unwrap();
    assert!(are_whole(&folder, &bytes));
}

#[test]
fn a_damaged_part_is_pulled_again() {
    let (folder, (meta, bytes)) = (tempfile::tempdir().unwrap(), task(&[("/srv/x", 2_500_000)]));
    let files = open(&folder, &meta);
    files.resume(&meta.pieces).unwrap();
    files.write(0, piece(&bytes, 0)).unwrap();
    files.write(1, piece(&bytes, 1)).unwrap();
    drop(files);
    let partial = folder.path().join("down/.gofd-x");
    let mut damaged = fs::read(&partial).unwrap();
    damaged[1_500_000] ^= 1;
    fs::write(&partial, &damaged).unwrap();
    let files = open(&folder, &meta);
    assert_eq!(files.resume(&meta.pieces).unwrap(), 1);
    files.write(1, piece(&bytes, 1)).unwrap();
    files.write(2, piece(&bytes, 2)).unwrap();
    assert_eq!(fs::read(folder.path().join("down/x")).unwrap(), bytes);
}

#[test]
fn a_partial_file_that_has_lost_its_beginning_gets_no_hole_of_zeros() {
    let (folder, (meta, bytes)) = (tempfile::tempdir().unwrap(), task(&[("/srv/x", 1_500_000)]));
    let files = open(&folder, &meta);
    files.resume(&meta.pieces).unwrap();
    files.write(0, piece(&bytes, 0)).unwrap();
    drop(files);
    let files = open(&folder, &meta);
    assert_eq!(files.resume(&meta.pieces).unwrap(), 1);
    fs::remove_file(folder.path().join("down/.gofd-x")).unwrap();
    assert!(files.write(1, piece(&bytes, 1)).is_err());
    assert!(!folder.path().join("down/x").exists());
    assert_eq!(open(&folder, &meta).resume(&meta.pieces).unwrap(), 0);
}

#[test]
fn nothing_is_written_once_it_is_closed() {
    let (folder, (meta, bytes)) = (tempfile::tempdir().unwrap(), task(&SIZES));
    let files = open(&folder, &meta);
    files.resume(&meta.pieces).unwrap();
    files.write(0, piece(&bytes, 0)).unwrap();
    files.close();
    let before = listing(&folder);
    assert!(files.write(1, piece(&bytes, 1)).is_err());
    assert_eq!(listing(&folder), before);
    let again = open(&folder, &meta);
    assert_eq!(again.resume(&meta.pieces).unwrap(), 1);
    again.write(1, piece(&bytes, 1)).unwrap();
    assert!(files.write(2, piece(&bytes, 2)).is_err(), "it is the other one's");
}

#[test]
fn nothing_is_written_through_a_link() {
    let (folder, (meta, bytes)) = (tempfile::tempdir().unwrap(), task(&SIZES));
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("down")).unwrap();
    symlink(outside.path(), folder.path().join("down/a")).unwrap();
    let files = open(&folder, &meta);
    assert_eq!(files.resume(&meta.pieces).unwrap(), 0);
    assert!(files.write(0, piece(&bytes, 0)).is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_task_of_nothing_is_there_at_once() {
    let (folder, (meta, _)) = (tempfile::tempdir().unwrap(), task(&[("/srv/none", 0)]));
    assert_eq!(open(&folder, &meta).resume(&meta.pieces).unwrap(), 0);
    assert_eq!(listing(&folder), ["none"]);
}
