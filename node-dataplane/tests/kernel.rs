//! What a user sees on a node whose kernel is too old: the daemon itself, on a kernel that refuses BPF as an old one does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on shall say where")]

use std::os::unix::process::CommandExt;
use std::process::Command;

/// From now on, this process' `bpf` fails like that of a kernel which does not know what it is asked for.
fn without_bpf() -> std::io::Result<()> {
    const SYSCALL: u32 = 0;
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, SYSCALL),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_bpf as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its instructions outlive the calls, which copy them.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
    };
    if refused { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

#[test]
fn a_kernel_that_is_too_old_is_told_with_what_it_lacks_and_which_would_do() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("node.yaml");
    std::fs::write(&config, "{}").unwrap();
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_axoneme-node"));
    daemon.arg("--config").arg(&config).args(["--node-name", "old"]);
    // SAFETY: prctl is a system call that allocates nothing.
    unsafe { daemon.pre_exec(without_bpf) };
    let output = daemon.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let beginning = format!("axoneme-node: this node's kernel ({}) lacks LPM trie maps (Linux 4.11), ", kernel.trim());
    assert!(last.starts_with(&beginning), "{said}");
    assert!(last.contains("bpf_set_retval (Linux 5.18): Linux 5.18 or later is needed"), "{said}");
}
