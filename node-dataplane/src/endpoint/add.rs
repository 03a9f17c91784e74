//! ADD.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Endpoints;
use super::attachment::{Attachment, AttachmentKey, Phase, PodSandbox};
use super::chain::{ChainError, Pair};
use super::error::AttachError;
use super::metrics::AddTimes;
use crate::desired::pods::{EndpointSpec, Limits, PodError, PodRef, ReserveSpec, Told};
use crate::link::netns::Namespace;
use crate::link::worker::Desk;
use crate::link::{LinkError, Mac};
use crate::programs::attach::PodProgramFds;

/// How long ADD waits for other nodes to be told of a pod, where its row does not insist.
const BARRIER: Duration = Duration::from_millis(100);

/// What ADD is asked for.
#[derive(Clone, Debug)]
pub struct AddRequest {
    /// The attachment.
    pub key: AttachmentKey,
    /// The pod.
    pub pod: PodSandbox,
    /// Path of its network namespace on the host, for people.
    pub netns: String,
    /// Name of the network's configuration.
    pub network: String,
    /// The addresses that the plugin before gave it, if there is one.
    pub chained: Option<Vec<IpAddr>>,
}

/// What the pod gets, and who decides its addresses.
enum Assigned {
    ByOperator(EndpointSpec),
    FromReserve(ReserveSpec),
}

impl Endpoints {
    /// Attaches a pod, or answers as before when this container is attached already.
    ///
    /// Waits, within bounds, until the pod's row is known and its policy is in the kernel, and until those who have to know of
    /// the pod do. When it fails, nothing is left of it; when even that fails, what is left is found by the next ADD or DEL, or
    /// at the next start.
    ///
    /// # Errors
    /// With what was wrong; most are worth a retry.
    pub async fn add(&self, request: &AddRequest, namespace: &Namespace) -> Result<Attachment, AttachError> {
        let AddRequest { key, pod, .. } = request;
        let started = Instant::now();
        let _container = self.inner.locks.lock(format!("container {}", key.container_id)).await;
        self.undefer(key);
        let known = self.state().store.get(key).cloned();
        if let Some(known) = known {
            if known.phase == Phase::Attached && self.missing(&known, namespace).await?.is_empty() {
                return Ok(known);
            }
            // Another try of an ADD that was interrupted, or whose work somebody took apart.
            self.undo(&known).await?;
        }
        let pair = match &request.chained {
            Some(addresses) => Some(self.chained_pair(request, addresses, namespace).await?),
            None => None,
        };
        let assigned = self.assign(request).await?;
        let row = Instant::now();
        let strict = matches!(&assigned, Assigned::ByOperator(spec) if spec.strict_barrier);
        if strict {
            self.barrier(pod, &assigned, row).await?;
        }
        let told = Instant::now();
        let _pod = self.inner.locks.lock(format!("pod {}", pod.uid)).await;
        let intent = self.intend(request, &assigned, pair.as_ref())?;
        let made = async { (self.make(&intent, pair, namespace).await, Instant::now()) };
        let ((attached, made), _) = tokio::join!(made, async {
            if !strict {
                // Never fails where the row does not insist.
                let _ = self.barrier(pod, &assigned, row).await;
            }
        });
        let attachment = attached?;
        let done = Instant::now();
        let times = AddTimes { total: done - started, row: row - started, barrier: (told - row) + (done - made) };
        self.inner.metrics.added(times);
        // It may have been relabelled while others were told of it.
        let attachment = self.state().store.get(key).cloned().unwrap_or(attachment);
        say(&attachment, &assigned, times);
        self.report_attached(&attachment);
        Ok(attachment)
    }

