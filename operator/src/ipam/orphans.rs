//! When ledgers of Nodes that are gone are deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::object::CiliumNode;

/// Ledgers that may be deleted, and since when. They stay for a while: a node that comes back under its name finds its CIDRs.
#[derive(Debug)]
pub struct Orphans {
    stay: Duration,
    since: BTreeMap<Arc<str>, Instant>,
}

impl Orphans {
    /// Such that ledgers stay for so long; 0: for ever.
    #[must_use]
    pub fn new(stay: Duration) -> Self {
        Self { stay, since: BTreeMap::new() }
    }

    /// Those of `all` that have stayed, and when the next of the others will have.
    pub fn due<'a>(&mut self, all: &'a [Arc<CiliumNode>], now: Instant) -> (Vec<&'a Arc<CiliumNode>>, Option<Instant>) {
        if self.stay.is_zero() {
            return (Vec::new(), None);
        }
        let mut since = BTreeMap::new();
        for ledger in all {
            let first = self.since.get(&ledger.name).copied().unwrap_or(now);
            since.insert(Arc::clone(&ledger.name), first);
        }
        self.since = since;
        let end = |ledger: &Arc<CiliumNode>| self.since[&ledger.name] + self.stay;
        let (due, waiting): (Vec<_>, Vec<_>) = all.iter().partition(|ledger| end(ledger) <= now);
        (due, waiting.into_iter().map(end).min())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledgers(names: &[&str]) -> Vec<Arc<CiliumNode>> {
        names.iter().map(|name| Arc::new(CiliumNode { name: (*name).into(), ..CiliumNode::default() })).collect()
    }

    #[test]
    fn a_ledger_is_deleted_when_it_has_had_no_node_for_the_whole_time() {
        let (start, stay) = (Instant::now(), Duration::from_secs(300));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut orphans = Orphans::new(stay);
        let names =
            |due: Vec<&Arc<CiliumNode>>| due.into_iter().map(|ledger| ledger.name.to_string()).collect::<Vec<_>>();
        let mut due = |all: &[&str], now| {
            let all = ledgers(all);
            let (due, next) = orphans.due(&all, now);
            (names(due), next)
        };
        assert_eq!(due(&["a"], start), (vec![], Some(at(300))));
        assert_eq!(due(&["a", "b"], at(100)), (vec![], Some(at(300))));
        // The Node of b is there for a moment: its time begins anew.
        assert_eq!(due(&["a"], at(200)), (vec![], Some(at(300))));
        assert_eq!(due(&["a", "b"], at(300)), (vec!["a".to_owned()], Some(at(600))));
        assert_eq!(due(&["b"], at(600)), (vec!["b".to_owned()], None));
    }

    #[test]
    fn with_no_time_none_is_deleted() {
        let all = ledgers(&["a"]);
        assert_eq!(Orphans::new(Duration::ZERO).due(&all, Instant::now()), (vec![], None));
    }
}
