//! What the kernel's numbers of policies and rules mean.
//!
//! The kernel blames a cookie, a hash of a rule's name. Names are kept here while some row has them, and for a while after it: what
//! was decided by a row that has just gone is read a moment later.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use axoneme_proto::tables::{self, TierVerdict};
use xxhash_rust::xxh3::xxh3_64;

use crate::desired::rows::InvalidRow;

/// How many names that no row has any more are kept.
const FORMER: usize = 1024;

/// A rule of a policy, or a policy as a whole, which isolates pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Like `networkpolicy:shop/db`.
    pub policy: Box<str>,
    /// Path of the rule's field, like `spec.ingress[0]`; empty: the policy as a whole.
    pub rule: Box<str>,
    /// What the policy wants to be said with its verdicts; empty: nothing.
    pub log: Box<str>,
}

impl Origin {
    fn cookie(&self) -> u32 {
        // 0 means none.
        (xxh3_64(format!("{} {}", self.policy, self.rule).as_bytes()) as u32).max(1)
    }
}

/// The cookies of a row's policies and rules, by their places in it.
#[derive(Debug)]
pub struct Cookies {
    policies: Vec<u32>,
    rules: Vec<u32>,
}

impl Cookies {
    /// Of `row`.
    ///
    /// # Errors
    /// When a rule has no policy.
    pub fn of(row: &tables::Policy) -> Result<Self, InvalidRow> {
        let (policies, rules) = origins(row)?;
        let cookies = |origins: Vec<Origin>| origins.iter().map(Origin::cookie).collect();
        Ok(Self { policies: cookies(policies), rules: cookies(rules) })
    }

    /// That of the policy which isolates a direction; 0: none does.
    ///
    /// # Errors
    /// When the row has no such policy.
    pub fn isolating(&self, isolated_by: u32) -> Result<u32, InvalidRow> {
        if isolated_by == 0 { Ok(0) } else { at(&self.policies, isolated_by - 1, "policy index") }
    }

    /// That of the rule behind a verdict; of its policy, where an operator of the version before does not tell the rule.
    ///
    /// # Errors
    /// When the row has no such rule.
    pub fn deciding(&self, verdict: &TierVerdict) -> Result<u32, InvalidRow> {
        match verdict.rule {
            0 => at(&self.policies, verdict.policy, "policy index"),
            number => at(&self.rules, number - 1, "rule index"),
        }
    }
}

fn at<T: Clone>(list: &[T], index: u32, field: &'static str) -> Result<T, InvalidRow> {
    let found = usize::try_from(index).ok().and_then(|index| list.get(index));
    found.cloned().ok_or(InvalidRow::Range { field, value: index })
}

/// The policies of a row, and their rules.
fn origins(row: &tables::Policy) -> Result<(Vec<Origin>, Vec<Origin>), InvalidRow> {
    let log = |index| row.logs.iter().find(|log| log.policy == index).map(|log| log.text.as_str().into());
    let policy = |(index, name): (u32, &String)| Origin {
        policy: name.as_str().into(),
        rule: Box::default(),
        log: log(index).unwrap_or_default(),
    };
    let policies: Vec<Origin> = (0..).zip(&row.policies).map(policy).collect();
    let rule = |rule: &tables::PolicyRule| {
        at(&policies, rule.policy, "policy index").map(|policy| Origin { rule: rule.field.as_str().into(), ..policy })
    };
    let rules = row.rules.iter().map(rule).collect::<Result<_, _>>()?;
    Ok((policies, rules))
}

/// What cookies mean. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Names {
    shared: Arc<RwLock<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    origins: HashMap<u32, Arc<Origin>>,
    /// Those of each subject's row.
    subjects: BTreeMap<u32, Box<[u32]>>,
    /// After the last time that those which no row has were forgotten.
    removed: usize,
}

