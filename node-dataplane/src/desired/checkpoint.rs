//! The desired state on disk: what a restart without an operator continues from.
//!
//! One file: magic, then the xxh3 of the rest, then length-delimited messages: a header, and a row each. Written beside and
//! renamed over, so that there is always one that is whole. A file that is not whole counts as none.

use std::fs::{self, File};
use std::hash::Hasher;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use axoneme_proto::Scope;
use axoneme_proto::nodesync::{Cursor, InputVersion};
use prost::Message;
use xxhash_rust::xxh3::Xxh3;

use super::Desired;
use super::store::{RowId, Stored};

const MAGIC: &[u8; 8] = b"axoneme1";
/// A row is at most a delta's chunk; anything longer is damage.
const MAX_MESSAGE: u64 = 16 << 20;

/// Why there is no usable checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be read or written.
    #[error("checkpoint {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// The file is not whole, or was written by an incompatible version.
    #[error("checkpoint {} is damaged or of another version", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// What is in a checkpoint beside rows.
#[derive(Clone, PartialEq, Message)]
pub struct Header {
    /// Name of the node: a disk that was cloned is no checkpoint of this one.
    #[prost(string, tag = "1")]
    pub node: String,
    /// What was committed.
    #[prost(message, optional, tag = "2")]
    pub cursor: Option<Cursor>,
    /// Scopes that are held, also empty ones.
    #[prost(string, repeated, tag = "3")]
    pub scopes: Vec<String>,
    /// Whether the operator's inputs were complete.
    #[prost(bool, tag = "4")]
    pub complete: bool,
    /// Addresses of operators, to try after a restart.
    #[prost(string, repeated, tag = "5")]
    pub operators: Vec<String>,
    /// Policy indexes of identities.
    #[prost(message, repeated, tag = "6")]
    pub policies: Vec<PolicyIndex>,
    /// Bits of the features with which rows were accepted.
    #[prost(uint64, tag = "7")]
    pub features: u64,
    /// Some row was refused: the journal would not send it again.
    #[prost(bool, tag = "8")]
    pub refused: bool,
    /// What the rows were made of.
    #[prost(message, repeated, tag = "9")]
    pub inputs: Vec<InputVersion>,
}

/// A node-local id.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct PolicyIndex {
    /// The subject.
    #[prost(uint32, tag = "1")]
    pub identity: u32,
    /// Its index into `ax_policies`.
    #[prost(uint32, tag = "2")]
    pub index: u32,
}

#[derive(Clone, PartialEq, Message)]
struct SavedRow {
    #[prost(string, tag = "1")]
    scope: String,
    #[prost(int32, tag = "2")]
    table: i32,
    #[prost(string, tag = "3")]
    key: String,
    #[prost(uint64, tag = "4")]
    revision: u64,
    #[prost(uint64, tag = "5")]
    hash: u64,
    #[prost(bytes = "vec", tag = "6")]
    payload: Vec<u8>,
}

/// A checkpoint's place.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    path: PathBuf,
    /// Of the running kernel.
    boot_id: String,
}

/// A checkpoint that is written but not in its place yet.
#[derive(Debug)]
#[must_use = "a checkpoint counts when it is in its place"]
pub struct Pending {
    file: File,
    from: PathBuf,
    to: PathBuf,
}

impl Checkpoint {
    /// The checkpoint in this file.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self { path, boot_id: boot_id.trim().to_owned() }
    }

    /// Says that the kernel is about to follow this cursor: a checkpoint of another one is older than what is in the kernel.
    ///
    /// Not synced: after a crash of the machine, nothing is in the kernel.
    ///
    /// # Errors
    /// When the file cannot be written; then no checkpoint counts as the newest.
    pub fn follows(&self, cursor: &Cursor) -> Result<(), CheckpointError> {
        let path = self.path.with_extension("cursor");
        let written = overwrite(&path, &self.followed(cursor));
        written.or_else(|source| fs::remove_file(&path).and(Err(source))).map_err(|source| self.io(source))
    }

    /// Whether nothing was committed since the checkpoint of this cursor was written, on a kernel that still runs.
    #[must_use]
    pub fn is_newest(&self, cursor: &Cursor) -> bool {
        fs::read(self.path.with_extension("cursor")).is_ok_and(|kept| kept == self.followed(cursor))
    }

    fn followed(&self, cursor: &Cursor) -> Vec<u8> {
        [self.boot_id.as_bytes(), &cursor.encode_to_vec()].concat()
    }

    fn io(&self, source: io::Error) -> CheckpointError {
        CheckpointError::Io { path: self.path.clone(), source }
    }

    /// Writes to the page cache. [`Pending::finish`] waits for the disk and may run elsewhere.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(
        &self,
        desired: &Desired,
        operators: Vec<String>,
        policies: Vec<PolicyIndex>,
    ) -> Result<Pending, CheckpointError> {
        let header = Header {
            node: desired.node_name().to_owned(),
            cursor: desired.cursor().cloned(),
            scopes: desired.store().scopes().map(Scope::to_string).collect(),
            complete: desired.is_complete(),
            operators,
            policies,
            features: super::FEATURES,
            refused: !desired.rejected().is_empty(),
            inputs: desired.inputs(),
        };
        let from = self.path.with_extension("new");
        let file = write(&from, &header, desired).map_err(|source| self.io(source))?;
        Ok(Pending { file, from, to: self.path.clone() })
    }

    /// Reads the checkpoint of the node `node_name`; None if there never was one.
    ///
    /// # Errors
    /// When there is one that cannot be used.
    pub fn read(&self, node_name: &str) -> Result<Option<(Desired, Header)>, CheckpointError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.io(source)),
        };
        let damaged = || CheckpointError::Damaged { path: self.path.clone() };
        let mut reader = verify(file).map_err(|source| self.io(source))?.ok_or_else(damaged)?;
        let mut buffer = Vec::new();
        let mut header: Header = next(&mut reader, &mut buffer).ok().flatten().ok_or_else(damaged)?;
        if header.node != node_name {
            tracing::warn!(checkpoint = header.node, node_name, "the checkpoint is of another node and not used");
            return Ok(None);
        }
        let mut desired = Desired::new(node_name);
        let mut lost = header.refused || header.features != super::FEATURES;
        for scope in header.scopes.iter().filter_map(|scope| scope.parse().ok()) {
            desired.restore_scope(&scope);
        }
        while let Some(row) = next::<SavedRow>(&mut reader, &mut buffer).map_err(|_| damaged())? {
            let Ok(scope) = row.scope.parse() else { continue };
            let id = RowId { scope, table: row.table, key: row.key.into() };
            let stored = Stored { revision: row.revision, hash: row.hash, payload: row.payload.into() };
            if let Err(err) = desired.restore_row(id.clone(), stored) {
                tracing::warn!(scope = %id.scope, key = %id.key, %err, "row of the checkpoint is not used");
                lost = true;
            }
        }
        // A journal sends a row once. What this build could not or cannot take in comes again only by comparing hashes.
        desired.made_of(std::mem::take(&mut header.inputs));
        desired.restore_cursor(header.cursor.take().filter(|_| !lost), header.complete);
        Ok(Some((desired, header)))
    }
}

