//! ADD.

use tokio::time::Instant;

use super::Endpoints;
use super::attachment::{Attachment, AttachmentKey, Phase, PodSandbox};
use super::error::AttachError;
use crate::desired::pods::{EndpointSpec, PodError, PodRef, ReserveSpec};
use crate::link::netns::Namespace;
use crate::link::{LinkError, Mac, pod};
use crate::programs::attach::PodProgramFds;

/// What the pod gets, and who decides its addresses.
enum Assigned {
    ByOperator(EndpointSpec),
    FromReserve(ReserveSpec),
}

impl Endpoints {
    /// Attaches a pod, or answers as before when this container is attached already.
    ///
    /// Waits, within bounds, until the pod's row is known and its policy is in the kernel. When it fails, nothing is left of
    /// it; when even that fails, what is left is found by the next ADD or DEL, or at the next start.
    ///
    /// # Errors
    /// With what was wrong; most are worth a retry.
    pub async fn add(
        &self,
        key: &AttachmentKey,
        pod: &PodSandbox,
        netns: &str,
        namespace: &Namespace,
    ) -> Result<Attachment, AttachError> {
        let _container = self.inner.locks.lock(format!("container {}", key.container_id)).await;
        let known = self.state().store.get(key).cloned();
        if let Some(known) = known {
            if known.phase == Phase::Attached && self.missing(&known, namespace).await?.is_empty() {
                return Ok(known);
            }
            // Another try of an ADD that was interrupted, or whose work somebody took apart.
            self.undo(&known).await?;
        }
        let assigned = self.assign(pod).await?;
        let _pod = self.inner.locks.lock(format!("pod {}", pod.uid)).await;
        let intent = self.intend(key, pod, netns, assigned)?;
        match self.attach(intent.clone(), namespace).await {
            Ok(attachment) => {
                self.report_attached(&attachment);
                Ok(attachment)
            }
            Err(error) => {
                let began = self.state().store.get(key).cloned().unwrap_or(intent);
                if let Err(undo) = self.undo(&began).await {
                    tracing::warn!(%key, error = %undo, "cannot undo a failed attachment yet; the next ADD or DEL will");
                }
                Err(error)
            }
        }
    }

    async fn assign(&self, pod: &PodSandbox) -> Result<Assigned, AttachError> {
        let reference = PodRef { uid: pod.uid.clone(), namespace: pod.namespace.clone(), name: pod.name.clone() };
        let answer = self.inner.pods.endpoint(reference, Instant::now() + self.inner.wait).await;
        let spec = match answer {
            Ok(spec) => spec,
            Err(PodError::Unknown { connected: false, .. }) => {
                return Ok(Assigned::FromReserve(self.inner.pods.reserve(pod.namespace.clone()).await?));
            }
            Err(error) => return Err(error.into()),
        };
        if spec.addresses.is_empty() {
            return Err(AttachError::NoAddress { namespace: pod.namespace.clone(), name: pod.name.clone() });
        }
        let v4 = spec.addresses.iter().filter(|address| address.is_ipv4()).count();
        if v4 > 1 || spec.addresses.len() - v4 > 1 {
            return Err(LinkError::Addresses(spec.addresses).into());
        }
        Ok(Assigned::ByOperator(spec))
    }

    /// Writes down what is about to be made. An address of the reserve is taken under the same lock, so that nobody else does.
    fn intend(
        &self,
        key: &AttachmentKey,
        pod: &PodSandbox,
        netns: &str,
        assigned: Assigned,
    ) -> Result<Attachment, AttachError> {
        let mut state = self.state();
        let (from_reserve, identity, policy_index, mtu, addresses) = match assigned {
            Assigned::ByOperator(spec) => (false, spec.identity, spec.policy_index, spec.mtu, spec.addresses),
            Assigned::FromReserve(spec) => {
                let addresses = state.reserve.take(&spec, |address| state.store.has_address(address))?;
                (true, spec.identity, spec.policy_index, spec.mtu, addresses)
            }
        };
        let attachment = Attachment {
            key: key.clone(),
            phase: Phase::Attaching,
            boot_id: state.store.boot_id().to_owned(),
            sequence: state.store.next_sequence(),
            pod_uid: pod.uid.clone(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            netns: netns.to_owned(),
            endpoint_id: state.store.endpoint_id(&pod.uid),
            device: key.device(),
            ifindex: 0,
            host_mac: Mac::derived_from(&format!("host {key}")),
            pod_mac: Mac::derived_from(&format!("pod {key}")),
            mtu,
            addresses,
            identity,
            policy_index,
            from_reserve,
        };
        state.store.put(attachment.clone())?;
        Ok(attachment)
    }

    async fn attach(&self, intent: Attachment, namespace: &Namespace) -> Result<Attachment, AttachError> {
        let links = &self.inner.links;
        let programs = PodProgramFds::open(&self.inner.paths).map_err(AttachError::Programs)?;
        let veth = intent.veth();
        let device = match links.create_veth(&veth, namespace).await {
            // What an earlier try left: its intent was lost with the disk, or its undoing failed.
            Err(error) if error.is_present() => {
                if let Some(stale) = links.device(&veth.host_name).await? {
                    links.delete_device(stale.index).await?;
                }
                links.create_veth(&veth, namespace).await?
            }
            result => result?,
        };
        // Known from here on, so that an undoing finds its entries.
        let mut attachment = Attachment { ifindex: device.index, ..intent };
        self.state().store.put(attachment.clone())?;

        let (inside, outside) = tokio::join!(
            pod::configure(namespace, attachment.inside()),
            links.configure_host_side(&device, &veth, &attachment.addresses, programs.as_programs()),
        );
        inside?;
        outside?;

        let mut state = self.state();
        // It may have been relabelled meanwhile.
        if let Some(now) = state.store.get(&attachment.key) {
            (attachment.identity, attachment.policy_index) = (now.identity, now.policy_index);
        }
        state.maps.write(&attachment)?;
        attachment.phase = Phase::Attached;
        state.store.put(attachment.clone())?;
        Ok(attachment)
    }
}
