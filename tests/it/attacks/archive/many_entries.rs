//! Packages that are all directory: as many entries as their bytes can hold.

use std::path::Path;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::super::{Attack, tries};
use crate::support::{
    ScriptedMain, client,
    process::{MemoryPeak, NodeFolder, NodeProcess, Process, binary},
    until, zip_of,
};

const MEBIBYTE: usize = 1 << 20;
const LIMIT_MIB: f64 = 64.0;
const REASON: &str = "entries, at most 65535 are accepted";
/// Twice: in the local header and in the directory.
const NAME_BYTES: usize = 6;
const ENTRY_BYTES: usize = 30 + 46 + 2 * NAME_BYTES;

/// An archive of empty entries, good but for their number.
fn package_of(entries: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries * ENTRY_BYTES + 98);
    // Version 20, no flags, stored, no date, and nothing in it.
    let common = |bytes: &mut Vec<u8>, name: &str| {
        bytes.extend([20, 0]);
        bytes.extend([0; 20]);
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend([0; 2]);
    };
    let name = |number: usize| format!("{number:0NAME_BYTES$x}");
    for number in 0..entries {
        bytes.extend(b"PK\x03\x04");
        common(&mut bytes, &name(number));
        bytes.extend(name(number).as_bytes());
    }
    let directory = bytes.len();
    for number in 0..entries {
        bytes.extend(b"PK\x01\x02\x14\x00");
        common(&mut bytes, &name(number));
        bytes.extend([0; 10]);
        bytes.extend(((number * (30 + NAME_BYTES)) as u32).to_le_bytes());
        bytes.extend(name(number).as_bytes());
    }
    let end = bytes.len();
    bytes.extend(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
    for long in [entries, entries, end - directory, directory] {
        bytes.extend((long as u64).to_le_bytes());
    }
    bytes.extend(b"PK\x06\x07\0\0\0\0");
    bytes.extend((end as u64).to_le_bytes());
    bytes.extend(b"\x01\0\0\0PK\x05\x06\0\0\0\0");
    bytes.extend([0xFF; 12]);
    bytes.extend([0; 2]);
    bytes
}

fn sizes() -> Vec<usize> {
    let all = [24, 101, 152, 300];
    all[..].iter().skip(tries(0, 1)).take(tries(1, 3)).map(|mib| mib * MEBIBYTE).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_refuses_them_in_little_memory_and_after_each_restart() {
    let (mut tried, mut kept, mut peak) = (0, 0, 0_f64);
    for size in sizes() {
        let main = ScriptedMain::start().await;
        let huge = package_of(size / ENTRY_BYTES);
        main.activate("huge", "Board", &huge);
        main.activate("most", "Board", &package_of(65_535));
        main.activate("good", "Board", &zip_of("agenda"));
        let folder = NodeFolder::of(&main.authority());
        // The third time it lies on the disk already.
        for start in 0..3 {
            if start == 2 {
                let place = folder.storage().join("meeting_huge");
                std::fs::create_dir_all(&place).unwrap();
                std::fs::write(place.join("package.zip"), &huge).unwrap();
            }
            let (refused, mebibytes) = refused_by_a_node(&folder, &main).await;
            tried += 1;
            kept += usize::from(refused && mebibytes < LIMIT_MIB);
            peak = peak.max(mebibytes);
        }
    }
    Attack {
        fault: "a main server offers a package of up to 300 MiB that is all directory, as many \
                entries as fit; the node is killed and started again, and finds it on its disk",
        promise: "the node refuses it with the reason, asks for it no more than once in a round, \
                  stays below 64 MiB and syncs the others, one of 65,535 entries among them",
    }
    .report(tried, kept, &format!("at most {peak:.0} MiB"));
}

async fn refused_by_a_node(folder: &NodeFolder, main: &ScriptedMain) -> (bool, f64) {
    let pulls = || main.count(reqwest::Method::GET, "/uploads/packages/Board_huge_pdfs.zip");
    let before = pulls();
    let mut node = folder.start().await;
    let memory = MemoryPeak::watch(node.process.id());
    let error = until("the refusal", async || {
        let error = node.meeting("huge").await["last_error"].clone();
        error.as_str().map(str::to_owned)
    })
    .await;
    let pulled = pulls() - before;
    node.until_synced("most").await;
    node.until_synced("good").await;
    let counted = limit_reached(&node).await;
    let served = node.download("good").await.1 == zip_of("agenda");
    node.process.kill();
    println!("{error}; pulled {pulled} times, {} MiB", memory.mebibytes());
    let refused = error.contains(REASON) && pulled <= 2 && counted && served;
    (refused, memory.mebibytes())
}

async fn limit_reached(node: &NodeProcess) -> bool {
    has_reached_the_limit(&node.url("/metrics")).await
}

async fn has_reached_the_limit(url: &str) -> bool {
    let page = client().get(url).send().await.unwrap().text().await.unwrap();
    let line = r#"edge_mirror_limits_reached_total{limit="archive_directory"} "#;
    page.lines().filter_map(|it| it.strip_prefix(line)).any(|count| count != "0")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_refuses_them_in_little_memory_and_after_each_restart() {
    let (mut tried, mut kept, mut peak) = (0, 0, 0_f64);
    for size in sizes() {
        let data = tempfile::tempdir().unwrap();
        let huge = package_of(size / ENTRY_BYTES);
        for start in 0..2 {
            let (refused, mebibytes) = refused_by_a_main_server(data.path(), &huge, start).await;
            tried += 1;
            kept += usize::from(refused && mebibytes < LIMIT_MIB);
            peak = peak.max(mebibytes);
        }
    }
    Attack {
        fault: "somebody uploads a package of up to 300 MiB that is all directory, as many entries \
                as fit, and again after a restart, which finds it on its disk",
        promise: "the main server refuses it with the reason, stays below 64 MiB, and takes one of \
                  65,535 entries",
    }
    .report(tried, kept, &format!("at most {peak:.0} MiB"));
}

async fn refused_by_a_main_server(data: &Path, huge: &[u8], start: usize) -> (bool, f64) {
    let mut command = binary();
    command.args(["master", "--host", "127.0.0.1", "--port", "0", "--data"]).arg(data);
    let mut master = Process::spawn(command);
    let memory = MemoryPeak::watch(master.id());
    let address = master.until_listening().await;
    let meetings = format!("http://{address}/api/v1/meetings");
    let put = async |id: &str, package: &[u8]| {
        let url = format!("{meetings}/{id}/package");
        let answer = client().put(url).body(package.to_vec()).send().await.unwrap();
        let status = answer.status();
        (status, answer.json::<Value>().await.unwrap())
    };
    if start == 0 {
        for id in ["huge", "most"] {
            let made = json!({"id": id, "title": "Board"});
            let made = client().post(&meetings).json(&made).send().await.unwrap();
            assert!(made.status().is_success());
        }
    } else {
        until("what was left is judged", async || {
            master.errors.get().contains(REASON).then_some(())
        })
        .await;
    }
    let (status, answer) = put("huge", huge).await;
    let said = answer["detail"].as_str().is_some_and(|detail| detail.contains(REASON));
    let most = put("most", &package_of(65_535)).await.0;
    let counted = has_reached_the_limit(&format!("http://{address}/metrics")).await;
    master.kill();
    if start == 0 {
        let place = data.join("packages/meeting_huge");
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("package.zip"), huge).unwrap();
    }
    println!("{status} {answer}, {} MiB", memory.mebibytes());
    let refused = status == StatusCode::BAD_REQUEST && said && most == 200 && counted;
    (refused, memory.mebibytes())
}
