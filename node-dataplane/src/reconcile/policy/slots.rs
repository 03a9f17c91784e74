//! What stands under a slot.

use std::collections::BTreeMap;
use std::time::Duration;

use axoneme_bpf::policy::{PolicyClass, PolicyClassKey, PolicyRuleKey, Verdicts};
use tokio::time::Instant;

use super::PolicyMaps;
use super::translate::{class_fingerprint, rule_fingerprint};
use crate::reconcile::ops::MapError;

const RETRY: Duration = Duration::from_secs(1);

/// Keys of a slot's rows, and a fingerprint of keys and values.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) fingerprint: u64,
    rules: Vec<PolicyRuleKey>,
    classes: Vec<PolicyClassKey>,
}

impl Contents {
    pub(super) fn rule(&mut self, key: PolicyRuleKey, value: &Verdicts) {
        self.fingerprint ^= rule_fingerprint(&key, value);
        self.rules.push(key);
    }

    pub(super) fn class(&mut self, key: PolicyClassKey, value: &PolicyClass) {
        self.fingerprint ^= class_fingerprint(&key, value);
        self.classes.push(key);
    }

    /// Rules, classes, and the fingerprint of both.
    pub(super) fn size(&self) -> (usize, usize, u64) {
        (self.rules.len(), self.classes.len(), self.fingerprint)
    }

    pub(super) fn has_classes(&self) -> bool {
        !self.classes.is_empty()
    }
}

/// Everything in both maps, by slot.
pub(super) fn dump_slots(maps: &PolicyMaps) -> Result<BTreeMap<u32, Contents>, MapError> {
    let mut slots: BTreeMap<u32, Contents> = BTreeMap::new();
    maps.rules.dump(&mut |key, value| slots.entry(key.slot).or_default().rule(key, &value))?;
    maps.classes.dump(&mut |key, value| slots.entry(key.slot).or_default().class(key, &value))?;
    Ok(slots)
}

/// Rows that nothing refers to.
#[derive(Debug)]
pub(super) struct Garbage {
    contents: Contents,
    due: Instant,
}

impl Garbage {
    pub(super) fn new(contents: Contents, due: Instant) -> Self {
        Self { contents, due }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn slot(&self) -> Option<u32> {
        let rule = self.contents.rules.first().map(|key| key.slot);
        rule.or_else(|| self.contents.classes.first().map(|key| key.slot))
    }

    /// Whether all is gone.
    pub(super) fn collect(&mut self, maps: &mut PolicyMaps, now: Instant) -> bool {
        if now < self.due {
            return false;
        }
        // Rules first: without them a class says nothing.
        self.contents.rules.retain(|key| maps.rules.delete(key).is_err());
        if self.contents.rules.is_empty() {
            self.contents.classes.retain(|key| maps.classes.delete(key).is_err());
        }
        self.due = now + RETRY;
        self.contents.rules.is_empty() && self.contents.classes.is_empty()
    }
}
