//! How full a map is.

use crate::reconcile::ops::{MapError, MapKey, MapOps, MapValue};

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// Entries it has.
    pub entries: u32,
    /// Entries that fit.
    pub capacity: u32,
}

impl Pressure {
    /// Counts the entries by reading them all.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn of<K: MapKey, V: MapValue>(map: &dyn MapOps<K, V>) -> Result<Self, MapError> {
        let mut entries = 0_u32;
        map.dump(&mut |_, _| entries += 1)?;
        Ok(Self { entries, capacity: map.capacity() })
    }

    /// 0: empty; 1: full.
    #[must_use]
    pub fn ratio(self) -> f64 {
        if self.capacity == 0 { 1.0 } else { f64::from(self.entries) / f64::from(self.capacity) }
    }
}
