//! The plainest servers: a node with one package, and one that says what it is
//! told to.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{ScriptedMain, TestNode};

/// A node that has the package of meeting m1, and who told it.
pub(crate) async fn node_with(package: &[u8]) -> (TestNode, ScriptedMain) {
    let main = ScriptedMain::start().await;
    main.activate("m1", "Board", package);
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m1").await;
    (node, main)
}

/// Answers each connection, by its number, with these bytes and closes it.
pub(crate) fn scripted(answer: impl Fn(usize) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let number = AtomicUsize::new(0);
    scripted_by(move |_| answer(number.fetch_add(1, Ordering::Relaxed)))
}

/// Answers each connection, by what it asks, with these bytes and closes it.
pub(crate) fn scripted_by(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut asked, mut some) = (Vec::new(), [0; 1024]);
            while !asked.ends_with(b"\r\n\r\n") {
                match stream.read(&mut some) {
                    Ok(n) if n > 0 => asked.extend_from_slice(&some[..n]),
                    _ => break,
                }
            }
            let _ = stream.write_all(&answer(&String::from_utf8_lossy(&asked)));
        }
    });
    address
}
