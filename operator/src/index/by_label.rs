//! Label sets by the labels that they have.

use std::collections::{BTreeSet, HashMap};

use super::identities::SetId;
use crate::object::{Labels, Operator, Requirement, Selector};

/// Which label sets have which label: a new selector is compared with those that have one of the labels it asks for, and not with
/// all that there are.
#[derive(Debug, Default)]
pub struct ByLabel {
    /// By key, then by value.
    sets: HashMap<Box<str>, HashMap<Box<str>, BTreeSet<SetId>>>,
}

impl ByLabel {
    /// A set has these labels.
    pub fn add(&mut self, id: SetId, labels: &Labels) {
        for (key, value) in labels.iter() {
            self.sets.entry(key.into()).or_default().entry(value.into()).or_default().insert(id);
        }
    }

    /// The set with these labels is gone.
    pub fn remove(&mut self, id: SetId, labels: &Labels) {
        for (key, value) in labels.iter() {
            let Some(values) = self.sets.get_mut(key) else { continue };
            let Some(sets) = values.get_mut(value) else { continue };
            sets.remove(&id);
            if sets.is_empty() {
                values.remove(value);
            }
            if values.is_empty() {
                self.sets.remove(key);
            }
        }
    }

    /// The only sets that `selector` can match: those that have what the rarest of its labels may be. `None` where it asks for no
    /// label by value, and any set can.
    pub fn candidates(&self, selector: &Selector) -> Option<impl Iterator<Item = SetId>> {
        let by_value = selector.requirements.iter().filter(|requirement| requirement.operator == Operator::In);
        let rarest = by_value.min_by_key(|requirement| self.with(requirement).map(BTreeSet::len).sum::<usize>())?;
        Some(self.with(rarest).flatten().copied())
    }

    /// The sets with each value that is asked for.
    fn with(&self, requirement: &Requirement) -> impl Iterator<Item = &BTreeSet<SetId>> {
        let values = self.sets.get(&requirement.key);
        requirement.values.iter().filter_map(move |value| values?.get(value))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::super::identities::LabelSets;
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    fn requirement(key: &str, operator: Operator, values: &[&str]) -> Requirement {
        Requirement { key: key.into(), operator, values: values.iter().map(|value| Box::from(*value)).collect() }
    }

    fn selector(requirements: impl IntoIterator<Item = Requirement>) -> Selector {
        Selector { requirements: requirements.into_iter().collect() }
    }

    fn candidates(sets: &ByLabel, selector: &Selector) -> Option<Vec<SetId>> {
        sets.candidates(selector).map(Iterator::collect)
    }

    #[test]
    fn the_rarest_label_that_is_asked_for_says_which_sets_to_look_at() {
        let mut sets = ByLabel::default();
        sets.add(1, &labels(&[("app", "web"), ("tier", "front")]));
        sets.add(2, &labels(&[("app", "api"), ("tier", "back")]));
        sets.add(3, &labels(&[("app", "db"), ("tier", "back")]));
        let back = requirement("tier", Operator::In, &["back"]);
        let db = requirement("app", Operator::In, &["db"]);
        let not_db = requirement("app", Operator::NotIn, &["db"]);
        assert_eq!(candidates(&sets, &selector([back.clone()])), Some(vec![2, 3]));
        assert_eq!(candidates(&sets, &selector([back.clone(), db.clone()])), Some(vec![3]));
        assert_eq!(candidates(&sets, &selector([db, back.clone()])), Some(vec![3]));
        assert_eq!(candidates(&sets, &selector([back.clone(), not_db.clone()])), Some(vec![2, 3]));
        let either = requirement("app", Operator::In, &["web", "db", "gone"]);
        assert_eq!(candidates(&sets, &selector([either])), Some(vec![1, 3]));
        assert_eq!(candidates(&sets, &selector([back, requirement("gone", Operator::In, &["x"])])), Some(vec![]));
        let there = requirement("app", Operator::Exists, &[]);
        assert_eq!(candidates(&sets, &selector([there, not_db])), None);
        assert_eq!(candidates(&sets, &Selector::default()), None);
    }

    #[test]
    fn nothing_is_left_of_sets_that_are_gone() {
        let mut sets = ByLabel::default();
        let (web, api) = (labels(&[("app", "web"), ("tier", "front")]), labels(&[("app", "api"), ("tier", "front")]));
        sets.add(1, &web);
        sets.add(2, &api);
        sets.remove(1, &web);
        let front = selector([requirement("tier", Operator::In, &["front"])]);
        assert_eq!(candidates(&sets, &front), Some(vec![2]));
        sets.remove(2, &api);
        assert!(sets.sets.is_empty(), "{sets:?}");
    }

    const KEYS: [&str; 3] = ["app", "tier", "zone"];
    const VALUES: [&str; 3] = ["a", "b", "c"];

    fn any_labels() -> impl Strategy<Value = Labels> {
        vec((select(&KEYS), select(&VALUES)), 0..4).prop_map(|pairs| labels(&pairs))
    }

    fn any_requirement() -> impl Strategy<Value = Requirement> {
        let operators = ["In", "In", "In", "NotIn", "Exists", "DoesNotExist", "Gt"].map(Operator::from_kubernetes);
        let parts = (select(&KEYS), select(operators.to_vec()), vec(select(&VALUES), 0..3));
        parts.prop_map(|(key, operator, values)| requirement(key, operator, &values))
    }

    proptest! {
        #[test]
        fn a_selector_matches_what_it_would_if_it_were_compared_with_all(
            all in vec(any_labels(), 0..20),
            gone in vec(any::<Index>(), 0..5),
            requirements in vec(any_requirement(), 0..4),
        ) {
            let mut sets = LabelSets::default();
            let ids: Vec<SetId> = all.into_iter().map(|labels| sets.intern(&Arc::new(labels)).0).collect();
            for gone in gone.iter().filter(|_| !ids.is_empty()) {
                sets.forget_if_unused(*gone.get(&ids));
            }
            let selector = selector(requirements);
            let plain: BTreeSet<SetId> =
                sets.iter().filter(|(_, set)| selector.matches(&set.labels)).map(|(id, _)| id).collect();
            prop_assert_eq!(sets.matching(&selector), plain);
        }
    }
}
