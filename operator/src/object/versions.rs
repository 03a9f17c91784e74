//! How new what is known of each kind is.

use axoneme_proto::nodesync::InputVersion;

use super::Kind;

/// A resourceVersion for each kind; 0 where none is known. An API server compares them within a kind only, and so does this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versions([u64; Kind::ALL.len()]);

impl Versions {
    /// As a node tells them. Kinds that this build does not watch mean nothing to it.
    #[must_use]
    pub fn from_inputs(inputs: &[InputVersion]) -> Self {
        let mut versions = Self::default();
        for input in inputs {
            let kind = Kind::ALL.into_iter().find(|kind| kind.reference().0 == input.kind);
            kind.into_iter().for_each(|kind| versions.raise(kind, input.version));
        }
        versions
    }

    /// Those that are others in `before`, for nodes.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<InputVersion> {
        let other = Kind::ALL.into_iter().filter(|kind| self.of(*kind) != before.of(*kind));
        other.map(|kind| InputVersion { kind: kind.to_string(), version: self.of(kind) }).collect()
    }

    /// That of one kind.
    #[must_use]
    pub const fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// Something of this kind is this new.
    pub fn raise(&mut self, kind: Kind, version: u64) {
        let known = &mut self.0[kind as usize];
        *known = version.max(*known);
    }

    /// The newer of both, kind by kind.
    #[must_use]
    pub fn max(mut self, other: &Self) -> Self {
        Kind::ALL.into_iter().for_each(|kind| self.raise(kind, other.of(kind)));
        self
    }

    /// Kinds of which `other` knows something newer.
    pub fn behind<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Kind> + 'a {
        Kind::ALL.into_iter().filter(|kind| self.of(*kind) < other.of(*kind))
    }

    /// Whether nothing of `other` is newer.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.behind(other).next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_compared_one_by_one() {
        let (mut one, mut other) = (Versions::default(), Versions::default());
        one.raise(Kind::Pod, 7);
        one.raise(Kind::Pod, 5);
        other.raise(Kind::Node, 9);
        assert!(one.covers(&Versions::default()) && !one.covers(&other) && !other.covers(&one));
        assert_eq!(one.behind(&other).collect::<Vec<_>>(), [Kind::Node]);
        let both = one.max(&other);
        assert!(both.covers(&one) && both.covers(&other));
        assert_eq!((both.of(Kind::Pod), both.of(Kind::Node)), (7, 9));
    }

    #[test]
    fn nodes_are_told_what_differs_and_say_what_they_were_told() {
        let mut versions = Versions::default();
        versions.raise(Kind::CiliumNode, 3);
        let before = versions;
        versions.raise(Kind::Pod, 7);
        let told = versions.since(&before);
        assert_eq!(told, [InputVersion { kind: "Pod".into(), version: 7 }]);
        assert_eq!(Versions::from_inputs(&versions.since(&Versions::default())), versions);
        let unknown = InputVersion { kind: "CiliumSomething".into(), version: 1 };
        assert_eq!(Versions::from_inputs(&[unknown]), Versions::default());
    }
}
