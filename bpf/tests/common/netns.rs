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
