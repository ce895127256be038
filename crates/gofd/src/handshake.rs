//! The beginning of a connection to a data port: who calls, and for which task.
//!
//! The caller sends the length of the rest (1 to 200, four bytes, big-endian), then four
//! texts, each with a 0 behind it: task, user, digest of the password, salt. One that is
//! let in is answered with the byte 0xFF.

use std::io;

use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use edge_mirror_base::tasks;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(super) const MAX_BYTES: usize = 200;
/// Base64 of [`DIGEST_BYTES`] and [`SALT_BYTES`].
pub(super) const DIGEST_CHARS: usize = 56;
pub(super) const SALT_CHARS: usize = 12;
const DIGEST_BYTES: usize = 40;
const SALT_BYTES: usize = 8;
const ROUNDS: u32 = 10_000;
const LET_IN: u8 = 0xff;

/// The user and password that a server and its agents share.
#[derive(Clone, PartialEq, Eq)]
pub struct GofdCredentials {
    pub user: String,
    pub password: String,
}

/// The first message of a caller.
#[derive(Clone, PartialEq, Eq)]
pub struct Handshake {
    pub task: String,
    pub user: String,
    digest: Vec<u8>,
    salt: Vec<u8>,
}

#[derive(Debug, Error)]
pub enum HandshakeError {
    #[error("a handshake of {0} bytes instead of 1 to {MAX_BYTES}")]
    Length(i32),
    #[error("a malformed handshake")]
    Malformed,
    #[error("the task's id and the user's name are too long for a handshake")]
    TooLong,
    #[error("not let in: the user, the password or the task is another one there")]
    Refused,
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl std::fmt::Debug for GofdCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GofdCredentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl GofdCredentials {
    /// Compares in a time that does not tell how much of a wrong one is right.
    pub fn are(&self, user: &str, password: &str) -> bool {
        let user = user.as_bytes().ct_eq(self.user.as_bytes());
        bool::from(user & password.as_bytes().ct_eq(self.password.as_bytes()))
    }

    /// The value of `Authorization` for HTTP.
    pub fn basic(&self) -> String {
        format!("Basic {}", BASE64.encode(format!("{}:{}", self.user, self.password)))
    }

    /// True if a value of `Authorization` names these.
    pub fn are_in_basic(&self, value: &str) -> bool {
        let Some((scheme, encoded)) = value.split_once(' ') else { return false };
        let decoded =
            BASE64.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"));
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = text.as_deref().and_then(|text| text.split_once(':'));
        pair.is_some_and(|(user, password)| self.are(user, password))
    }
}

impl Handshake {
    fn parse(bytes: &[u8]) -> Result<Self, HandshakeError> {
        let texts = bytes.strip_suffix(&[0]).ok_or(HandshakeError::Malformed)?;
        let mut texts = texts.split(|byte| *byte == 0).map(|text| str::from_utf8(text).ok());
        let mut next = || texts.next().flatten().ok_or(HandshakeError::Malformed);
        let (task, user, digest, salt) = (next()?, next()?, next()?, next()?);
        let decoded = |text: &str| BASE64.decode(text).map_err(|_| HandshakeError::Malformed);
        let (digest, salt) = (decoded(digest)?, decoded(salt)?);
        match texts.next() {
            None if digest.len() == DIGEST_BYTES => {
                Ok(Self { task: task.to_owned(), user: user.to_owned(), digest, salt })
            }
            _ => Err(HandshakeError::Malformed),
        }
    }

    /// Makes the bytes that a caller sends, its length first.
    fn bytes(
        credentials: &GofdCredentials,
        task: &str,
        salt: &[u8],
    ) -> Result<Vec<u8>, HandshakeError> {
        let digest = BASE64.encode(digest(&credentials.password, salt));
        let texts = [task, &credentials.user, &digest, &BASE64.encode(salt)];
        let length = texts.iter().map(|text| text.len() + 1).sum::<usize>();
        if length > MAX_BYTES || texts.iter().any(|text| text.contains('\0')) {
            return Err(HandshakeError::TooLong);
        }
        let mut bytes = i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes().to_vec();
        for text in texts {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
        Ok(bytes)
    }

    /// True if it has this user.
    pub fn is_of_user(&self, credentials: &GofdCredentials) -> bool {
        self.user.as_bytes().ct_eq(credentials.user.as_bytes()).into()
    }

    /// Computes for some milliseconds.
    fn is_of(&self, credentials: &GofdCredentials) -> bool {
        self.is_of_user(credentials)
            && bool::from(digest(&credentials.password, &self.salt).ct_eq(&self.digest))
    }

    /// True if it has this user and password. The stretching of a password is work for a
    /// thread that may block.
    pub async fn is_from(&self, credentials: &GofdCredentials) -> bool {
        let (this, credentials) = (self.clone(), credentials.clone());
        tasks::blocking(move || this.is_of(&credentials)).await
    }

    /// Reads what a caller sends first.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Self, HandshakeError> {
        let length = from.read_i32().await?;
        let bytes = usize::try_from(length).ok().filter(|bytes| (1..=MAX_BYTES).contains(bytes));
        let mut text = vec![0; bytes.ok_or(HandshakeError::Length(length))?];
        from.read_exact(&mut text).await?;
        Self::parse(&text)
    }
}

fn digest(password: &str, salt: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut digest = [0; DIGEST_BYTES];
    pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, ROUNDS, &mut digest);
    digest
}

