//! Processes that outlive the command which started them. A process is known by its id and its start time, because ids are
//! reused: the harness signals what it started and nothing else.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::sandbox::{Namespaces, enter_network};

/// A process: its id and when it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process id.
    pub pid: i32,
    /// The start time.
    pub started: u64,
}

impl ProcessId {
    /// The process that has this id now; none if there is none, or if it is a zombie.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in brackets and may hold anything; what follows the last bracket is numbers.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        if *fields.first()? == "Z" {
            return None;
        }
        Some(Self { pid, started: fields.get(19)?.parse().ok()? })
    }

    /// Whether it still runs. Reaps it when it was a child of this process.
    pub fn alive(self) -> bool {
        let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal, unless the process is gone. The id cannot be reused in between, because a pidfd holds the process.
    pub fn signal(self, signal: i32) {
        // SAFETY: pidfd_open takes two integers and returns a descriptor or -1; nothing is borrowed.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, 0) };
        if fd < 0 {
            return;
        }
        if Self::of(self.pid) == Some(self) {
            // SAFETY: the descriptor is the one opened above; a null siginfo is what kill(2) sends.
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, std::ptr::null::<libc::siginfo_t>(), 0) };
        }
        // SAFETY: the descriptor was opened above and is closed once.
        unsafe { libc::close(fd as i32) };
    }

    /// The name of its executable, without folders, as it was called.
    pub fn name(self) -> String {
        let line = std::fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let first = line.split(|b| *b == 0).next().unwrap_or_default();
        let first = String::from_utf8_lossy(first).into_owned();
        let name = first.rsplit('/').next().unwrap_or_default().to_owned();
        if name.is_empty() {
            std::fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default().trim().to_owned()
        } else {
            name
        }
    }
}

/// Asks all to end, waits up to `grace`, then kills those that are left and waits until they are gone.
pub fn stop(processes: &[ProcessId], grace: Duration) -> Result<()> {
    for (signal, patience) in [(libc::SIGTERM, grace), (libc::SIGKILL, Duration::from_secs(10))] {
        let left: Vec<_> = processes.iter().copied().filter(|p| p.alive()).collect();
        left.iter().for_each(|p| p.signal(signal));
        if wait_until(patience, || !left.iter().any(|p| p.alive())) {
            return Ok(());
        }
    }
    let left: Vec<_> = processes.iter().filter(|p| p.alive()).map(|p| format!("{} ({})", p.pid, p.name())).collect();
    bail!("processes do not end, even killed: {}", left.join(", "))
}

/// Whether `condition` became true within `patience`.
pub fn wait_until(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process to start that shall go on when the harness ends.
#[derive(Debug)]
pub struct Daemon<'a> {
    program: PathBuf,
    arguments: Vec<OsString>,
    log: PathBuf,
    inside: Option<&'a Namespaces>,
    network: Option<File>,
    cgroups: Vec<PathBuf>,
}

impl<'a> Daemon<'a> {
    /// `program`, writing what it says to `log` (appending, so that a restart keeps the story).
    pub fn new(program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            log: log.into(),
            inside: None,
            network: None,
            cgroups: Vec::new(),
        }
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Runs in a node's namespaces.
    pub fn inside(mut self, namespaces: &'a Namespaces) -> Self {
        self.inside = Some(namespaces);
        self
    }

    /// Runs in this network namespace, and in no other of a node's.
    pub fn network(mut self, namespace: File) -> Self {
        self.network = Some(namespace);
        self
    }

    /// Runs in these cgroups, one a hierarchy, by which it is found again when the state file is lost.
    pub fn cgroups(mut self, cgroups: Vec<PathBuf>) -> Self {
        self.cgroups = cgroups;
        self
    }

    /// Starts it. When this returns, its program has been executed.
    pub fn start(self) -> Result<ProcessId> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null());
        detach(&mut command, &self.log)?;
        for cgroup in &self.cgroups {
            join_cgroup(&mut command, cgroup)?;
        }
        if let Some(namespaces) = self.inside {
            namespaces.enter(&mut command)?;
        }
        if let Some(network) = self.network {
            enter_network(&mut command, network);
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        ProcessId::of(child.id() as i32)
            .with_context(|| format!("{} ended at once; its log: {}", self.program.display(), self.log.display()))
    }
}

/// Gives `command` a session of its own and a log file.
pub(crate) fn detach(command: &mut Command, log: &Path) -> Result<()> {
    let log: File = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    command.stdout(log.try_clone()?).stderr(log);
    // SAFETY: setsid is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            Ok(())
        });
    }
    Ok(())
}

/// Makes `command` a member of a cgroup before it executes, so that none of its children can be outside.
pub(crate) fn join_cgroup(command: &mut Command, cgroup: &Path) -> Result<()> {
    let file = CString::new(cgroup.join("cgroup.procs").as_os_str().as_bytes())?;
    // SAFETY: open, write and close are async-signal-safe; the path was allocated before the fork.
    unsafe {
        command.pre_exec(move || {
            let fd = libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            // "0" stands for the process that writes.
            if fd < 0 || libc::write(fd, c"0".as_ptr().cast(), 1) != 1 {
                return Err(std::io::Error::last_os_error());
            }
            libc::close(fd);
            Ok(())
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_id_is_another_process() {
        let me = ProcessId::of(std::process::id() as i32).unwrap();
        assert!(me.alive());
        assert!(!ProcessId { started: me.started + 1, ..me }.alive());
    }

    #[test]
    fn a_daemon_is_started_and_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let sleeper = Daemon::new("/bin/sleep", dir.path().join("log")).args(["100"]).start().unwrap();
        assert!(sleeper.alive());
        stop(&[sleeper], Duration::from_secs(5)).unwrap();
        assert!(!sleeper.alive());
    }
}