    /// Makes what is intended; undone on failure.
    async fn make(
        &self,
        intent: &Attachment,
        pair: Option<Pair>,
        namespace: &Namespace,
    ) -> Result<Attachment, AttachError> {
        let made = match pair {
            Some(pair) => self.attach_chained(intent.clone(), &pair).await,
            None => self.attach(intent.clone(), namespace).await,
        };
        if made.is_err() {
            let key = &intent.key;
            let began = self.state().store.get(key).cloned().unwrap_or_else(|| intent.clone());
            if let Err(undo) = self.undo(&began).await {
                tracing::warn!(%key, error = %undo, "cannot undo a failed attachment yet; the next ADD or DEL will");
            }
        }
        made
    }

    async fn assign(&self, request: &AddRequest) -> Result<Assigned, AttachError> {
        let PodSandbox { uid, namespace, name } = request.pod.clone();
        let chained = request.chained.is_some();
        let reference = PodRef { uid, namespace: namespace.clone(), name: name.clone(), chained };
        let answer = self.inner.pods.endpoint(reference.clone(), Instant::now() + self.inner.wait).await;
        let spec = match answer {
            Ok(spec) => spec,
            Err(PodError::Unknown { connected: false, .. }) => {
                return Ok(Assigned::FromReserve(self.inner.pods.reserve(reference).await?));
            }
            Err(error) => return Err(error.into()),
        };
        if chained {
            return Ok(Assigned::ByOperator(spec));
        }
        if spec.addresses.is_empty() {
            return Err(AttachError::NoAddress { namespace, name });
        }
        one_a_family(&spec.addresses)?;
        Ok(Assigned::ByOperator(spec))
    }

    /// Waits until those who have to know of the pod do: for as long as for its row if that insists, else for a moment.
    async fn barrier(&self, pod: &PodSandbox, assigned: &Assigned, since: Instant) -> Result<(), AttachError> {
        let Assigned::ByOperator(spec) = assigned else { return Ok(()) };
        let wait = if spec.strict_barrier { self.inner.wait } else { BARRIER };
        let told = self.inner.pods.told(pod.uid.clone(), spec.revision, since + wait).await;
        self.inner.metrics.barrier(told, since.elapsed());
        match told {
            Told::Timeout | Told::Disconnected if spec.strict_barrier => {
                let (namespace, name) = (pod.namespace.clone(), pod.name.clone());
                Err(AttachError::Barrier { namespace, name, connected: told == Told::Timeout })
            }
            _ => Ok(()),
        }
    }

    async fn chained_pair(
        &self,
        request: &AddRequest,
        addresses: &[IpAddr],
        namespace: &Namespace,
    ) -> Result<Pair, AttachError> {
        if addresses.is_empty() {
            return Err(ChainError::NoAddress(request.key.interface.clone()).into());
        }
        one_a_family(addresses)?;
        let pair = self.pair(namespace, &request.key.interface).await?;
        let taken = |other: &Attachment| other.ifindex == pair.host.index && other.key != request.key;
        if self.attachments().iter().any(taken) {
            return Err(ChainError::Taken(request.key.interface.clone()).into());
        }
        Ok(pair)
    }

