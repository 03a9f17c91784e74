//! CIDR classes: prefixes in which the same rules apply.

use std::collections::{BTreeMap, BTreeSet};

use axoneme_proto::tables::{CidrClass, PortRule, Prefix, TierVerdict};
use ipnet::IpNet;

use super::parsed::Owners;
use super::ports::{PortKey, flatten, same_rules};

/// One block of addresses with the rules for it.
#[derive(Debug)]
pub struct Block<'a> {
    /// In here,
    pub cidr: IpNet,
    /// but in none of these.
    pub except: &'a [IpNet],
    /// and of these,
    pub of: Owners,
    /// this is said.
    pub rules: Vec<(PortKey, TierVerdict)>,
}

impl Block<'_> {
    fn contains(&self, net: &IpNet) -> bool {
        self.cidr.contains(net) && !self.except.iter().any(|except| except.contains(net))
    }
}

/// Rules for an address, by whose it is.
#[derive(Clone, Debug, Default)]
struct Columns {
    pod: Vec<PortRule>,
    node: Vec<PortRule>,
    world: Vec<PortRule>,
}

impl Columns {
    fn of(blocks: &[&Block<'_>]) -> Self {
        let rules = |meant: fn(&Block<'_>) -> bool| {
            let rules = blocks.iter().filter(|block| meant(block)).flat_map(|block| block.rules.iter().copied());
            flatten(&rules.collect::<Vec<_>>())
        };
        Self {
            pod: rules(|block| block.of == Owners::All),
            node: rules(|block| block.of != Owners::World),
            world: rules(|block| block.of != Owners::Nodes),
        }
    }

    fn says_the_same(&self, other: &Self) -> bool {
        same_rules(&self.pod, &other.pod)
            && same_rules(&self.node, &other.node)
            && same_rules(&self.world, &other.world)
    }
}

/// The classes of `blocks`, sorted by their first prefix. Every prefix stands with all rules that hold for it, those of wider
/// prefixes too; it is left out where the next wider prefix says the same.
pub fn classes(blocks: &[Block<'_>]) -> Vec<CidrClass> {
    let prefixes: BTreeSet<IpNet> =
        blocks.iter().flat_map(|block| std::iter::once(block.cidr).chain(block.except.iter().copied())).collect();
    // The sets of blocks repeat much more often than their rules differ.
    let mut columns: BTreeMap<Vec<usize>, Columns> = BTreeMap::new();
    let mut kept: Vec<(IpNet, Columns)> = Vec::new();
    // Prefixes around the current one, widest first. `IpNet` sorts by address, then length, so a prefix follows all that
    // contain it.
    let mut around: Vec<(IpNet, usize)> = Vec::new();
    let none = Columns::default();
    for prefix in prefixes {
        while around.last().is_some_and(|(net, _)| !net.contains(&prefix)) {
            around.pop();
        }
        let holding: Vec<usize> =
            blocks.iter().enumerate().filter(|(_, block)| block.contains(&prefix)).map(|(i, _)| i).collect();
        let own = columns.entry(holding).or_insert_with_key(|holding| {
            Columns::of(&holding.iter().filter_map(|i| blocks.get(*i)).collect::<Vec<_>>())
        });
        let wider = around.last().and_then(|(_, at)| kept.get(*at)).map_or(&none, |(_, columns)| columns);
        if !wider.says_the_same(own) {
            around.push((prefix, kept.len()));
            kept.push((prefix, own.clone()));
        }
    }
    group(kept)
}

fn group(prefixes: Vec<(IpNet, Columns)>) -> Vec<CidrClass> {
    let mut classes: Vec<CidrClass> = Vec::new();
    for (prefix, Columns { pod, node, world }) in prefixes {
        let prefix = Prefix::new(prefix.network(), prefix.prefix_len());
        let same = |class: &&mut CidrClass| class.if_pod == pod && class.if_node == node && class.if_world == world;
        match classes.iter_mut().find(same) {
            Some(class) => class.prefixes.push(prefix),
            None => classes.push(CidrClass { prefixes: vec![prefix], if_pod: pod, if_node: node, if_world: world }),
        }
    }
    classes
}
