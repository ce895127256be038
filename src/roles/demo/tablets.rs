//! Simulated tablets: each downloads the package at a tablet's pace, again and again, and
//! tries the next main server where one does not answer.

use std::time::Duration;

use edge_mirror_http::tls;

/// Runs until it is dropped.
pub(super) async fn download_for_ever(urls: Vec<String>, bytes_per_s: u64) {
    let Ok(client) = tls::http(tls::client()).build() else { return };
    for url in urls.iter().cycle() {
        // A node that stops may be part of the demo.
        let _ = download(&client, url, bytes_per_s).await;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(1000..5000))).await;
    }
}

async fn download(client: &reqwest::Client, url: &str, per_s: u64) -> reqwest::Result<()> {
    let mut answer = client.get(url).send().await?.error_for_status()?;
    while let Some(chunk) = answer.chunk().await? {
        let pause_s = chunk.len() as f64 / per_s.max(1) as f64;
        tokio::time::sleep(Duration::from_secs_f64(pause_s)).await;
    }
    Ok(())
}
