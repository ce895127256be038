//! Files of tasks from node to node: the one that is being received here, for nodes that
//! follow it, and conversations with nodes that have one.

use std::{sync::Arc, time::Duration};

use edge_mirror_protocol::{
    object::{FileKey, ObjectKey},
    package::{Sha256, Validators},
    relay::{
        Sibling,
        auth::{PackageVersion, ParentState},
    },
};
use edge_mirror_store::{
    OpenedPackage, StoreError,
    growing::{PartialPackage, PartialWriter},
};

use super::{Fetch, SiblingCopy};
use crate::{
    board::ParentLoss,
    upstream::{SiblingError, SiblingObject, SiblingSession},
};

/// A file that is being received. There is one at a time.
#[derive(Clone, Debug)]
pub(crate) struct SharedFile {
    key: ObjectKey,
    partial: Arc<PartialPackage>,
}

impl SharedFile {
    fn is(&self, key: &ObjectKey, sha256: Sha256) -> bool {
        self.key == *key && self.partial.sha256() == Some(sha256) && !self.partial.is_broken()
    }
}

impl Fetch {
    /// Lets other nodes follow the file that is being received, in place of the one before.
    pub(crate) fn share_file(&self, key: &ObjectKey, writer: &PartialWriter) {
        let shared = SharedFile { key: key.clone(), partial: writer.growing().clone() };
        self.inner.shared_file.send_replace(Some(shared));
    }

    /// Lets go of it: whoever comes now finds it in the store.
    pub(crate) fn unshare_file(&self) {
        self.inner.shared_file.send_replace(None);
    }

    /// Looks for a file of this digest, and waits for one that is about to be pulled.
    pub(crate) async fn file_for_sibling(
        &self,
        file: &FileKey,
        version: &PackageVersion,
        wait: Duration,
    ) -> Result<SiblingCopy, StoreError> {
        let Some(sha256) = version.digest() else { return Ok(SiblingCopy::Absent) };
        let key = ObjectKey::from(file.clone());
        let mut shared = self.inner.shared_file.subscribe();
        if let Some(opened) = self.stored_file(file, sha256).await? {
            return Ok(SiblingCopy::Stored(opened));
        }
        let begun =
            shared.wait_for(|shared| shared.as_ref().is_some_and(|shared| shared.is(&key, sha256)));
        if let Ok(Ok(shared)) = tokio::time::timeout(wait, begun).await
            && let Some(shared) = &*shared
        {
            return Ok(SiblingCopy::Partial(shared.partial.clone()));
        }
        // It may have been stored meanwhile.
        Ok(self.stored_file(file, sha256).await?.map_or(SiblingCopy::Absent, SiblingCopy::Stored))
    }

    async fn stored_file(
        &self,
        file: &FileKey,
        sha256: Sha256,
    ) -> Result<Option<OpenedPackage>, StoreError> {
        let opened = self.inner.board.store().package(file.clone()).await?;
        Ok(opened.filter(|(stored, _)| stored.manifest.sha256 == sha256))
    }

    /// The state of a file here, for another node.
    pub(crate) fn file_state_for_sibling(
        &self,
        file: &FileKey,
        version: &PackageVersion,
    ) -> ParentState {
        let key = ObjectKey::from(file.clone());
        let received = |sha256| {
            let stored = self.inner.board.store().get(&key);
            if let Some(stored) = stored.filter(|stored| stored.manifest.sha256 == sha256) {
                return Some(stored.manifest.size_bytes);
            }
            let shared = self.inner.shared_file.borrow();
            let shared = shared.as_ref().filter(|shared| shared.is(&key, sha256));
            shared.map(|shared| shared.partial.received_bytes().0)
        };
        let received_bytes = version.digest().and_then(received).unwrap_or_default();
        ParentState { received_bytes, sha256: version.digest(), ..ParentState::default() }
    }

    /// Counts bytes that came from another node.
    pub(crate) fn note_relayed(&self, bytes: usize) {
        self.inner.board.counts.relayed_bytes.add(bytes as u64);
    }

    /// Counts a parent that was left.
    pub(crate) fn note_parent_loss(&self, loss: ParentLoss) {
        self.inner.board.counts.parent_changes.inc(loss);
    }

    /// True if this node can ask others for files.
    pub(crate) async fn can_relay(&self) -> bool {
        let config = self.inner.settings.current();
        self.inner.siblings.wait_for_key(&config).await.is_some()
    }

    /// Begins a conversation with another node about a file.
    pub(crate) fn file_session(
        &self,
        parent: &Sibling,
        key: &ObjectKey,
        (sha256, length): (Sha256, u64),
    ) -> Result<SiblingSession, SiblingError> {
        let (config, siblings) = (self.inner.settings.current(), &self.inner.siblings);
        let secret = siblings.key(&config);
        let secret = secret.ok_or(SiblingError::Unproven("relaying is off here"))?;
        let object = SiblingObject {
            key: key.clone(),
            version: PackageVersion::Digest(sha256),
            secret,
            child_id: config.node_id.clone(),
            child_address: siblings.own_address().unwrap_or_default(),
            validators: Validators::default(),
            length: Some(length),
        };
        SiblingSession::new(siblings.client(), parent.clone(), Arc::new(object))
    }
}
