//! A disk that is full. It is a small one in memory, seen by the node alone.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::{
    ScriptedMain,
    machine::NO_MOUNTS,
    main_server::Valve,
    process::{NodeFolder, NodeProcess, plain_environment},
    until, zip_of,
    zips::big_zip,
};

/// 64 MiB of it are kept free by the node.
const DISK_MEGABYTES: usize = 96;
const MEGABYTE: usize = 1 << 20;

/// Mounts a disk of its own at the first argument and becomes the others.
const ON_SMALL_DISK: &str = r#"mount -t tmpfs -o size=$SIZE tmpfs "$0" && exec "$@""#;

/// `unshare` in the way that works here: as root, or with a user namespace.
pub(crate) fn unshared(folder: &Path) -> Command {
    let with = |flags: &str| {
        let mut command = Command::new("unshare");
        plain_environment(&mut command);
        command.env("SIZE", format!("{DISK_MEGABYTES}m"));
        command.args([flags, "sh", "-c", ON_SMALL_DISK]).arg(folder);
        command
    };
    let works = |flags: &&str| with(flags).arg("true").status().unwrap().success();
    with(["-m", "-rm"].iter().find(|flags| works(flags)).expect(NO_MOUNTS))
}

struct SmallDisk<'a> {
    main: &'a ScriptedMain,
    node: NodeProcess,
    _folder: NodeFolder,
    /// The node's storage folder as seen from outside its namespace.
    storage: PathBuf,
}

impl<'a> SmallDisk<'a> {
    async fn start(main: &'a ScriptedMain) -> Self {
        let folder = NodeFolder::of(&main.authority());
        std::fs::create_dir(folder.storage()).unwrap();
        let mut command = unshared(&folder.storage());
        let node = folder.command();
        command.arg(node.get_program()).args(node.get_args());
        let node = NodeProcess::of(command).await;
        let outside = folder.storage();
        let outside = outside.strip_prefix("/").unwrap();
        let storage = PathBuf::from(format!("/proc/{}/root", node.process.id())).join(outside);
        Self { main, node, _folder: folder, storage }
    }

    async fn until_failing(&self, id: &str) -> Value {
        until(&format!("meeting {id} failing"), async || {
            Some(self.node.meeting(id).await).filter(|meeting| meeting["state"] == "failing")
        })
        .await
    }

    /// Has the node begin a package, leaves no block of its disk to others, and
    /// says by which file.
    async fn fill_during(&self, id: &str, package: &[u8], announced: bool) -> (Valve, PathBuf) {
        self.main.play().offers = announced;
        let valve = self.main.valve(MEGABYTE);
        self.main.activate(id, "Council", package);
        until(&format!("the pull of {id} under way"), async || {
            let meeting = self.node.meeting(id).await;
            meeting["received"].as_u64().filter(|received| *received >= MEGABYTE as u64)
        })
        .await;
        let filler = self.storage.join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        (valve, filler)
    }

    /// A pull that compares what is here may use the folder, too, but ends.
    async fn until_nothing_is_under_way(&self) {
        until("no partial file", async || self.names(".scratch").is_empty().then_some(())).await;
    }

    fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.storage.join(path)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_the_disk_has_no_room_for_is_refused_and_leaves_nothing() {
    let main = ScriptedMain::start().await;
    main.play().offers = false;
    let (first, small) = (big_zip(MEGABYTE, 1), big_zip(5 * MEGABYTE, 2));
    main.activate("first", "Board", &first);
    let disk = SmallDisk::start(&main).await;
    disk.node.until_synced("first").await;

    // Chunked, so that it is only found out on the way; then announced.
    for (id, offers) in [("chunked", false), ("announced", true)] {
        main.play().offers = offers;
        main.activate(id, "Council", &big_zip(60 * MEGABYTE, 3));
        let refused = disk.until_failing(id).await;
        let reason = refused["last_error"].as_str().unwrap();
        assert!(reason.contains("disk"), "{reason}");
        assert!(refused["size"].is_null());
        disk.until_nothing_is_under_way().await;
        assert!(!disk.names("").contains(&format!("meeting_{id}")));
        assert_eq!(disk.node.download("first").await, (StatusCode::OK, first.clone()));
        let (status, _) = disk.node.download(id).await;
        assert!(status.is_server_error(), "{status}");
    }
    main.activate("small", "Board", &small);
    disk.node.until_synced("small").await;
    assert_eq!(disk.node.download("small").await, (StatusCode::OK, small));
    assert_eq!(disk.node.download("first").await, (StatusCode::OK, first));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_somebody_else_fills_during_a_pull_costs_that_pull_at_most() {
    let main = ScriptedMain::start().await;
    let (first, large) = (zip_of("papers"), big_zip(12 * MEGABYTE, 4));
    main.activate("first", "Board", &first);
    let disk = SmallDisk::start(&main).await;
    disk.node.until_synced("first").await;

    // Announced, it has taken its room before its bytes come.
    let (valve, filler) = disk.fill_during("announced", &large, true).await;
    valve.open();
    disk.node.until_synced("announced").await;
    assert_eq!(disk.node.download("announced").await, (StatusCode::OK, large.clone()));
    std::fs::remove_file(filler).unwrap();

    let (valve, filler) = disk.fill_during("chunked", &large, false).await;
    valve.open();
    let failed = disk.until_failing("chunked").await;
    assert!(failed["last_error"].as_str().unwrap().contains("is full"), "{failed}");
    disk.until_nothing_is_under_way().await;
    assert!(!disk.names("").contains(&"meeting_chunked".to_owned()));
    assert_eq!(disk.node.download("first").await, (StatusCode::OK, first.clone()));

    std::fs::remove_file(filler).unwrap();
    disk.node.until_synced("chunked").await;
    assert_eq!(disk.node.download("chunked").await, (StatusCode::OK, large));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_disk_cut_short_is_written_again_where_room_was_made() {
    let main = ScriptedMain::start().await;
    main.activate("old", "Board", &big_zip(15 * MEGABYTE, 5));
    let disk = SmallDisk::start(&main).await;
    disk.node.until_synced("old").await;

    main.end("old");
    // Less than is promised to a package of unknown length at first.
    let large = big_zip(3 * MEGABYTE, 6);
    let (valve, filler) = disk.fill_during("large", &large, false).await;
    // Full, but for less than is written at once.
    let filler = std::fs::OpenOptions::new().write(true).open(filler).unwrap();
    filler.set_len(filler.metadata().unwrap().len() - 50_000).unwrap();
    valve.open();

    disk.node.until_synced("large").await;
    assert_eq!(main.count(Method::GET, "/large/download-package"), 1, "pulls");
    assert!(!disk.names("").contains(&"meeting_old".to_owned()));
    assert_eq!(disk.node.download("large").await, (StatusCode::OK, large));
}
