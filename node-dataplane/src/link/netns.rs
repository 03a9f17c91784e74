//! Work inside a pod's network namespace.
//!
//! A namespace belongs to a thread, so a thread is made for the work and thrown away: a worker of tokio that came back in the
//! wrong namespace would serve the host's requests there.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::sched::{CloneFlags, setns};
use tokio::sync::oneshot;

use super::{LinkError, Links};

/// A file descriptor of a network namespace, checked to be one, and not the daemon's.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    /// Device and inode, which name a namespace while it lives.
    id: (u64, u64),
}

/// Why a file descriptor is not a pod's network namespace.
#[derive(Debug, thiserror::Error)]
pub enum InvalidNamespace {
    /// Not a namespace, or of another kind.
    #[error("the given file is no network namespace")]
    Kind,
    /// The namespace in which the daemon runs: a pod on the host's network needs no attachment.
    #[error("the given namespace is the host's")]
    Host,
    /// It cannot even be looked at.
    #[error("cannot examine the given namespace")]
    Examine(#[source] io::Error),
}

/// What kind of namespace a file is, as a clone flag; `ioctl_ns(2)`.
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;

impl Namespace {
    /// Checks a file descriptor. Call it from a thread in the host's namespace.
    ///
    /// # Errors
    /// When it is no network namespace, or the one that this thread is in.
    pub fn new(fd: OwnedFd) -> Result<Self, InvalidNamespace> {
        // SAFETY: NS_GET_NSTYPE takes no argument and touches no memory of ours; the descriptor is open.
        let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            return Err(InvalidNamespace::Kind);
        }
        let file = File::from(fd);
        let of = |file: &File| file.metadata().map(|data| (data.dev(), data.ino())).map_err(InvalidNamespace::Examine);
        let own = File::open("/proc/thread-self/ns/net").map_err(InvalidNamespace::Examine)?;
        let id = of(&file)?;
        if id == of(&own)? {
            return Err(InvalidNamespace::Host);
        }
        Ok(Self { file, id })
    }

    /// Another handle of the same namespace.
    ///
    /// # Errors
    /// When there are no file descriptors left.
    pub fn duplicate(&self) -> Result<Self, LinkError> {
        Ok(Self { file: self.file.try_clone().map_err(LinkError::Namespace)?, id: self.id })
    }

    /// What tells namespaces apart while they live.
    #[must_use]
    pub fn id(&self) -> (u64, u64) {
        self.id
    }

    /// Runs `work` in this namespace, with a netlink connection that was made there.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or `work` fails.
    pub async fn run<T, W, F>(&self, work: W) -> Result<T, LinkError>
    where
        T: Send + 'static,
        W: FnOnce(Links) -> F + Send + 'static,
        F: Future<Output = Result<T, LinkError>>,
    {
        let (done, result) = oneshot::channel();
        let file = self.file.try_clone().map_err(LinkError::Namespace)?;
        let thread = std::thread::Builder::new().name("netns".to_owned()).spawn(move || {
            // The other end is gone only when nobody waits any more.
            let _ = done.send(enter_and_run(&file, work));
        });
        thread.map_err(LinkError::Namespace)?;
        result.await.map_err(|_| LinkError::Thread)?
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn enter_and_run<T, W, F>(namespace: &File, work: W) -> Result<T, LinkError>
where
    W: FnOnce(Links) -> F,
    F: Future<Output = Result<T, LinkError>>,
{
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| LinkError::Namespace(errno.into()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(LinkError::Namespace)?;
    runtime.block_on(async { work(Links::connect()?).await })
}
