//! Frames of RFC 6455 as bytes. Pure.

use bytes::{Buf, BytesMut};

use super::CloseReason;

/// Bytes of a control frame's payload, at most (RFC 6455, 5.5).
const MAX_CONTROL: usize = 125;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    fn from_bits(bits: u8) -> Option<Self> {
        let all =
            [Self::Continuation, Self::Text, Self::Binary, Self::Close, Self::Ping, Self::Pong];
        all.into_iter().find(|opcode| opcode.bits() == bits)
    }

    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientFrame {
    pub(super) is_last: bool,
    pub(super) opcode: Opcode,
    pub(super) payload: Vec<u8>,
}

/// Takes the first frame out of what was read. None if it is not whole yet. One with more
/// than `most` bytes is refused by its head, before they come.
pub(super) fn take_frame(
    read: &mut BytesMut,
    most: usize,
) -> Result<Option<ClientFrame>, CloseReason> {
    let [first, second, ..] = **read else { return Ok(None) };
    let opcode = Opcode::from_bits(first & 0x0f).ok_or_else(|| CloseReason::protocol("opcode"))?;
    let is_last = first & FIN != 0;
    if first & 0x70 != 0 {
        return Err(CloseReason::protocol("no extension was agreed upon"));
    }
    if second & MASKED == 0 {
        return Err(CloseReason::protocol("a client's frames are masked"));
    }
    let (length, head) = match (second & 0x7f, read.get(2..)) {
        (126, Some([a, b, ..])) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
        (127, Some([a, b, c, d, e, f, g, h, ..])) => {
            (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10)
        }
        (126 | 127, _) => return Ok(None),
        (length, _) => (u64::from(length), 2),
    };
    if opcode.is_control() && (!is_last || length > MAX_CONTROL as u64) {
        return Err(CloseReason::protocol("a control frame is short and whole"));
    }
    let Some(length) = usize::try_from(length).ok().filter(|length| *length <= most) else {
        return Err(CloseReason::too_large(most));
    };
    let Some(&[a, b, c, d, ..]) = read.get(head..) else { return Ok(None) };
    if read.len() < head + 4 + length {
        return Ok(None);
    }
    read.advance(head + 4);
    let mask = [a, b, c, d].into_iter().cycle();
    let payload = read.split_to(length).iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
    Ok(Some(ClientFrame { is_last, opcode, payload }))
}

/// Appends a frame to what is to be written; a server's are not masked.
pub(super) fn put_frame(out: &mut BytesMut, opcode: Opcode, payload: &[u8]) {
    out.extend_from_slice(&[FIN | opcode.bits()]);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..126), _) => out.extend_from_slice(&[length]),
        (_, Ok(length)) => {
            out.extend_from_slice(&[126]);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[127]);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A frame as a client writes it.
    pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ ..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
            length @ ..65_536 => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        let mask = [7, 0, 255, 42];
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    #[test]
    fn a_frame_is_taken_once_it_is_whole_whatever_its_length() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let whole = masked(0x81, &payload);
            for cut in [1, whole.len().div_ceil(2), whole.len() - 1] {
                let mut part = BytesMut::from(&whole[..cut]);
                assert_eq!(take_frame(&mut part, 70_000), Ok(None), "{cut} of {length}");
            }
            let mut read = BytesMut::from(&*[&whole[..], b"next"].concat());
            let frame = take_frame(&mut read, 70_000).unwrap().unwrap();
            assert_eq!((frame.opcode, frame.is_last), (Opcode::Text, true));
            assert_eq!((frame.payload, &*read), (payload, &b"next"[..]));
        }
    }

    #[test]
    fn what_no_client_may_send_is_refused_by_its_head() {
        for (first, second, code) in [
            (0x83, 0x80, 1002),
            (0xc1, 0x80, 1002),
            (0x81, 0x01, 1002),
            (0x89, 0x80 | 126, 1002),
            (0x09, 0x80, 1002),
            (0x81, 0x80 | 11, 1009),
        ] {
            let mut read = BytesMut::from(&[first, second, 0, 200, 0, 0, 0, 0][..]);
            assert_eq!(take_frame(&mut read, 10).unwrap_err().code, code, "{first:x} {second:x}");
        }
        let mut huge = BytesMut::from(&[0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255][..]);
        assert_eq!(take_frame(&mut huge, 10).unwrap_err().code, 1009);
    }

    #[test]
    fn a_servers_frame_says_how_long_it_is() {
        for (length, head) in [
            (125, &[0x81, 125][..]),
            (126, &[0x81, 126, 0, 126]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut out = BytesMut::new();
            put_frame(&mut out, Opcode::Text, &vec![b'x'; length]);
            assert_eq!((&out[..head.len()], out.len()), (head, head.len() + length));
        }
    }
}
