//! Passwords as GoFD's configuration has them: encrypted with a key that a text beside
//! them, the factor, is stretched to. It keeps nobody out who can read the file.

use aes::Aes128;
use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use cbc::{
    Decryptor, Encryptor,
    cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

/// The same in every GoFD.
const KEY: [u8; 16] = [
    0x45, 0xef, 0x2f, 0x62, 0xab, 0x9c, 0xe8, 0x03, 0x28, 0xb1, 0xf2, 0x61, 0xde, 0xf1, 0xd2, 0x58,
];
const ROUNDS: u32 = 5000;
const BLOCK: usize = 16;
const FACTOR_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A password with its factor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedPassword {
    pub factor: String,
    /// Base64 of the initial vector and the text.
    pub text: String,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum UnreadablePassword {
    #[error("密码应为 base64 编码的密文 / the password must be a base64 text")]
    NoBase64,
    #[error("密码密文的长度有误 / the encrypted password has a wrong length")]
    Length,
    #[error(
        "密码无法解密，factor 可能不匹配 / the password can't be decrypted, the factor may be another one's"
    )]
    Padding,
    #[error("没有随机数可用 / there are no random bytes: {0}")]
    Random(String),
}

impl EncryptedPassword {
    /// Encrypts with a new factor.
    pub fn new(password: &str) -> Result<Self, UnreadablePassword> {
        let mut random = [0; 8 + BLOCK];
        getrandom::fill(&mut random)
            .map_err(|error| UnreadablePassword::Random(error.to_string()))?;
        let (digits, vector) = random.split_at(8);
        let digit = |byte: &u8| char::from(FACTOR_DIGITS[usize::from(byte % 16)]);
        let factor: String = digits.iter().map(digit).collect();
        let text = encrypt(&factor, vector, password.as_bytes());
        Ok(Self { factor, text })
    }

    pub fn decrypt(&self) -> Result<String, UnreadablePassword> {
        let bytes = BASE64.decode(self.text.trim()).map_err(|_| UnreadablePassword::NoBase64)?;
        if bytes.len() < 2 * BLOCK || !bytes.len().is_multiple_of(BLOCK) {
            return Err(UnreadablePassword::Length);
        }
        let (vector, text) = bytes.split_at(BLOCK);
        let cipher = Decryptor::<Aes128>::new_from_slices(&stretched(&self.factor), vector)
            .map_err(|_| UnreadablePassword::Length)?;
        let password = cipher.decrypt_padded_vec::<Pkcs7>(text);
        let password = password.map_err(|_| UnreadablePassword::Padding)?;
        String::from_utf8(password).map_err(|_| UnreadablePassword::Padding)
    }
}

fn encrypt(factor: &str, vector: &[u8], password: &[u8]) -> String {
    let cipher = Encryptor::<Aes128>::new_from_slices(&stretched(factor), vector);
    let encrypted = cipher.map(|cipher| cipher.encrypt_padded_vec::<Pkcs7>(password));
    BASE64.encode([vector, &encrypted.unwrap_or_default()].concat())
}

/// The key that a factor is stretched to.
fn stretched(factor: &str) -> [u8; BLOCK] {
    let mut bytes = factor.as_bytes().to_vec();
    for round in 0..ROUNDS {
        let mut hmac = Hmac::<Sha256>::new_from_slice(&KEY).expect("keys of any length are good");
        hmac.update(&bytes);
        hmac.update(&round.to_be_bytes());
        bytes = hmac.finalize().into_bytes().to_vec();
    }
    let mut key = [0; BLOCK];
    key.copy_from_slice(&bytes[..BLOCK]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(factor: &str, text: &str) -> EncryptedPassword {
        EncryptedPassword { factor: factor.to_owned(), text: text.to_owned() }
    }

    /// The samples of GoFD's documentation and of its repository.
    #[test]
    fn the_samples_of_gofd_are_decrypted() {
        for (factor, text) in [
            ("9427e80d", "yrsK+2iiwPqecImH7obTUm1vhnvvQzFmYYiOz5oqaoc="),
            ("9427e80d", "yrsK+2iiwPqecImH7obTUm1vhnvvQzFmYYiOz5oqaoc= "),
            ("28711f5d", "BkrjWALvWhXrLjVXQMUDzyEcX7UpAdDG+uoedDOfeVo="),
            ("802cbde8", "LFFex2mDcetFDnghcZqpz0z/zbzYhRLBj58fnAs45uc="),
        ] {
            assert_eq!(password(factor, text).decrypt().as_deref(), Ok("gofd"), "{factor}");
        }
    }

    #[test]
    fn what_is_encrypted_is_decrypted_and_no_two_are_the_same() {
        for text in ["", "gofd", "sixteen letters!", "会议的密码", &"x".repeat(200)] {
            let encrypted = EncryptedPassword::new(text).unwrap();
            assert_eq!(encrypted.decrypt().as_deref(), Ok(text));
            assert_eq!(encrypted.factor.len(), 8);
            assert_ne!(EncryptedPassword::new(text).unwrap(), encrypted);
        }
    }

    #[test]
    fn a_wrong_one_is_refused() {
        let sample = "yrsK+2iiwPqecImH7obTUm1vhnvvQzFmYYiOz5oqaoc=";
        for (factor, text, refusal) in [
            ("9427e80d", "gofd!", UnreadablePassword::NoBase64),
            ("9427e80d", "Z29mZA==", UnreadablePassword::Length),
            ("9427e80d", "", UnreadablePassword::Length),
            ("9427e80e", sample, UnreadablePassword::Padding),
        ] {
            assert_eq!(password(factor, text).decrypt(), Err(refusal), "{factor} {text}");
        }
    }
}