impl Pending {
    /// Waits for the disk and puts the checkpoint into its place.
    ///
    /// # Errors
    /// When the disk fails; the former checkpoint stays.
    pub fn finish(self) -> Result<(), CheckpointError> {
        let put = || {
            self.file.sync_all()?;
            fs::rename(&self.from, &self.to)?;
            match self.to.parent() {
                Some(folder) => File::open(folder)?.sync_all(),
                None => Ok(()),
            }
        };
        put().map_err(|source| CheckpointError::Io { path: self.to.clone(), source })
    }
}

struct Hashed<W> {
    inner: W,
    hash: Xxh3,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn write(path: &Path, header: &Header, desired: &Desired) -> io::Result<File> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(MAGIC)?;
    file.write_all(&[0; 8])?;
    let mut out = Hashed { inner: file, hash: Xxh3::new() };
    let mut buffer = Vec::new();
    put(&mut out, &mut buffer, header)?;
    for (id, stored) in desired.store().iter() {
        let row = SavedRow {
            scope: id.scope.to_string(),
            table: id.table,
            key: id.key.to_string(),
            revision: stored.revision,
            hash: stored.hash,
            payload: stored.payload.to_vec(),
        };
        put(&mut out, &mut buffer, &row)?;
    }
    let hash = out.hash.finish();
    let mut file = out.inner.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(MAGIC.len() as u64))?;
    file.write_all(&hash.to_le_bytes())?;
    Ok(file)
}

fn put(out: &mut impl Write, buffer: &mut Vec<u8>, message: &impl Message) -> io::Result<()> {
    buffer.clear();
    message.encode_length_delimited(buffer).map_err(io::Error::other)?;
    out.write_all(buffer)
}

/// A reader behind the checksum, or None if that is wrong. Reads the file twice rather than holding it.
fn verify(mut file: File) -> io::Result<Option<BufReader<File>>> {
    let mut start = [0; 16];
    if file.read_exact(&mut start).is_err() || !start.starts_with(MAGIC) {
        return Ok(None);
    }
    let mut hash = Xxh3::new();
    let mut buffer = [0; 8192];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    if start[8..] != hash.finish().to_le_bytes() {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(16))?;
    Ok(Some(BufReader::new(file)))
}

fn next<M: Message + Default>(reader: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<Option<M>> {
    let mut length = 0_u64;
    for shift in (0..).step_by(7) {
        let mut byte = [0];
        match reader.read_exact(&mut byte) {
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof && shift == 0 => return Ok(None),
            read => read?,
        }
        if shift > 28 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        length |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    if length > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    buffer.clear();
    if reader.take(length).read_to_end(buffer)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    M::decode(buffer.as_slice()).map(Some).map_err(io::Error::other)
}

/// Writes a file anew in the blocks that it has: giving them back first costs the disk's time, for every commit.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.write_all(bytes)?;
    let length = bytes.len() as u64;
    if file.metadata()?.len() == length { Ok(()) } else { file.set_len(length) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Change;

    #[test]
    fn what_rows_were_made_of_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::new(folder.path().join("checkpoint"));
        let mut desired = Desired::new("n1");
        for (kind, version) in [("Pod", 7), ("Node", 3), ("Pod", 5)] {
            // The operator that was told last may know less: an etcd was restored.
            let inputs = vec![InputVersion { kind: kind.into(), version }];
            desired.commit(Change { epoch: vec![1], to_revision: 1, inputs, ..Change::default() });
        }
        checkpoint.write(&desired, Vec::new(), Vec::new()).unwrap().finish().unwrap();
        let (restored, _) = checkpoint.read("n1").unwrap().unwrap();
        let told = |desired: &Desired| desired.inputs().into_iter().map(|i| (i.kind, i.version)).collect::<Vec<_>>();
        assert_eq!(told(&restored), [("Node".to_owned(), 3), ("Pod".to_owned(), 5)]);
        assert_eq!(told(&restored), told(&desired));
    }
}
