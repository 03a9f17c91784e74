//! Services.

use std::collections::BTreeMap;

use axoneme_admin::node::{self, Frontend};
use axoneme_bpf::service::{Backend, ServiceKey};

use super::judge;
use crate::reconcile::Engine;
use crate::reconcile::ops::MapError;
use crate::reconcile::services::translate::groups;

impl Engine {
    /// All services. Frontends that nobody desires come last, under no name.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn view_services(&self) -> Result<Vec<node::Service>, MapError> {
        let mut kernel: BTreeMap<String, Vec<String>> = self
            .services
            .in_kernel()?
            .into_iter()
            .filter(|(key, _)| key.protocol != 0)
            .map(|(key, backends)| (frontend(&key), backends.iter().map(backend).collect()))
            .collect();
        let keys: Vec<String> = self.desired.services().map(str::to_owned).collect();
        let mut out: Vec<_> = keys.iter().map(|key| self.service(key, &mut kernel)).collect();
        if !kernel.is_empty() {
            let sync = node::Sync::Leftover;
            let leftover = |(frontend, programmed)| Frontend { frontend, sync, programmed, ..Frontend::default() };
            let frontends = kernel.into_iter().map(leftover).collect();
            out.push(node::Service { sync, frontends, ..node::Service::default() });
        }
        Ok(out)
    }

    fn service(&self, key: &str, kernel: &mut BTreeMap<String, Vec<String>>) -> node::Service {
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        let mut out =
            node::Service { namespace: namespace.to_owned(), name: name.to_owned(), ..node::Service::default() };
        // Those without a port only say that the address is a service's.
        for (_, group) in groups(&self.desired, key).into_iter().filter(|(group, _)| group.port != 0) {
            let desired: Vec<String> = group.backends.iter().map(backend).collect();
            for &one in group.frontends.keys() {
                let frontend = frontend(&one.into());
                let programmed = kernel.remove(&frontend);
                let (sync, problem) = judge(&self.services.queue, &key.into(), Some(&desired), programmed.as_ref());
                out.sync = out.sync.max(sync);
                out.problem = problem;
                let programmed = programmed.unwrap_or_default();
                out.frontends.push(Frontend { frontend, sync, desired: desired.clone(), programmed });
            }
        }
        out
    }
}

fn frontend(key: &ServiceKey) -> String {
    let address = key.address.to_ip(key.family).map(|ip| socket(ip, key.port.get())).unwrap_or_default();
    let whose = if key.is_apart() { " from outside" } else { "" };
    let protocol = match key.transport() {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    };
    format!("{address}/{protocol}{whose}")
}

fn backend(backend: &Backend) -> String {
    backend.address.to_ip(backend.family).map(|ip| socket(ip, backend.port.get())).unwrap_or_default()
}

fn socket(address: std::net::IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}
