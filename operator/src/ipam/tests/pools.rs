//! Mode multi-pool: whatever pools and pods come and go, no address is given twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{V4, node};
use crate::compile::pool::parts;
use crate::config::{ClusterPool, IpamMode};
use crate::engine::{AddressDemand, Families, MultiPool, NodeDemand, PreAllocation, Release};
use crate::index::{Config, Index};
use crate::ipam::{Cidrs, Plan, Rotation, empty, plan};
use crate::object::{CiliumNode, Kind, Name, Object, ObjectKey, PodIpPool, PoolCidrs};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const POOLS: [&str; 3] = ["default", "blue", "red"];
/// Some overlap, so that pools do.
const CIDRS: [&str; 5] = ["10.0.0.0/26", "10.0.0.32/27", "10.1.0.0/27", "10.1.0.0/25", "10.2.0.0/28"];

#[derive(Clone, Debug)]
enum Step {
    Assign(&'static str, &'static str, u8),
    /// Of all entries of a node, each of which this is a multiple of the number.
    Free(&'static str, usize),
    Pool(&'static str, Option<(Vec<&'static str>, u8, i64)>),
    /// Another process leads: it knows what the ledgers say and no more.
    Lead,
}

fn step() -> impl Strategy<Value = Step> {
    let (node, pool) = (select(NODES.to_vec()), select(POOLS.to_vec()));
    let spec = (vec(select(CIDRS.to_vec()), 0..3), 27..31_u8, 0..3_i64);
    prop_oneof![
        6 => (node.clone(), pool.clone(), 1..9_u8).prop_map(|(node, pool, count)| Step::Assign(node, pool, count)),
        4 => (node, 1..4_usize).prop_map(|(node, every)| Step::Free(node, every)),
        3 => (pool, prop::option::weighted(0.8, spec)).prop_map(|(pool, spec)| Step::Pool(pool, spec)),
        1 => Just(Step::Lead),
    ]
}

fn pools() -> Cidrs {
    Cidrs::new(ClusterPool::default())
}

struct Cluster {
    index: Index,
    cidrs: Cidrs,
    rotation: Rotation,
    ready: PreAllocation,
    ledgers: BTreeMap<&'static str, CiliumNode>,
    pods: u32,
}

impl Cluster {
    fn new() -> Self {
        let ready: PreAllocation = [("default".into(), 8)].into();
        let config = Config {
            cluster: "default".into(),
            families: V4,
            ipam: IpamMode::MultiPool,
            reserved: [].into(),
            pre_allocation: Arc::new(ready.clone()),
            cidrs_of: crate::compile::policy::Owners::World,
            host_firewall: None,
        };
        let ledgers = NODES.map(|name| (name, empty(&node(name, 20)))).into();
        Self { index: Index::new(config), cidrs: pools(), rotation: Rotation::default(), ready, ledgers, pods: 0 }
    }