/// Lets a caller in.
pub async fn answer_handshake(to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    to.write_all(&[LET_IN]).await
}

/// Calls a data port: sends a handshake, and waits until it is let in.
pub async fn shake_hands(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    credentials: &GofdCredentials,
    task: &str,
) -> Result<(), HandshakeError> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(HandshakeError::Random)?;
    let (credentials, task) = (credentials.clone(), task.to_owned());
    let bytes = tasks::blocking(move || Handshake::bytes(&credentials, &task, &salt)).await?;
    // With one call: GoFD reads what has come with one.
    stream.write_all(&bytes).await?;
    match stream.read_u8().await {
        Ok(LET_IN) => Ok(()),
        Ok(_) => Err(HandshakeError::Refused),
        Err(end) if end.kind() == io::ErrorKind::UnexpectedEof => Err(HandshakeError::Refused),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gofd() -> GofdCredentials {
        GofdCredentials { user: "gofd".to_owned(), password: "secret".to_owned() }
    }

    /// The digest is that of `hashlib.pbkdf2_hmac("sha256", b"secret", b"12345678", 10000, 40)`.
    #[test]
    fn the_bytes_are_those_of_gofd() {
        let bytes = Handshake::bytes(&gofd(), "t1", b"12345678").unwrap();
        let text = format!("t1\0gofd\0{}\0MTIzNDU2Nzg=\0", DIGEST);
        assert_eq!(bytes[..4], [0, 0, 0, 78]);
        assert_eq!(String::from_utf8(bytes[4..].to_vec()).unwrap(), text);
        assert_eq!(DIGEST.len(), DIGEST_CHARS);
    }

    const DIGEST: &str = "kega1CQxNTKM0EDQrynfftPcFNQsq2BSNKiVY/wBu47yXCwohm9IrA==";

    #[tokio::test]
    async fn who_has_the_password_is_let_in_and_nobody_else() {
        let bytes = Handshake::bytes(&gofd(), "t1", b"12345678").unwrap();
        let handshake = Handshake::read(&mut &bytes[..]).await.unwrap();
        assert_eq!((handshake.task.as_str(), handshake.user.as_str()), ("t1", "gofd"));
        assert!(handshake.is_from(&gofd()).await);
        for (user, password) in [("gofd", "Secret"), ("gofe", "secret"), ("gofd", "")] {
            let other = GofdCredentials { user: user.to_owned(), password: password.to_owned() };
            assert!(!handshake.is_from(&other).await, "{other:?}");
        }
    }

    #[tokio::test]
    async fn a_malformed_handshake_is_refused() {
        let digest = format!("{DIGEST}\0");
        for text in [
            "",
            "t1",
            "t1\0gofd\0x\0y\0",
            "t1\0gofd\0\0\0",
            &format!("t1\0gofd\0{digest}"),
            &format!("t1\0gofd\0{digest}MTIzNDU2Nzg=\0more\0"),
            &format!("t1\0gofd\0{digest}MTIzNDU2Nzg="),
            &format!("{}\0gofd\0{digest}MTIzNDU2Nzg=\0", "x".repeat(200)),
        ] {
            let mut bytes = i32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
            bytes.extend_from_slice(text.as_bytes());
            assert!(Handshake::read(&mut &bytes[..]).await.is_err(), "{text:?}");
        }
        for length in [0, -1, 201, i32::MAX, i32::MIN] {
            let refusal = Handshake::read(&mut &length.to_be_bytes()[..]).await;
            assert!(matches!(refusal, Err(HandshakeError::Length(_))), "{length}");
        }
    }

    #[test]
    fn the_longest_id_is_what_fits() {
        let longest = crate::max_task_id("gofd");
        assert_eq!(longest, 124);
        assert!(Handshake::bytes(&gofd(), &"x".repeat(longest), b"12345678").is_ok());
        assert!(Handshake::bytes(&gofd(), &"x".repeat(longest + 1), b"12345678").is_err());
        assert!(Handshake::bytes(&gofd(), "a\0b", b"12345678").is_err());
    }

    #[test]
    fn basic_authentication_is_read_and_written() {
        assert_eq!(gofd().basic(), "Basic Z29mZDpzZWNyZXQ=");
        assert!(gofd().are_in_basic("basic Z29mZDpzZWNyZXQ="));
        for wrong in ["", "Basic", "Basic !", "Bearer Z29mZDpzZWNyZXQ=", "Basic Z29mZA=="] {
            assert!(!gofd().are_in_basic(wrong), "{wrong}");
        }
    }
}
