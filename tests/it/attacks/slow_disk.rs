//! A disk that answers late, as network mounts and failing disks do.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::StatusCode;

use super::{
    super::support::{
        ScriptedMain, client,
        process::{NodeFolder, NodeProcess},
        zips::big_zip,
    },
    Attack, tries,
};

/// Each of these calls on what lies below FOLDER takes four seconds while the
/// file SWITCH is there.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void hang(const char *path) {
    const char *folder = getenv("FOLDER"), *hangs = getenv("SWITCH");
    if (path && folder && hangs && !strncmp(path, folder, strlen(folder)) && !access(hangs, F_OK))
        sleep(4);
}

#define SLOW(name, types, values)                                   \
    int name types {                                                \
        int (*real) types = dlsym(RTLD_NEXT, #name);                \
        hang(path);                                                 \
        return real values;                                         \
    }
#define SLOW_OPEN(name)                                             \
    int name(const char *path, int flags, ...) {                    \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #name); \
        va_list rest;                                               \
        va_start(rest, flags);                                      \
        mode_t mode = va_arg(rest, mode_t);                         \
        va_end(rest);                                               \
        hang(path);                                                 \
        return real(path, flags, mode);                             \
    }

SLOW_OPEN(open)
SLOW_OPEN(open64)
SLOW(statx, (int at, const char *path, int flags, unsigned mask, struct statx *found),
    (at, path, flags, mask, found))
SLOW(rename, (const char *path, const char *to), (path, to))
SLOW(unlink, (const char *path), (path))
SLOW(mkdir, (const char *path, mode_t mode), (path, mode))
SLOW(rmdir, (const char *path), (path))
"#;
const HANGS: Duration = Duration::from_secs(4);
/// All of it took from 8 to 40 seconds before.
const PROMISED: Duration = Duration::from_secs(2);
/// More than there are threads of the runtime.
const COLD: usize = 12;

fn built_in(folder: &Path) -> PathBuf {
    let (source, shim) = (folder.join("shim.c"), folder.join("shim.so"));
    std::fs::write(&source, SHIM).unwrap();
    let mut gcc = Command::new("gcc");
    let built = gcc.args(["-shared", "-fPIC", "-o"]).args([&shim, &source]);
    assert!(built.arg("-ldl").status().unwrap().success(), "gcc is needed");
    shim
}

/// How long it takes a page, or a package that is open, to be answered whole.
async fn answered(url: &str) -> Duration {
    let began = Instant::now();
    let answer = client().get(url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{url}");
    answer.bytes().await.unwrap();
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_holds_up_nothing_that_does_not_need_it() {
    let main = ScriptedMain::start().await;
    let ids: Vec<_> = (0..=COLD).map(|number| format!("m{number}")).collect();
    for (seed, id) in ids.iter().enumerate() {
        main.activate(id, "T", &big_zip(200_000, seed as u64));
    }
    let (folder, tools) = (NodeFolder::of(&main.authority()), tempfile::tempdir().unwrap());
    let (shim, hangs) = (built_in(tools.path()), tools.path().join("hangs"));
    let start = async || {
        let mut command = folder.command();
        command.env("LD_PRELOAD", &shim).env("FOLDER", folder.path()).env("SWITCH", &hangs);
        NodeProcess::of(command).await
    };
    let mut node = start().await;
    let rounds = tries(1, 5);
    let (mut kept, mut worst) = (0, Duration::ZERO);
    for round in 0..rounds {
        for id in &ids {
            node.until_synced(id).await;
        }
        let hot = node.package_url(&ids[0]);
        answered(&hot).await;
        std::fs::write(&hangs, "").unwrap();
        let began = Instant::now();
        // Something to pull, to look for and to remove.
        main.activate("new", "T", &big_zip(200_000, round as u64 + 100));
        main.end(&ids[COLD]);
        let cold = join_all(ids[1..COLD].iter().map(|id| node.download(id)));
        let names: Vec<_> = (0..COLD).map(|nth| format!("unknown-{nth}")).collect();
        let unknown = join_all(names.iter().map(|id| node.download(id)));
        let urls = ["/api/status", "/api/health/live", "/metrics"].map(|path| node.url(path));
        let others = async {
            let mut worst = Duration::ZERO;
            while began.elapsed() < HANGS {
                for url in urls.iter().chain([&hot]) {
                    worst = worst.max(answered(url).await);
                }
            }
            worst
        };
        let (cold, slowest, _) = tokio::join!(cold, others, unknown);
        assert!(began.elapsed() >= HANGS, "or else nothing hung");
        let all_came = cold.iter().all(|(status, _)| *status == StatusCode::OK);
        kept += usize::from(slowest < PROMISED && all_came);
        worst = worst.max(slowest);
        std::fs::remove_file(&hangs).unwrap();
        main.activate(&ids[COLD], "T", &big_zip(200_000, COLD as u64));
        // What is open is closed: all but one are cold again.
        node.process.kill();
        node = start().await;
    }
    Attack {
        fault: "the disk takes 4 s to open, look up, rename or remove a file while packages that are not open are asked for, pulled and removed",
        promise: "status, health, metrics and downloads of open packages are answered within two seconds",
    }
    .report(rounds, kept, &format!("the slowest took {:.2} s", worst.as_secs_f64()));
}
