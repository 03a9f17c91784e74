//! GC, and DELs that came while no daemon was there.

use std::fs;
use std::io;

use super::Endpoints;
use super::attachment::{self, AttachmentKey, Phase};
use super::error::AttachError;
use super::protocol::{Failure, Request, ValidAttachment, file_name};

impl Endpoints {
    /// Detaches what `network` has and the runtime does not know any more. What an ADD is at work on is left to it. Returns how
    /// many were detached.
    ///
    /// # Errors
    /// The first one, after all others were tried.
    pub async fn gc(&self, network: &str, valid: &[ValidAttachment]) -> Result<usize, AttachError> {
        let is_valid = |key: &AttachmentKey| {
            valid.iter().any(|valid| valid.container_id == key.container_id && valid.interface == key.interface)
        };
        let attachments = self.attachments().into_iter().filter(|attachment| attachment.network == network);
        let stale = attachments.filter(|known| known.phase != Phase::Attaching && !is_valid(&known.key));
        let (mut detached, mut failed) = (0, None);
        for attachment in stale {
            tracing::info!(key = %attachment.key, pod = attachment.name, "the runtime does not know this attachment any more");
            match self.del(&attachment.key).await {
                Ok(()) => detached += 1,
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        failed.map_or(Ok(detached), Err)
    }

    /// Does what DELs asked for while no daemon was there. To be called when the socket is there and nobody is served yet: a
    /// plugin that came too late for this finds the socket. What fails stays for the next start. Returns how many were done.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn detach_deferred(&self) -> io::Result<usize> {
        let directory = match fs::read_dir(&self.inner.deferred) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            directory => directory?,
        };
        let mut detached = 0;
        for entry in directory {
            let path = entry?.path();
            if path.extension().is_none_or(|ending| ending != "json") {
                continue;
            }
            let request = fs::read(&path).map(|text| serde_json::from_slice::<Request>(&text));
            let Some(key) = request?.ok().as_ref().and_then(attachment::key) else {
                tracing::warn!(path = %path.display(), "a deferred request cannot be read");
                fs::remove_file(&path)?;
                continue;
            };
            match self.del(&key).await {
                Ok(()) => {
                    fs::remove_file(&path)?;
                    detached += 1;
                }
                Err(error) => {
                    tracing::warn!(%key, error = Failure::from(&error).message, "a deferred DEL failed");
                }
            }
        }
        Ok(detached)
    }

    /// An ADD makes a DEL that came before it void.
    pub(super) fn undefer(&self, key: &AttachmentKey) {
        // There hardly ever is one.
        let _ = fs::remove_file(self.inner.deferred.join(file_name(&key.container_id, &key.interface)));
    }
}