    /// Writes down what is about to be made. An address of the reserve is taken under the same lock, so that nobody else does.
    fn intend(
        &self,
        request: &AddRequest,
        assigned: &Assigned,
        pair: Option<&Pair>,
    ) -> Result<Attachment, AttachError> {
        let AddRequest { key, pod, netns, network, chained } = request;
        let mut state = self.state();
        let (identity, policy_index, limits, mtu) = match assigned {
            Assigned::ByOperator(spec) => (spec.identity, spec.policy_index, spec.limits, spec.mtu),
            Assigned::FromReserve(spec) => (spec.identity, spec.policy_index, Limits::default(), spec.mtu),
        };
        let (addresses, from_reserve) = match (chained, assigned) {
            (Some(addresses), _) => (addresses.clone(), false),
            (None, Assigned::ByOperator(spec)) => (spec.addresses.clone(), false),
            (None, Assigned::FromReserve(spec)) => {
                (state.reserve.take(spec, |address| state.store.has_address(address))?, true)
            }
        };
        let own = || (Mac::derived_from(&format!("host {key}")), Mac::derived_from(&format!("pod {key}")));
        let (host_mac, pod_mac) = pair.map_or_else(own, |pair| (pair.host.mac.unwrap_or_default(), pair.pod_mac));
        let attachment = Attachment {
            key: key.clone(),
            phase: Phase::Attaching,
            boot_id: state.store.boot_id().to_owned(),
            sequence: state.store.next_sequence(),
            pod_uid: pod.uid.clone(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            netns: netns.clone(),
            network: network.clone(),
            endpoint_id: state.store.endpoint_id(&pod.uid),
            device: pair.map_or_else(|| key.device(), |pair| pair.host.name.clone()),
            ifindex: 0,
            host_mac,
            pod_mac,
            mtu: pair.map_or(mtu, |pair| pair.mtu),
            addresses,
            identity,
            policy_index,
            limits,
            from_reserve,
            chained: chained.is_some(),
        };
        state.store.put(attachment.clone())?;
        Ok(attachment)
    }

    async fn attach(&self, intent: Attachment, namespace: &Namespace) -> Result<Attachment, AttachError> {
        let programs = PodProgramFds::open(&self.inner.paths).map_err(AttachError::Programs)?;
        let (veth, inside, namespace) = (intent.veth(), intent.inside(), namespace.duplicate()?);
        let make = async move |desk: &Desk| {
            let started = Instant::now();
            let device = desk.make_pod(&veth, &inside, programs.as_programs(), &namespace).await?;
            Ok((device, started.elapsed()))
        };
        let (device, links) = self.inner.making.run(make).await?;
        let entering = Instant::now();
        let attachment = self.enter(Attachment { ifindex: device.index, ..intent })?;
        self.inner.metrics.data_path(links + entering.elapsed());
        Ok(attachment)
    }

    /// Puts programs on a device that another plugin has made. Its entries come first: without one, nothing passes.
    async fn attach_chained(&self, intent: Attachment, pair: &Pair) -> Result<Attachment, AttachError> {
        let programs = PodProgramFds::open(&self.inner.paths).map_err(AttachError::Programs)?;
        let attachment = Attachment { ifindex: pair.host.index, ..intent };
        self.state().store.put(attachment.clone())?;
        self.state().maps.write(&attachment)?;
        let index = attachment.ifindex;
        let put = async move |desk: &Desk| desk.links.set_pod_programs(index, programs.as_programs()).await;
        self.inner.making.run(put).await?;
        self.enter(attachment)
    }

    /// Writes an attachment's entries, and that it is one.
    fn enter(&self, mut attachment: Attachment) -> Result<Attachment, AttachError> {
        let mut state = self.state();
        // It may have been relabelled meanwhile.
        if let Some(now) = state.store.get(&attachment.key) {
            (attachment.identity, attachment.policy_index) = (now.identity, now.policy_index);
            attachment.limits = now.limits;
        }
        state.maps.write(&attachment)?;
        attachment.phase = Phase::Attached;
        state.store.put(attachment.clone())?;
        Ok(attachment)
    }
}

/// By what a person follows one pod: the operator names the same pod, identity and revision.
fn say(attachment: &Attachment, assigned: &Assigned, times: AddTimes) {
    let Attachment { namespace, name: pod, identity, addresses, from_reserve, .. } = attachment;
    let revision = match assigned {
        Assigned::ByOperator(spec) => spec.revision,
        Assigned::FromReserve(_) => 0,
    };
    let (waited_for_row, waited_for_peers) = (times.row.as_millis(), times.barrier.as_millis());
    tracing::info!(
        namespace,
        pod,
        identity,
        revision,
        ?addresses,
        from_reserve,
        waited_for_row,
        waited_for_peers,
        "attached: its packets pass from here on"
    );
}

fn one_a_family(addresses: &[IpAddr]) -> Result<(), LinkError> {
    let v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
    if v4 > 1 || addresses.len() - v4 > 1 {
        return Err(LinkError::Addresses(addresses.to_vec()));
    }
    Ok(())
}
