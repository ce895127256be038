//! A certificate for servers on this machine.

use std::{fs, path::PathBuf};

use anyhow::Result;

use super::Stage;

/// Two PEM files.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Certificate {
    pub(crate) fn make(stage: &Stage) -> Result<Self> {
        let folder = stage.make("certificate")?;
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
        fs::write(&cert, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        Ok(Self { cert, key })
    }
}
