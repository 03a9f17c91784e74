//! What tests take of the host's kernel: cgroups and programs.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use axoneme_node::maps::bpf;

/// `BPF_PROG_TYPE_*`
pub const SCHED_CLS: u32 = 3;
pub const CGROUP_SOCK: u32 = 9;
/// `TC_ACT_UNSPEC`
pub const GO_ON: u32 = u32::MAX;

/// A cgroup that goes with the test.
pub struct Cgroup(pub PathBuf);

impl Cgroup {
    pub fn new(test: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let cgroup2 = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).expect("cgroup v2");
        let path = PathBuf::from(cgroup2.split(' ').nth(1).unwrap());
        let path = path.join(format!("axoneme-{test}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Loads a program that always gives the same answer. Names have up to 15 characters.
pub fn program(kind: u32, name: &str, answer: u32) -> OwnedFd {
    const PROG_LOAD: i32 = 5;
    #[repr(C)]
    #[derive(Default)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
    }
    // r0 = answer; exit
    let instructions: [u64; 2] = [u64::from(answer) << 32 | 0xb7, 0x95];
    let (instructions, license) = (instructions.as_ptr() as u64, c"GPL".as_ptr() as u64);
    let mut attr = Load { kind, count: 2, instructions, license, ..Load::default() };
    attr.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the attributes are those of PROG_LOAD, and what they point to lives through the call, which returns a descriptor.
    unsafe { bpf::descriptor(bpf::call(PROG_LOAD, &mut attr).unwrap()).unwrap() }
}