    fn pool(&mut self, name: &'static str, spec: Option<(Vec<&'static str>, u8, i64)>) {
        let Some((cidrs, mask, created)) = spec else {
            self.index.delete(&ObjectKey::cluster(Kind::CiliumPodIPPool, &name.into()));
            return;
        };
        // As the watch leaves them: of two that overlap the first one.
        let mut ipv4: Vec<IpNet> = Vec::new();
        for cidr in cidrs.into_iter().map(|cidr| cidr.parse::<IpNet>().unwrap()).filter(|c| c.prefix_len() <= mask) {
            if !ipv4.iter().any(|other| other.contains(&cidr) || cidr.contains(other)) {
                ipv4.push(cidr);
            }
        }
        let ipv4 = PoolCidrs { cidrs: ipv4.into(), mask };
        let pool = PodIpPool { name: name.into(), created, ipv4, ..PodIpPool::default() };
        self.index.upsert(Object::CiliumPodIPPool(Arc::new(pool)));
    }

    /// One write of a node's ledger, as the allocator does it.
    fn write(&mut self, name: &'static str, assign: Vec<AddressDemand>, release: Vec<Release>) -> Plan {
        let ledger = self.ledgers[name].clone();
        let multi = MultiPool::of(Some(&ledger), &assign, self.index.pools().specs(), V4, &self.ready);
        let demand = NodeDemand {
            node: node(name, 20),
            ledger: Some(Arc::new(ledger.clone())),
            cidrs: Families::default(),
            given: [].into(),
            addresses_differ: false,
            owned: false,
            multi: Some(multi.clone()),
            assign,
            adopt: vec![],
            release,
        };
        let used: Vec<(IpNet, Arc<str>)> =
            self.ledgers.values().flat_map(|l| l.cidrs().map(|cidr| (*cidr, Arc::clone(&l.name)))).collect();
        self.cidrs.set_ledgers(&used);
        let growth = self.cidrs.grow(&multi, &ledger, 20);
        let plan = plan(&ledger, &demand, &growth.cidrs, &mut self.rotation);
        self.ledgers.insert(name, plan.ledger.clone());
        plan
    }

    fn assign(&mut self, name: &'static str, pool: &'static str, count: u8) -> Result<(), TestCaseError> {
        let demands: Vec<AddressDemand> = (0..count)
            .map(|_| {
                self.pods += 1;
                let uid = format!("uid-{}", self.pods);
                let owner = Name::new("a", uid.as_str());
                AddressDemand { owner, resource: uid.into(), families: V4, pools: [pool.into(), "default".into()] }
            })
            .collect();
        let before: BTreeSet<IpAddr> = self.ledgers[name].pool.keys().copied().collect();
        let specs = Arc::clone(self.index.pools().specs());
        let plan = self.write(name, demands.clone(), vec![]);
        let new: Vec<IpAddr> = plan.ledger.pool.keys().filter(|ip| !before.contains(ip)).copied().collect();
        prop_assert_eq!(new.len() + plan.short.len(), demands.len());
        let parts = parts(&plan.ledger, 20, true);
        for address in new {
            let part = parts.iter().find(|part| part.cidr.contains(&address)).unwrap();
            prop_assert_eq!(part.pool, pool, "{} is of another pool", address);
            prop_assert!(specs[pool].has(&part.cidr), "{} is not of the pool any more", address);
            let (first, last) = part.assignable.unwrap();
            prop_assert!((first..=last).contains(&address), "{} is kept for something else", address);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let all: Vec<&IpNet> = self.ledgers.values().flat_map(CiliumNode::cidrs).collect();
        for (i, cidr) in all.iter().enumerate() {
            let other = all[..i].iter().find(|other| other.contains(*cidr) || cidr.contains(**other));
            prop_assert_eq!(other, None, "{} is given twice", cidr);
        }
        for ledger in self.ledgers.values() {
            for address in ledger.pool.keys() {
                prop_assert!(ledger.cidrs().any(|cidr| cidr.contains(address)), "{} was given back in use", address);
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_address_is_given_twice_and_none_that_is_used_given_back(steps in vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _guard = runtime.enter();
        let mut cluster = Cluster::new();
        for step in steps {
            match step {
                Step::Assign(node, pool, count) => cluster.assign(node, pool, count)?,
                Step::Free(node, every) => {
                    let entries = cluster.ledgers[node].pool.iter().step_by(every);
                    let release = entries.map(|(ip, entry)| Release { address: *ip, resource: Arc::clone(&entry.resource) });
                    let release = release.collect();
                    cluster.write(node, vec![], release);
                }
                Step::Pool(pool, spec) => cluster.pool(pool, spec),
                Step::Lead => {
                    (cluster.cidrs, cluster.rotation) = (pools(), Rotation::default());
                    for ledger in cluster.ledgers.values() {
                        ledger.cidrs().for_each(|cidr| cluster.cidrs.pin(*cidr, &ledger.name));
                    }
                }
            }
            cluster.check()?;
        }
        // Everybody gone: the other pools have everything back, after what was freed was written.
        for _ in 0..2 {
            for node in NODES {
                let entries = cluster.ledgers[node].pool.iter();
                let release = entries.map(|(ip, e)| Release { address: *ip, resource: Arc::clone(&e.resource) }).collect();
                cluster.write(node, vec![], release);
            }
        }
        let left = cluster.ledgers.values().flat_map(|ledger| &ledger.pools).find(|pool| *pool.name != *"default");
        prop_assert_eq!(left, None);
    }
}
