//! A map of the kernel, found by its pin.

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::Pod;

use super::bpf::{self, MapInfo, map_type};
use crate::reconcile::ops::{MapError, MapKey, MapOperation, MapOps, MapValue};

/// Entries that one call reads. More does not go faster; 4096 of our largest entries are half a megabyte, held during a dump.
const BATCH: u32 = 4096;

/// Why a pinned map cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No such pin, or no BPF file system.
    #[error("cannot open the pinned map {path}: did `axoneme-node load` run?")]
    Pin {
        /// Where it should be.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It was made by another version.
    #[error(
        "map {path} has keys of {found_key} and values of {found_value} bytes where this version has {key} and {value}: run \
         `axoneme-node load` of this version"
    )]
    Layout {
        /// Where it is pinned.
        path: PathBuf,
        /// Bytes of a key in the kernel.
        found_key: u32,
        /// Bytes of a value in the kernel.
        found_value: u32,
        /// Bytes of a key here.
        key: usize,
        /// Bytes of a value here.
        value: usize,
    },
}

/// A pinned map with keys `K` and values `V`.
#[derive(Debug)]
pub struct KernelMap<K, V> {
    name: &'static str,
    fd: OwnedFd,
    info: MapInfo,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Pod, V: Pod> KernelMap<K, V> {
    /// Opens `directory/name`. Sizes of keys and values are compared, because the kernel copies by the map's own.
    ///
    /// # Errors
    /// When it is not there, or made for other keys or values.
    pub fn open(directory: &Path, name: &'static str) -> Result<Self, OpenError> {
        let path = directory.join(name);
        let opened = bpf::open_pinned(&path).and_then(|fd| Ok((bpf::map_info(fd.as_fd())?, fd)));
        let (info, fd) = opened.map_err(|source| OpenError::Pin { path: path.clone(), source })?;
        let (found_key, found_value) = (info.key_size, info.value_size);
        if (found_key as usize, found_value as usize) != (size_of::<K>(), size_of::<V>()) {
            return Err(OpenError::Layout { path, found_key, found_value, key: size_of::<K>(), value: size_of::<V>() });
        }
        Ok(Self { name, fd, info, types: PhantomData })
    }

    /// How the kernel defines it.
    #[must_use]
    pub fn info(&self) -> MapInfo {
        self.info
    }

    fn error(&self, operation: MapOperation) -> impl FnOnce(io::Error) -> MapError {
        let (map, capacity) = (self.name, self.info.max_entries);
        move |source| match source.raw_os_error() {
            Some(libc::E2BIG | libc::ENOSPC | libc::ENOMEM) if operation == MapOperation::Update => {
                MapError::Capacity { map, capacity }
            }
            _ => MapError::Kernel { map, operation, source },
        }
    }

    fn read(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = MaybeUninit::<V>::uninit();
        // SAFETY: open compared the sizes of K and V with the map's, so that key is readable and value writable as needed.
        match unsafe { bpf::lookup(self.fd.as_fd(), bytes(key), value.as_mut_ptr().cast()) } {
            // SAFETY: the kernel has written all of it, and any bytes are a V because V is Pod.
            Ok(()) => Ok(Some(unsafe { value.assume_init() })),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, key: &K, value: &V) -> io::Result<()> {
        // SAFETY: open compared the sizes of K and V with the map's.
        unsafe { bpf::update(self.fd.as_fd(), bytes(key), bytes(value)) }
    }

    fn remove(&self, key: &K) -> io::Result<()> {
        // SAFETY: open compared the size of K with the map's.
        match unsafe { bpf::delete(self.fd.as_fd(), bytes(key)) } {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
            _ => Ok(()),
        }
    }

    fn dump_batches(&self, visit: &mut dyn FnMut(K, V)) -> io::Result<()> {
        // A position is a key in arrays and tries, and four bytes in hashes.
        let words = size_of::<K>().div_ceil(8).max(1);
        let (mut from, mut position) = (vec![0_u64; words], vec![0_u64; words]);
        let mut first = true;
        let mut batch = BATCH.min(self.info.max_entries.max(1));
        loop {
            let mut keys: Vec<K> = Vec::with_capacity(batch as usize);
            let mut values: Vec<V> = Vec::with_capacity(batch as usize);
            let start = if first { std::ptr::null() } else { from.as_ptr().cast() };
            // SAFETY: keys and values have room for `batch` of the sizes that open compared with the map's; the positions
            // have room for a key and for 8 bytes.
            let found = unsafe {
                let (keys, values) = (keys.as_mut_ptr().cast(), values.as_mut_ptr().cast());
                bpf::lookup_batch(self.fd.as_fd(), start, position.as_mut_ptr().cast(), keys, values, batch)
            };
            let found = match found {
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && batch < self.info.max_entries => {
                    batch = batch.saturating_mul(2).min(self.info.max_entries);
                    continue;
                }
                found => found?,
            };
            let count = found.count.min(batch) as usize;
            // SAFETY: the kernel has written this many of each, and any bytes are a K or V because both are Pod.
            unsafe {
                keys.set_len(count);
                values.set_len(count);
            }
            keys.into_iter().zip(values).for_each(|(key, value)| visit(key, value));
            if found.last {
                return Ok(());
            }
            first = false;
            std::mem::swap(&mut from, &mut position);
        }
    }

    fn dump_singly(&self, visit: &mut dyn FnMut(K, V)) -> io::Result<()> {
        let mut key: Option<K> = None;
        loop {
            let mut next = MaybeUninit::<K>::uninit();
            let from = key.as_ref().map_or(std::ptr::null(), bytes);
            // SAFETY: open compared the size of K with the map's.
            match unsafe { bpf::next_key(self.fd.as_fd(), from, next.as_mut_ptr().cast()) } {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
                result => result?,
            }
            // SAFETY: the kernel has written all of it, and any bytes are a K because K is Pod.
            let next = unsafe { next.assume_init() };
            if let Some(value) = self.read(&next)? {
                visit(next, value);
            }
            key = Some(next);
        }
    }
}

impl<K: Pod + MapKey, V: Pod + MapValue> MapOps<K, V> for KernelMap<K, V> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn capacity(&self) -> u32 {
        self.info.max_entries
    }

    fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        self.read(key).map_err(self.error(MapOperation::Get))
    }

    fn update(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        self.write(key, value).map_err(self.error(MapOperation::Update))
    }

    fn delete(&mut self, key: &K) -> Result<(), MapError> {
        if self.info.kind == map_type::ARRAY {
            // SAFETY: any bytes are a V because V is Pod.
            let zero = unsafe { std::mem::zeroed() };
            return self.write(key, &zero).map_err(self.error(MapOperation::Delete));
        }
        self.remove(key).map_err(self.error(MapOperation::Delete))
    }

    fn dump(&self, visit: &mut dyn FnMut(K, V)) -> Result<(), MapError> {
        match self.dump_batches(visit) {
            // These come before anything was visited.
            Err(error) if matches!(error.raw_os_error(), Some(bpf::ENOTSUPP | libc::EINVAL)) => self.dump_singly(visit),
            result => result,
        }
        .map_err(self.error(MapOperation::Dump))
    }
}

fn bytes<T: Pod>(value: &T) -> *const u8 {
    std::ptr::from_ref(value).cast()
}
