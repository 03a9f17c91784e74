//! Label selectors: the one implementation for everything that selects.

use axoneme_crds::meta::LabelSelector;

use super::Labels;

/// A Kubernetes label selector. Empty, it matches everything; "no selector" is `Option::None` where the API tells them apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    /// All must hold. `matchLabels` are requirements of one value.
    pub requirements: Box<[Requirement]>,
}

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Requirement {
    /// The label's key.
    pub key: Box<str>,
    /// How it compares.
    pub operator: Operator,
    /// With what; for `In` and `NotIn`.
    pub values: Box<[Box<str>]>,
}

/// How a requirement compares.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operator {
    /// The label is there with one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// Not an operator; as written. Matches nothing.
    Unknown(Box<str>),
}

impl Operator {
    /// The operator that Kubernetes writes so.
    #[must_use]
    pub fn from_kubernetes(text: &str) -> Self {
        match text {
            "In" => Self::In,
            "NotIn" => Self::NotIn,
            "Exists" => Self::Exists,
            "DoesNotExist" => Self::DoesNotExist,
            other => Self::Unknown(other.into()),
        }
    }
}

impl Selector {
    /// A selector from `matchLabels` and requirements of `matchExpressions`.
    pub fn new<K: Into<Box<str>>, V: Into<Box<str>>>(
        labels: impl IntoIterator<Item = (K, V)>,
        expressions: impl IntoIterator<Item = Requirement>,
    ) -> Self {
        let labels = labels.into_iter().map(|(key, value)| Requirement {
            key: key.into(),
            operator: Operator::In,
            values: [value.into()].into(),
        });
        Self { requirements: labels.chain(expressions).collect() }
    }

    /// Whether it matches everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether it matches labels of which `get` gives the value.
    pub fn matches_by<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(get(&requirement.key)))
    }

    /// Whether it matches `labels`.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_by(|key| labels.get(key))
    }
}

impl From<LabelSelector> for Selector {
    fn from(written: LabelSelector) -> Self {
        let expressions = written.match_expressions.unwrap_or_default().into_iter().map(|expression| Requirement {
            key: expression.key.into(),
            operator: Operator::from_kubernetes(&expression.operator),
            values: expression.values.unwrap_or_default().into_iter().map(Into::into).collect(),
        });
        Self::new(written.match_labels.unwrap_or_default(), expressions)
    }
}

impl Requirement {
    /// Whether it holds for a label of this value, or for an absent one.
    #[must_use]
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|have| **have == *value);
        match self.operator {
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Unknown(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators() {
        let labels: Labels = [("app", "web"), ("empty", "")].into_iter().collect();
        let check = |key: &str, operator: &str, values: &[&str]| {
            let values = values.iter().map(|v| Box::from(*v)).collect();
            Requirement { key: key.into(), operator: Operator::from_kubernetes(operator), values }
                .matches(labels.get(key))
        };
        assert!(check("app", "In", &["db", "web"]));
        assert!(!check("app", "In", &["db"]));
        assert!(!check("gone", "In", &[""]));
        assert!(check("gone", "NotIn", &["web"]));
        assert!(!check("app", "NotIn", &["web"]));
        assert!(check("empty", "Exists", &[]));
        assert!(!check("empty", "DoesNotExist", &[]));
        assert!(check("gone", "DoesNotExist", &[]));
        assert!(!check("app", "Gt", &["1"]));
    }

    #[test]
    fn empty_matches_everything_and_all_requirements_must_hold() {
        let labels: Labels = [("app", "web")].into_iter().collect();
        assert!(Selector::default().matches(&labels));
        let no_tier = Requirement { key: "tier".into(), operator: Operator::Exists, values: [].into() };
        assert!(!Selector::new([("app", "web")], [no_tier]).matches(&labels));
    }
}
