//! What is told to the runtime, in its version of the specification.

use axoneme_node::endpoint::protocol::{Attached, Failure};
use serde_json::{Value, json};

/// A result of ADD.
pub fn result(version: &str, attached: &Attached, netns: &str) -> Value {
    let old = matches!(version, "0.3.1" | "0.4.0");
    let interface = |name: &str, mac: &str, sandbox: Option<&str>| {
        let mut interface = json!({ "name": name, "mac": mac });
        if let Some(sandbox) = sandbox {
            interface["sandbox"] = sandbox.into();
        }
        if version == "1.1.0" {
            interface["mtu"] = attached.mtu.into();
        }
        interface
    };
    let ips = attached.addresses.iter().map(|address| {
        let bits = if address.address.is_ipv4() { 32 } else { 128 };
        let mut ip =
            json!({ "interface": 1, "address": format!("{}/{bits}", address.address), "gateway": address.gateway });
        if old {
            ip["version"] = if address.address.is_ipv4() { "4" } else { "6" }.into();
        }
        ip
    });
    let routes = attached.addresses.iter().map(|address| {
        let everything = if address.address.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        let mut route = json!({ "dst": everything, "gw": address.gateway });
        if version == "1.1.0" {
            route["mtu"] = attached.mtu.into();
        }
        route
    });
    json!({
        "cniVersion": version,
        "interfaces": [
            interface(&attached.host_interface, &attached.host_mac, None),
            interface(&attached.interface, &attached.mac, Some(netns)),
        ],
        "ips": ips.collect::<Vec<_>>(),
        "routes": routes.collect::<Vec<_>>(),
        "dns": {},
    })
}

/// The result of the plugin before, which stands: this one adds nothing that a runtime would have to know.
pub fn unchanged(version: &str, previous: &Value) -> Value {
    let mut previous = previous.clone();
    if previous.get("cniVersion").is_none() {
        previous["cniVersion"] = version.into();
    }
    previous
}

/// An error.
pub fn failed(version: &str, failure: &Failure) -> Value {
    let Failure { code, message, details } = failure;
    json!({ "cniVersion": version, "code": code, "msg": message, "details": details })
}
