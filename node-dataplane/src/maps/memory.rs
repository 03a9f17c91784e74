//! A map in memory, for tests. Behaves as the kernel's: bounded, arrays always full.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::reconcile::ops::{MapError, MapKey, MapOps, MapValue};

/// A map in memory. Clones share the entries, so that a test can look at what the tested one has.
#[derive(Clone, Debug)]
pub struct MemoryMap<K, V> {
    name: &'static str,
    capacity: u32,
    /// Value of an entry that was never written; arrays only.
    empty: Option<V>,
    entries: Arc<Mutex<HashMap<K, V>>>,
}

impl<K: MapKey, V: MapValue> MemoryMap<K, V> {
    /// An empty hash or trie.
    #[must_use]
    pub fn hash(name: &'static str, capacity: u32) -> Self {
        Self { name, capacity, empty: None, entries: Arc::default() }
    }

    /// An array of zeros with these keys.
    #[must_use]
    pub fn array(name: &'static str, keys: impl IntoIterator<Item = K>) -> Self
    where
        V: Default,
    {
        let entries: HashMap<K, V> = keys.into_iter().map(|key| (key, V::default())).collect();
        let capacity = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        Self { name, capacity, empty: Some(V::default()), entries: Arc::new(Mutex::new(entries)) }
    }

    /// What it holds.
    #[must_use]
    pub fn entries(&self) -> HashMap<K, V> {
        self.lock().clone()
    }

    /// Forgets all entries of a hash, as when the map was made anew.
    pub fn delete_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, V>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: MapKey, V: MapValue> MapOps<K, V> for MemoryMap<K, V> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        Ok(self.lock().get(key).copied())
    }

    fn update(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        let mut entries = self.lock();
        if !entries.contains_key(key) && entries.len() >= self.capacity as usize {
            return Err(MapError::Capacity { map: self.name, capacity: self.capacity });
        }
        entries.insert(*key, *value);
        Ok(())
    }

    fn delete(&mut self, key: &K) -> Result<(), MapError> {
        let mut entries = self.lock();
        match self.empty {
            Some(empty) => entries.get_mut(key).into_iter().for_each(|value| *value = empty),
            None => drop(entries.remove(key)),
        }
        Ok(())
    }

    fn dump(&self, visit: &mut dyn FnMut(K, V)) -> Result<(), MapError> {
        // Not under the lock: the visitor may write.
        self.entries().into_iter().for_each(|(key, value)| visit(key, value));
        Ok(())
    }
}
