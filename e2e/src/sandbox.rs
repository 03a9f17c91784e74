//! What makes a node of a process: a network namespace, and a mount namespace in which the folders that belong to a node
//! are its own. The mounts are made between fork and exec of the process that holds the namespaces, so the node is complete
//! as soon as that process runs, and everything is gone when the last process of the node is.

use std::ffi::CString;
use std::fs::File;
use std::io::Error;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::process::{ProcessId, detach, join_cgroup};

/// The namespaces of a running node.
#[derive(Debug, Clone)]
pub struct Namespaces {
    // Network and host name first: /proc is read before the mount namespace changes, but order also keeps paths valid.
    files: Arc<[File; 3]>,
}

impl Namespaces {
    /// The namespaces that `holder` lives in.
    pub fn of(holder: ProcessId) -> Result<Self> {
        let open = |kind: &str| {
            File::open(format!("/proc/{}/ns/{kind}", holder.pid))
                .with_context(|| format!("the node's process {} is gone", holder.pid))
        };
        let files = Arc::new([open("net")?, open("uts")?, open("mnt")?]);
        Ok(Self { files })
    }

    /// Makes `command` run in them. Its program is looked up in the node's mounts.
    pub fn enter(&self, command: &mut Command) -> Result<()> {
        let files = self.files.clone();
        // SAFETY: setns is async-signal-safe; the descriptors live as long as the closure.
        unsafe {
            command.pre_exec(move || {
                for file in files.iter() {
                    if libc::setns(file.as_raw_fd(), 0) != 0 {
                        return Err(Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        Ok(())
    }

    /// A command that runs in them.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let mut command = Command::new(program);
        self.enter(&mut command)?;
        Ok(command)
    }
}

/// Makes `command` run in the network namespace `file`, and only in that.
pub fn enter_network(command: &mut Command, file: File) {
    // SAFETY: setns is async-signal-safe; the descriptor lives as long as the closure.
    unsafe {
        command.pre_exec(move || match libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        });
    }
}

/// One change to the mounts of a node; paths are prepared before the fork, as nothing may be allocated after it.
#[derive(Debug)]
enum Change {
    Mount {
        source: CString,
        target: CString,
        kind: CString,
        flags: libc::c_ulong,
    },
    /// Unmounts until nothing is mounted there any more.
    Clear(CString),
    Folder(CString),
}

/// The mounts of a node, in order.
#[derive(Debug, Default)]
pub struct Mounts(Vec<Change>);

impl Mounts {
    fn mount(
        mut self,
        source: impl AsRef<Path>,
        target: impl AsRef<Path>,
        kind: &str,
        flags: libc::c_ulong,
    ) -> Result<Self> {
        let (source, target, kind) = (path(source)?, path(target)?, CString::new(kind)?);
        self.0.push(Change::Mount { source, target, kind, flags });
        Ok(self)
    }

    /// A new filesystem of a kind at `target`.
    pub fn filesystem(self, kind: &str, target: impl AsRef<Path>) -> Result<Self> {
        self.mount(kind, target, kind, 0)
    }

    /// The folder `source` seen at `target` as well.
    pub fn bind(self, source: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<Self> {
        self.mount(source, target, "none", libc::MS_BIND)
    }

    /// Like [`Mounts::bind`], with all that is mounted inside.
    pub fn bind_all(self, source: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<Self> {
        self.mount(source, target, "none", libc::MS_BIND | libc::MS_REC)
    }

    /// Moves a mount.
    pub fn relocate(self, source: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<Self> {
        self.mount(source, target, "none", libc::MS_MOVE)
    }

    /// From here on, mounts made in the node stay in the node; those that the machine removes go here too.
    pub fn isolate(self) -> Result<Self> {
        self.mount("none", "/", "none", libc::MS_REC | libc::MS_SLAVE)
    }

    /// Mounts are propagated to and from containers that ask for it, as on a machine that systemd started.
    pub fn share(self) -> Result<Self> {
        self.mount("none", "/", "none", libc::MS_REC | libc::MS_SHARED)
    }

    /// Unmounts everything at `target`.
    pub fn clear(mut self, target: impl AsRef<Path>) -> Result<Self> {
        self.0.push(Change::Clear(path(target)?));
        Ok(self)
    }

    /// Makes a folder, inside what was mounted before.
    pub fn folder(mut self, target: impl AsRef<Path>) -> Result<Self> {
        self.0.push(Change::Folder(path(target)?));
        Ok(self)
    }

    fn apply(&self) -> std::io::Result<()> {
        for change in &self.0 {
            // SAFETY: all pointers are to C strings that live as long as `self`.
            let failed = unsafe {
                match change {
                    Change::Mount { source, target, kind, flags } => {
                        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), *flags, std::ptr::null()) != 0
                    }
                    Change::Clear(target) => {
                        while libc::umount2(target.as_ptr(), libc::MNT_DETACH) == 0 {}
                        false
                    }
                    Change::Folder(target) => {
                        libc::mkdir(target.as_ptr(), 0o755) != 0 && *libc::__errno_location() != libc::EEXIST
                    }
                }
            };
            if failed {
                return Err(failure(change));
            }
        }
        Ok(())
    }
}

/// Says which change failed, to the log: an error that crosses exec keeps its number only.
fn failure(change: &Change) -> Error {
    let error = Error::last_os_error();
    let (Change::Mount { target, .. } | Change::Clear(target) | Change::Folder(target)) = change;
    for part in [c"cannot mount ", target.as_c_str(), c"\n"] {
        // SAFETY: the pointer and length are those of a C string; standard error is open.
        unsafe { libc::write(2, part.as_ptr().cast(), part.count_bytes()) };
    }
    error
}

fn path(path: impl AsRef<Path>) -> Result<CString> {
    let path = path.as_ref();
    CString::new(path.as_os_str().as_bytes()).with_context(|| format!("a path with a zero byte: {}", path.display()))
}

/// Starts the process that holds a node's namespaces: it joins the network namespace, gets a mount namespace with `mounts`
/// and the host name `name`, and then does nothing.
pub fn start(name: &str, network: &Path, mounts: Mounts, cgroup: &Path, log: &Path) -> Result<ProcessId> {
    let network = File::open(network).with_context(|| format!("no network namespace {}", network.display()))?;
    let host = CString::new(name)?;
    let mut command = Command::new("/bin/sleep");
    command.arg0(format!("{name}-init")).arg("infinity").stdin(Stdio::null());
    detach(&mut command, log)?;
    join_cgroup(&mut command, cgroup)?;
    // SAFETY: setns, unshare, sethostname and mount are system calls that allocate nothing; what they read was made before.
    unsafe {
        command.pre_exec(move || {
            if libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) != 0
                || libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWUTS) != 0
                || libc::sethostname(host.as_ptr(), host.count_bytes()) != 0
            {
                return Err(Error::last_os_error());
            }
            mounts.apply()
        });
    }
    let child =
        command.spawn().with_context(|| format!("cannot make the namespaces of {name}; see {}", log.display()))?;
    ProcessId::of(child.id() as i32)
        .with_context(|| format!("the process that holds {name} ended; see {}", log.display()))
}
