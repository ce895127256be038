//! Another program writes to a package while a client downloads it.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::FileExt,
    path::Path,
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use super::{
    super::support::{ScriptedMain, process::NodeFolder, until, zips::big_zip},
    Attack, tries,
};

const M1: &str = "m1";
/// What a client's machine holds unread.
const RECEIVE_BUFFER_BYTES: usize = 64 << 10;

/// What is left to receive while the server's socket has no room for the rest.
const UNSENT_BYTES: std::ops::Range<usize> = 400_000..900_000;

/// How a program writes to a file in place.
#[derive(Clone, Copy)]
enum Edit {
    All,
    Some,
    /// With the time of the last change set back.
    Hidden,
}

impl Edit {
    fn make(self, path: &Path, other: &[u8]) {
        let file = File::options().write(true).open(path).unwrap();
        let before = file.metadata().unwrap().modified().unwrap();
        match self {
            Self::All => file.write_all_at(other, 0).unwrap(),
            Self::Some | Self::Hidden => {
                // Near the end, which a client may not have yet.
                let from = other.len() - 4096 - fastrand::usize(..UNSENT_BYTES.end);
                file.write_all_at(&other[from..from + 4096], from as u64).unwrap();
            }
        }
        if let Self::Hidden = self {
            file.set_modified(before).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_download_completes_with_bytes_that_were_changed_meanwhile() {
    let main = ScriptedMain::start().await;
    let folder = NodeFolder::of(&main.authority());
    // Their last pieces are nearly as large as what is sent at a time.
    let sizes = [(1 << 20) + 500_000, (6 << 20) + 500_000];
    let node = folder.start().await;
    let tries = tries(8, 60);
    let (mut kept, mut broken) = (0, 0);
    for turn in 0..tries {
        let size = sizes[turn % sizes.len()];
        let edit = [Edit::All, Edit::Hidden, Edit::All, Edit::Some][turn / sizes.len() % 4];
        let (package, other) = (big_zip(size, turn as u64), big_zip(size, 1000 + turn as u64));
        main.activate(M1, "T", &package);
        let path = folder.storage().join("meeting_m1/package.zip");
        until("this version is here", async || {
            node.until_synced(M1).await;
            (std::fs::read(&path).unwrap() == package).then_some(())
        })
        .await;
        let address = node.address();
        // At any time, or else when the end is on its way and not in the socket yet.
        let edited_at = match turn % 4 {
            0 => fastrand::usize(..package.len() * 9 / 10),
            _ => package.len().saturating_sub(fastrand::usize(UNSENT_BYTES)),
        };
        let got = tokio::task::spawn_blocking(move || {
            read_slowly(address, edited_at, || edit.make(&path, &other))
        });
        let got = got.await.unwrap();
        let whole = got.len() == package.len();
        broken += usize::from(!whole);
        kept += usize::from(!whole || got == package);
    }
    Attack {
        fault: "another program writes into a package, at any place, while a client that reads slowly downloads it",
        promise: "the download breaks off, or is that of the package as it was verified",
    }
    .report(tries, kept, &format!("{broken} broke off"));
}

/// Takes the package in small pieces, and has it edited once so much has come.
/// What came of the body, broken off or not.
fn read_slowly(address: SocketAddr, edited_at: usize, edit: impl FnOnce()) -> Vec<u8> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let path = "/api/v1/meetings/m1/download-package";
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let (mut got, mut edit, mut piece) = (Vec::new(), Some(edit), vec![0; 16 << 10]);
    let head = |got: &[u8]| got.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        got.extend_from_slice(&piece[..length]);
        let body = head(&got[..got.len().min(4096)]).map_or(0, |at| got.len() - at);
        if body >= edited_at
            && let Some(edit) = edit.take()
        {
            // All that the server can send without this client is on its way.
            std::thread::sleep(Duration::from_millis(5));
            edit();
        }
    }
    let from = head(&got).unwrap_or(got.len());
    got.split_off(from)
}
