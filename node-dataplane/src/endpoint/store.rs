//! Attachments on disk: a file each, written whole and then renamed, so that ADD costs the same with one pod and with hundreds.
//!
//! Nothing is flushed to the disk itself: what the kernel holds of an attachment does not outlive a power cut either, and the
//! boot id in the file tells.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::attachment::{Attachment, AttachmentKey};
use super::protocol;

/// Why attachments cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be used.
    #[error("cannot use {path}")]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written or removed.
    #[error("cannot persist attachment {key}")]
    Write {
        /// Of which attachment.
        key: AttachmentKey,
        /// Why.
        source: io::Error,
    },
}

/// Attachments, in memory and on disk.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    boot_id: String,
    attachments: BTreeMap<AttachmentKey, Attachment>,
}

impl Store {
    /// Reads all attachments in `directory`, which is made if it is not there. Files that cannot be read as one are put aside
    /// with the ending `.broken`: what they stood for is pruned like everything else that has no attachment.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let directory = directory.into();
        let unusable = |source| StoreError::Directory { path: directory.clone(), source };
        fs::create_dir_all(&directory).map_err(unusable)?;
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(unusable)?.trim().to_owned();
        let mut attachments = BTreeMap::new();
        for entry in fs::read_dir(&directory).map_err(unusable)? {
            let path = entry.map_err(unusable)?.path();
            match path.extension().and_then(|ending| ending.to_str()) {
                Some("json") => match read(&path) {
                    Ok(attachment) => drop(attachments.insert(attachment.key.clone(), attachment)),
                    Err(error) => {
                        tracing::error!(path = %path.display(), %error, "an attachment cannot be read and is put aside");
                        fs::rename(&path, path.with_extension("broken")).map_err(unusable)?;
                    }
                },
                // Left by a write that was interrupted before its rename.
                Some("new") => fs::remove_file(&path).map_err(unusable)?,
                _ => {}
            }
        }
        Ok(Self { directory, boot_id, attachments })
    }

    /// Of the running kernel.
    #[must_use]
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// All attachments, by container.
    pub fn all(&self) -> impl Iterator<Item = &Attachment> {
        self.attachments.values()
    }

    /// One attachment.
    #[must_use]
    pub fn get(&self, key: &AttachmentKey) -> Option<&Attachment> {
        self.attachments.get(key)
    }

    /// Attachments of a pod.
    pub fn of_pod<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = &'a Attachment> {
        self.all().filter(move |attachment| attachment.pod_uid == uid)
    }

    /// Writes an attachment, new or changed. When that fails, memory has what the disk has.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn put(&mut self, attachment: Attachment) -> Result<(), StoreError> {
        let key = attachment.key.clone();
        let path = self.path(&key);
        let new = path.with_extension("new");
        let written = serde_json::to_vec(&attachment)
            .map_err(io::Error::other)
            .and_then(|text| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &path));
        written.map_err(|source| StoreError::Write { key: key.clone(), source })?;
        self.attachments.insert(key, attachment);
        Ok(())
    }

    /// Removes an attachment; an absent one is removed already.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove(&mut self, key: &AttachmentKey) -> Result<(), StoreError> {
        match fs::remove_file(self.path(key)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Write { key: key.clone(), source })
            }
            _ => {
                self.attachments.remove(key);
                Ok(())
            }
        }
    }

    /// A number for the next attachment.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.all().map(|attachment| attachment.sequence).max().unwrap_or(0) + 1
    }

    /// A number for a pod's endpoint: that of its other attachments, else one that no pod has and that was not used lately.
    #[must_use]
    pub fn endpoint_id(&self, pod_uid: &str) -> u32 {
        // Shown in CiliumEndpoints, where it has 16 bits.
        const LAST: u32 = 65_535;
        if let Some(own) = self.of_pod(pod_uid).next() {
            return own.endpoint_id;
        }
        let last =
            self.all().max_by_key(|attachment| attachment.sequence).map_or(0, |attachment| attachment.endpoint_id);
        let taken = |id: u32| self.all().any(|attachment| attachment.endpoint_id == id);
        (last + 1..=LAST).chain(1..=last).find(|&id| !taken(id)).unwrap_or(LAST)
    }

    /// Whether an attachment has this address.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.all().any(|attachment| attachment.addresses.contains(&address))
    }

    fn path(&self, key: &AttachmentKey) -> PathBuf {
        self.directory.join(protocol::file_name(&key.container_id, &key.interface))
    }
}

fn read(path: &Path) -> io::Result<Attachment> {
    let attachment: Attachment = serde_json::from_slice(&fs::read(path)?)?;
    let named = protocol::file_name(&attachment.key.container_id, &attachment.key.interface);
    if path.file_name().is_some_and(|name| name == named.as_str()) {
        Ok(attachment)
    } else {
        Err(io::Error::other("the file's name is not that of the attachment in it"))
    }
}
