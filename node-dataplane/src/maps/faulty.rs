//! A map whose operations fail now and then, for tests: the end state must be the same as without.

use std::cell::Cell;
use std::io;

use crate::reconcile::ops::{MapError, MapKey, MapOperation, MapOps, MapValue};

/// Fails a part of the operations of the map inside, before they do anything; dumps fail in the middle.
#[derive(Debug)]
pub struct Faulty<M> {
    inner: M,
    percent: u64,
    state: Cell<u64>,
}

impl<M> Faulty<M> {
    /// Ten of a hundred operations fail, which ones depends on `seed`.
    pub fn new(inner: M, seed: u64) -> Self {
        Self::with_rate(inner, seed, 10)
    }

    /// `percent` of a hundred operations fail.
    pub fn with_rate(inner: M, seed: u64, percent: u64) -> Self {
        Self { inner, percent, state: Cell::new(seed) }
    }

    /// The map inside.
    pub fn inner(&self) -> &M {
        &self.inner
    }

    fn fails(&self) -> bool {
        // SplitMix64: every seed, also 0, gives a good sequence.
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % 100 < self.percent
    }

    fn fault(map: &'static str, operation: MapOperation) -> MapError {
        MapError::Kernel { map, operation, source: io::Error::from_raw_os_error(libc::EBUSY) }
    }
}

impl<K: MapKey, V: MapValue, M: MapOps<K, V>> MapOps<K, V> for Faulty<M> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capacity(&self) -> u32 {
        self.inner.capacity()
    }

    fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        if self.fails() { Err(Self::fault(self.name(), MapOperation::Get)) } else { self.inner.get(key) }
    }

    fn update(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        if self.fails() { Err(Self::fault(self.name(), MapOperation::Update)) } else { self.inner.update(key, value) }
    }

    fn delete(&mut self, key: &K) -> Result<(), MapError> {
        if self.fails() { Err(Self::fault(self.name(), MapOperation::Delete)) } else { self.inner.delete(key) }
    }

    fn dump(&self, visit: &mut dyn FnMut(K, V)) -> Result<(), MapError> {
        if !self.fails() {
            return self.inner.dump(visit);
        }
        let mut shown = 0;
        self.inner.dump(&mut |key, value| {
            shown += 1;
            if shown % 2 == 0 {
                visit(key, value);
            }
        })?;
        Err(Self::fault(self.name(), MapOperation::Dump))
    }
}