impl Names {
    /// What a cookie means; none: nobody has said, or it is long gone.
    #[must_use]
    pub fn get(&self, cookie: u32) -> Option<Arc<Origin>> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner).origins.get(&cookie).map(Arc::clone)
    }

    /// A subject has this row, or none any more.
    pub fn set(&self, subject: u32, row: Option<&tables::Policy>) {
        let (policies, rules) = row.and_then(|row| origins(row).ok()).unwrap_or_default();
        let mut known = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        let mut cookies = Vec::with_capacity(policies.len() + rules.len());
        for origin in policies.into_iter().chain(rules) {
            let cookie = origin.cookie();
            cookies.push(cookie);
            match known.origins.get(&cookie) {
                Some(same) if **same == origin => {}
                _ => _ = known.origins.insert(cookie, Arc::new(origin)),
            }
        }
        let before = match row {
            Some(_) => known.subjects.insert(subject, cookies.into()),
            None => known.subjects.remove(&subject),
        };
        known.removed += before.map_or(0, |before| before.len());
        if known.removed > FORMER {
            known.forget();
        }
    }
}

impl Known {
    fn forget(&mut self) {
        let Self { origins, subjects, removed } = self;
        let used: std::collections::HashSet<u32> = subjects.values().flatten().copied().collect();
        origins.retain(|cookie, _| used.contains(cookie));
        *removed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(policies: &[&str], rules: &[(u32, &str)]) -> tables::Policy {
        let rule = |(policy, field): &(u32, &str)| tables::PolicyRule { policy: *policy, field: (*field).to_owned() };
        tables::Policy {
            policies: policies.iter().map(|name| (*name).to_owned()).collect(),
            rules: rules.iter().map(rule).collect(),
            logs: vec![tables::PolicyLog { policy: 0, text: "team a".into() }],
            ..tables::Policy::default()
        }
    }

    fn verdict(policy: u32, rule: u32) -> TierVerdict {
        TierVerdict { policy, rule, ..TierVerdict::default() }
    }

    #[test]
    fn a_cookie_means_its_rule_and_that_of_an_older_operator_its_policy() {
        let row = row(&["networkpolicy:shop/db", "networkpolicy:shop/web"], &[(1, "spec.ingress[0]")]);
        let (cookies, names) = (Cookies::of(&row).unwrap(), Names::default());
        names.set(300, Some(&row));
        let meant = |cookie: u32| names.get(cookie).map(|origin| Origin::clone(&origin)).unwrap();
        let web = Origin { policy: "networkpolicy:shop/web".into(), ..Origin::default() };
        assert_eq!(
            meant(cookies.deciding(&verdict(1, 1)).unwrap()),
            Origin { rule: "spec.ingress[0]".into(), ..web.clone() }
        );
        assert_eq!(meant(cookies.deciding(&verdict(1, 0)).unwrap()), web);
        assert_eq!(&*meant(cookies.isolating(1).unwrap()).log, "team a");
        assert_eq!(cookies.isolating(0).unwrap(), 0);
        assert!(cookies.deciding(&verdict(0, 2)).is_err() && cookies.isolating(3).is_err());
    }

    #[test]
    fn a_rule_of_no_policy_makes_no_sense() {
        assert!(Cookies::of(&row(&["networkpolicy:shop/db"], &[(1, "spec.ingress[0]")])).is_err());
    }

    #[test]
    fn names_that_no_row_has_are_forgotten_after_a_while() {
        let names = Names::default();
        let one = |n: usize| row(&[&format!("networkpolicy:shop/p{n}")], &[]);
        let cookie = |n: usize| Cookies::of(&one(n)).unwrap().isolating(1).unwrap();
        names.set(300, Some(&one(0)));
        names.set(301, Some(&one(1)));
        names.set(300, None);
        assert!(names.get(cookie(0)).is_some(), "somebody may still ask");
        (2..FORMER + 3).for_each(|n| names.set(302, Some(&one(n))));
        assert!(names.get(cookie(0)).is_none() && names.get(cookie(1)).is_some());
    }
}
