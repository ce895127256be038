//! Readers that take so many bytes a second and no more, as tablets do: what
//! each byte costs a server that waits for them.

use std::{
    io::{ErrorKind, Read},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::client::Ask;

const STEP: Duration = Duration::from_millis(1);
/// Each reads once in so many steps.
const STEPS: usize = 20;
/// What a reader that was held up may catch up with, in steps of its own.
const BEHIND: f64 = 5.0;
const BUFFER_BYTES: usize = 256 << 10;

/// Readers of one package, again and again.
pub(crate) struct Crowd<'a> {
    ask: &'a Ask,
    readers: Vec<Reader>,
    share: f64,
    buffer: Vec<u8>,
    step: usize,
    /// Bytes of bodies so far.
    pub received: u64,
    /// Whole answers so far.
    pub answered: u64,
}

struct Reader {
    stream: TcpStream,
    /// Bytes that it may take now.
    due: f64,
    head: Vec<u8>,
    /// Of the body, once the head is here.
    left: Option<u64>,
}

impl<'a> Crowd<'a> {
    /// So many, who take `bytes_per_s` each.
    pub(crate) fn gather(
        address: std::net::SocketAddr,
        ask: &'a Ask,
        (readers, bytes_per_s): (usize, u64),
    ) -> Result<Self> {
        let reader = || {
            let mut stream = TcpStream::connect(address)?;
            ask.send(&mut stream)?;
            stream.set_nonblocking(true)?;
            anyhow::Ok(Reader { stream, due: 0.0, head: Vec::new(), left: None })
        };
        let readers = (0..readers).map(|_| reader()).collect::<Result<_>>()?;
        let share = bytes_per_s as f64 * STEP.as_secs_f64() * STEPS as f64;
        let buffer = vec![0; BUFFER_BYTES];
        Ok(Self { ask, readers, share, buffer, step: 0, received: 0, answered: 0 })
    }

    /// Reads for so long.
    pub(crate) fn read_for(&mut self, time: Duration) -> Result<()> {
        let begin = Instant::now();
        for step in 1.. {
            for at in (self.step % STEPS..self.readers.len()).step_by(STEPS) {
                self.read(at).with_context(|| format!("reader {at}"))?;
            }
            self.step += 1;
            if begin.elapsed() >= time {
                break;
            }
            std::thread::sleep((STEP * step).saturating_sub(begin.elapsed()));
        }
        Ok(())
    }

    fn read(&mut self, at: usize) -> Result<()> {
        let Self { ask, readers, share, buffer, .. } = self;
        let reader = &mut readers[at];
        reader.due = (reader.due + *share).min(*share * BEHIND);
        while reader.due >= 1.0 {
            let wanted = buffer.len().min(reader.due as usize);
            let n = match reader.stream.read(&mut buffer[..wanted]) {
                Ok(0) => bail!("it was closed in the middle of an answer"),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => bail!("it broke: {error}"),
            };
            reader.due -= n as f64;
            self.received += reader.take(ask, &buffer[..n])?;
            if reader.left == Some(0) {
                self.answered += 1;
                reader.left = None;
                ask.send(&mut reader.stream)?;
            }
        }
        Ok(())
    }
}

impl Reader {
    /// How many of these bytes are the body's.
    fn take(&mut self, ask: &Ask, bytes: &[u8]) -> Result<u64> {
        let body = match self.left {
            Some(_) => bytes.len(),
            None => {
                self.head.extend_from_slice(bytes);
                let Some(end) = ask.check(&self.head)? else { return Ok(0) };
                self.left = Some(ask.length());
                self.head.drain(..end).for_each(drop);
                std::mem::take(&mut self.head).len()
            }
        } as u64;
        let left = self.left.unwrap_or(0);
        self.left = Some(left.checked_sub(body).context("more came than was announced")?);
        Ok(body)
    }
}
