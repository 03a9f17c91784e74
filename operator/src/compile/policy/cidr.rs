//! CIDR classes: prefixes in which the same rules apply.

use std::collections::{BTreeMap, BTreeSet};

use axoneme_proto::tables::{CidrClass, PortRule, Prefix, TierVerdict};
use ipnet::IpNet;

use super::ports::{PortKey, flatten, same_rules};

/// One `ipBlock` with the rules that it opens.
#[derive(Debug)]
pub struct Block<'a> {
    /// In here,
    pub cidr: IpNet,
    /// but in none of these.
    pub except: &'a [IpNet],
    /// may be done this.
    pub rules: Vec<(PortKey, TierVerdict)>,
}

impl Block<'_> {
    fn contains(&self, net: &IpNet) -> bool {
        self.cidr.contains(net) && !self.except.iter().any(|except| except.contains(net))
    }
}

/// The classes of `blocks`, sorted by their first prefix. Every prefix stands with all rules that hold for it, those of wider
/// prefixes too; it is left out where the next wider prefix says the same.
pub fn classes(blocks: &[Block<'_>]) -> Vec<CidrClass> {
    let prefixes: BTreeSet<IpNet> =
        blocks.iter().flat_map(|block| std::iter::once(block.cidr).chain(block.except.iter().copied())).collect();
    // The sets of blocks repeat much more often than their rules differ.
    let mut flat: BTreeMap<Vec<usize>, Vec<PortRule>> = BTreeMap::new();
    let mut kept: Vec<(IpNet, Vec<PortRule>)> = Vec::new();
    // Prefixes around the current one, widest first. `IpNet` sorts by address, then length, so a prefix follows all that
    // contain it.
    let mut around: Vec<(IpNet, usize)> = Vec::new();
    let none = Vec::new();
    for prefix in prefixes {
        while around.last().is_some_and(|(net, _)| !net.contains(&prefix)) {
            around.pop();
        }
        let holding: Vec<usize> =
            blocks.iter().enumerate().filter(|(_, block)| block.contains(&prefix)).map(|(i, _)| i).collect();
        let rules = flat.entry(holding).or_insert_with_key(|holding| {
            let rules: Vec<_> = holding.iter().filter_map(|i| blocks.get(*i)).flat_map(|b| b.rules.clone()).collect();
            flatten(&rules)
        });
        let wider = around.last().and_then(|(_, at)| kept.get(*at)).map_or(&none, |(_, rules)| rules);
        if !same_rules(wider, rules) {
            around.push((prefix, kept.len()));
            kept.push((prefix, rules.clone()));
        }
    }
    group(kept)
}

fn group(prefixes: Vec<(IpNet, Vec<PortRule>)>) -> Vec<CidrClass> {
    let mut classes: Vec<CidrClass> = Vec::new();
    for (prefix, rules) in prefixes {
        let prefix = Prefix::new(prefix.network(), prefix.prefix_len());
        match classes.iter_mut().find(|class| class.if_pod == rules) {
            Some(class) => class.prefixes.push(prefix),
            // An ipBlock means addresses, whoever has them.
            None => classes.push(CidrClass {
                prefixes: vec![prefix],
                if_pod: rules.clone(),
                if_node: rules.clone(),
                if_world: rules,
            }),
        }
    }
    classes
}
