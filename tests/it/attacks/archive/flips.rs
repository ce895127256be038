//! Every bit of small archives, for which no digest is announced.

use std::{collections::BTreeMap, fs::File, os::unix::fs::FileExt, path::Path};

use edge_mirror_protocol::package::VerifyLevel;
use edge_mirror_store::verify::check_zip;
use serde_json::json;

use super::{
    super::{Attack, tries},
    layout::{Layout, Passed},
};
use crate::support::{ScriptedMain, process::NodeFolder, until};

/// By their names: stored, deflated, with descriptors, ZIP64, two entries of one
/// name, empty, by several programs (`tests/archives/make`).
fn archives() -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/archives");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|ending| ending == "zip"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect()
}

fn good(file: &File) -> bool {
    check_zip(file, VerifyLevel::Full).is_ok()
}

#[test]
fn every_flipped_bit_is_noticed_that_zip_can_tell() {
    let (archives, file) = (archives(), tempfile::tempfile().unwrap());
    let (mut bits, mut once, mut same, mut missed) = (0, 0, 0, Vec::new());
    for (name, bytes) in &archives {
        file.set_len(bytes.len() as u64).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        assert!(good(&file), "{name}");
        let layout = Layout::of(bytes);
        let mut flipped = bytes.clone();
        for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            flipped[at] ^= 1 << bit;
            file.write_all_at(&flipped[at..=at], at as u64).unwrap();
            bits += 1;
            if good(&file) {
                match layout.judge(&flipped, at) {
                    Passed::WrittenOnce => once += 1,
                    Passed::SameContent => same += 1,
                    Passed::Damaged => missed.push(format!("{name}: bit {bit} of byte {at}")),
                }
            }
            flipped[at] ^= 1 << bit;
            file.write_all_at(&flipped[at..=at], at as u64).unwrap();
        }
    }
    println!("{missed:#?}");
    Attack {
        fault: "one bit flips in a small archive for which no digest is announced: stored, \
                deflated, with descriptors, ZIP64, two entries of one name, empty, as written by \
                five programs; every bit in turn",
        promise: "the archive is refused, unless ZIP says the flipped thing only once (attributes, \
                  comments, extra fields) or the bytes unpack to the same content",
    }
    .report(
        bits,
        bits - missed.len(),
        &format!(
            "{} archives; {once} bits of things said once and {same} that unpack to the same pass, \
             {} others",
            archives.len(),
            missed.len()
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_lost_a_bit_is_served_to_nobody() {
    let tried = tries(24, 400);
    let (main, archives) = (ScriptedMain::start().await, archives());
    let mut random = fastrand::Rng::with_seed(6);
    let mut packages = Vec::new();
    for number in 0..tried {
        let bytes = random.choice(archives.values()).unwrap();
        let (at, mut flipped) = (random.usize(..bytes.len()), bytes.clone());
        flipped[at] ^= 1 << random.u32(..8);
        main.activate(&format!("m{number}"), "Board", &flipped);
        packages.push((Layout::of(bytes), at, flipped));
    }
    let folder = NodeFolder::of(&main.authority()).with(json!({"network": {"retryCount": 1}}));
    let node = folder.start().await;
    let (mut kept, mut served) = (0, 0);
    for (number, (layout, at, flipped)) in packages.iter().enumerate() {
        let id = format!("m{number}");
        until(&format!("a verdict on {id}"), async || {
            let state = node.meeting(&id).await["state"].clone();
            (state == "synced" || state == "failing").then_some(())
        })
        .await;
        let (status, body) = node.download(&id).await;
        let harmless = body == *flipped && layout.judge(flipped, *at) != Passed::Damaged;
        served += usize::from(status == 200);
        kept += usize::from(status != 200 || harmless);
    }
    Attack {
        fault: "a main server that announces no digest sends packages with one flipped bit, \
                anywhere in archives of all kinds",
        promise: "the node serves none whose content or structure is damaged",
    }
    .report(tried, kept, &format!("{served} with a harmless bit served"));
}
