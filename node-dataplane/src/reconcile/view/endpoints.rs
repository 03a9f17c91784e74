//! Pods of this node.

use std::collections::{BTreeMap, BTreeSet};

use axoneme_admin::node::{self, EndpointState, Sync};
use axoneme_bpf::endpoint::Endpoint as Entry;
use axoneme_proto::{Scope, Table};

use super::judge;
use crate::desired::rows::Endpoint;
use crate::endpoint::Attachment;
use crate::reconcile::Engine;

impl Engine {
    /// Pods that are desired or attached. `attached` is each pod's last attachment, with its entry in `ax_endpoints`.
    #[must_use]
    pub fn view_endpoints(&self, attached: Vec<(Attachment, Option<Entry>)>) -> Vec<node::Endpoint> {
        let mut attached: BTreeMap<String, (Attachment, Option<Entry>)> =
            attached.into_iter().map(|(attachment, entry)| (attachment.pod_uid.clone(), (attachment, entry))).collect();
        let scope = Scope::Node(self.desired.node_name().to_owned());
        let mut uids: BTreeSet<String> =
            self.desired.store().table(&scope, Table::Endpoint).map(|(id, _)| id.key.to_string()).collect();
        uids.extend(attached.keys().cloned());
        let mut out: Vec<_> = uids.into_iter().map(|uid| self.endpoint(attached.remove(&uid), uid)).collect();
        out.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
        out
    }

    fn endpoint(&self, attached: Option<(Attachment, Option<Entry>)>, pod_uid: String) -> node::Endpoint {
        let row = self.desired.endpoint(&pod_uid);
        let desired = row.as_ref().map(wanted);
        let Some((attachment, entry)) = attached else {
            // Nobody has asked for it yet: it comes with its container.
            let (namespace, name) = row.map(|row| (row.namespace, row.name)).unwrap_or_default();
            let problem = "not attached yet".to_owned();
            return node::Endpoint {
                namespace,
                name,
                pod_uid,
                sync: Sync::Pending,
                problem,
                desired,
                ..Default::default()
            };
        };
        let programmed = entry.map(|entry| state(&entry));
        let (mut sync, mut problem) =
            judge(&self.endpoints.queue, &pod_uid.as_str().into(), desired.as_ref(), programmed.as_ref());
        if row.is_none() && attachment.from_reserve {
            (sync, problem) = (Sync::Pending, "the operator has not adopted it yet".to_owned());
        }
        node::Endpoint {
            namespace: attachment.namespace,
            name: attachment.name,
            pod_uid,
            sync,
            problem,
            desired,
            programmed,
            endpoint_id: attachment.endpoint_id,
            device: attachment.device,
            from_reserve: attachment.from_reserve,
        }
    }
}

fn wanted(row: &Endpoint) -> EndpointState {
    let mut addresses: Vec<String> = row.addresses.iter().map(ToString::to_string).collect();
    addresses.sort();
    EndpointState { identity: row.identity, addresses }
}

fn state(entry: &Entry) -> EndpointState {
    use axoneme_bpf::inet::{Family, Inet};
    let address = |inet: Inet, family| (inet != Inet::ZERO).then(|| inet.to_ip(family)).flatten();
    let addresses = [address(entry.ipv4, Family::IPV4), address(entry.ipv6, Family::IPV6)];
    let mut addresses: Vec<String> = addresses.iter().flatten().map(ToString::to_string).collect();
    addresses.sort();
    EndpointState { identity: entry.identity, addresses }
}
