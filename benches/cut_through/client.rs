//! A client that notes when each piece of a package has arrived.

use std::{net::SocketAddr, time::Instant};

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{PIECE_BYTES, main_server::Head};

/// When the first byte of each piece was there.
pub(crate) async fn download(node: SocketAddr, id: String, size: usize) -> Result<Vec<Instant>> {
    let mut stream = TcpStream::connect(node).await?;
    let request = format!(
        "GET /api/v1/meetings/{id}/download-package HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    let head = Head::read(&mut stream).await?;
    ensure!(head.first_line.contains(" 200 "), "answered: {}", head.first_line);
    let (mut arrived, mut got) = (Vec::new(), 0);
    loop {
        let chunk = stream.fill_buf().await?.len();
        let now = Instant::now();
        if chunk == 0 {
            break;
        }
        got += chunk;
        while arrived.len() * PIECE_BYTES < got {
            arrived.push(now);
        }
        stream.consume(chunk);
    }
    ensure!(got == size, "{got} of {size} bytes came");
    Ok(arrived)
}
