//! Network namespaces without names: nothing is left behind, whatever becomes of the test.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace; lives as long as this and what runs in it.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

/// Moves the calling thread, which is the test's own, into a namespace that nobody knows.
pub fn isolate() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    for forwarding in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/net/{forwarding}"), "0").unwrap();
    }
}

/// Gives the calling thread's namespace, once [`isolate`]d, a way to the world that its host forwards to: a device of this MTU.
/// Returns its ifindex.
pub fn open(mtu: u32) -> u32 {
    let ip = |arguments: String| {
        let status = Command::new("ip").args(arguments.split_whitespace()).status().expect("iproute2");
        assert!(status.success(), "ip {arguments}");
    };
    ip("link set lo up".to_owned());
    ip(format!("link add uplink0 mtu {mtu} type veth peer name wire mtu {mtu}"));
    ip("link set uplink0 up".to_owned());
    ip("link set wire up".to_owned());
    for (address, gateway) in [("192.0.2.1/24", "192.0.2.254"), ("2001:db8::1/64 nodad", "2001:db8::fe")] {
        ip(format!("addr add dev uplink0 {address}"));
        ip(format!("route add default via {gateway} dev uplink0"));
    }
    for forwarding in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/net/{forwarding}"), "1").unwrap();
    }
    nix::net::if_::if_nametoindex("uplink0").unwrap()
}

impl Netns {
    pub fn new() -> Self {
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let netns = Self { file: file.join().unwrap() };
        netns.ip("link set lo up");
        netns
    }

    /// Runs something on a thread of this namespace.
    pub fn run<R: Send>(&self, action: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET).unwrap();
                action()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Names this namespace for `ip ... netns <path>`.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Runs `ip` with these arguments, which must succeed.
    pub fn ip(&self, arguments: &str) {
        let output = self.run(|| Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2"));
        assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn sysctl(&self, name: &str, value: &str) {
        self.run(|| std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap());
    }

    pub fn ifindex(&self, device: &str) -> u32 {
        self.run(|| nix::net::if_::if_nametoindex(device).unwrap())
    }
}
