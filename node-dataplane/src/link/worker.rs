//! A thread for work on pods' devices.
//!
//! The kernel does what netlink asks for while it is being asked, one asker at a time in the whole machine, and a device's end
//! waits for grace periods: whoever asks is held up for milliseconds. So the daemon's own thread does not ask. One thread does,
//! job after job: those that many threads ask for at once only take longer. It also enters pods' namespaces, and comes back.
//! Devices whose removal was asked for while it was at work are removed together, which takes hardly longer than one.

use std::fs::File;
use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use nix::sched::{CloneFlags, setns};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::netns::Namespace;
use super::{LinkError, Links};

type Job = Box<dyn for<'a> FnOnce(&'a Desk) -> Pin<Box<dyn Future<Output = ()> + 'a>> + Send>;

enum Order {
    Do(Job),
    Remove(Removal),
}

struct Removal {
    device: String,
    done: oneshot::Sender<Result<(), LinkError>>,
}

/// The thread, made when there is work for it. It works in the network namespace of whoever asks first.
pub struct Worker {
    links: Links,
    orders: Mutex<Option<Sender<Order>>>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("links", &self.links).finish_non_exhaustive()
    }
}

/// What a job has at hand.
#[derive(Debug)]
pub struct Desk {
    /// Netlink in the namespace that the worker belongs to.
    pub links: Links,
    home: File,
}

impl Worker {
    /// One that knows the node as `links` does.
    #[must_use]
    pub fn new(links: Links) -> Self {
        Self { links, orders: Mutex::default() }
    }

    /// Has `work` done after what was asked for before. Work whose result nobody awaits any more stops at its next request.
    ///
    /// # Errors
    /// When there can be no such thread, or `work` fails.
    pub async fn run<T, W>(&self, work: W) -> Result<T, LinkError>
    where
        T: Send + 'static,
        W: AsyncFnOnce(&Desk) -> Result<T, LinkError> + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move |desk| {
            Box::pin(async move {
                let mut done: oneshot::Sender<Result<T, LinkError>> = done;
                let result = tokio::select! {
                    biased;
                    () = done.closed() => return,
                    result = work(desk) => result,
                };
                // Nobody waits any more: just as well.
                let _ = done.send(result);
            })
        });
        self.send(Order::Do(job))?;
        result.await.map_err(|_| LinkError::Thread)?
    }

    /// Has the device of this name removed, if there is one, after what was asked for before; with those that others ask for.
    /// Routes, neighbours, filters and the other end go with it.
    ///
    /// # Errors
    /// When there can be no such thread, or the kernel refuses.
    pub async fn remove_device(&self, name: &str) -> Result<(), LinkError> {
        let (done, result) = oneshot::channel();
        self.send(Order::Remove(Removal { device: name.to_owned(), done }))?;
        result.await.map_err(|_| LinkError::Thread)?
    }

    fn send(&self, order: Order) -> Result<(), LinkError> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let order = match &*orders {
            Some(sender) => match sender.send(order) {
                Ok(()) => return Ok(()),
                // It did not find its way home, or a job killed it.
                Err(unsent) => unsent.0,
            },
            None => order,
        };
        let (sender, receiver) = channel();
        let home = File::open("/proc/thread-self/ns/net").map_err(LinkError::Namespace)?;
        let thread = std::thread::Builder::new().name("links".to_owned()).stack_size(512 << 10);
        let links = self.links.clone();
        thread.spawn(move || work_off(&links, home, &receiver)).map_err(LinkError::Namespace)?;
        let sent = sender.send(order);
        *orders = Some(sender);
        sent.map_err(|_| LinkError::Thread)
    }
}

fn work_off(links: &Links, home: File, orders: &Receiver<Order>) {
    let prepared = runtime().and_then(|runtime| {
        let links = runtime.block_on(async { links.beside() })?;
        Ok((runtime, links))
    });
    let (runtime, links) = match prepared {
        Ok(prepared) => prepared,
        Err(err) => {
            tracing::error!(err = &err as &dyn std::error::Error, "no thread can work on pods' devices");
            return;
        }
    };
    let desk = Desk { links, home };
    let mut next = None;
    while let Some(order) = next.take().or_else(|| orders.recv().ok()) {
        match order {
            Order::Do(job) => runtime.block_on(job(&desk)),
            Order::Remove(first) => {
                let mut removals = vec![first];
                while let Ok(order) = orders.try_recv() {
                    match order {
                        Order::Remove(removal) => removals.push(removal),
                        Order::Do(_) => {
                            next = Some(order);
                            break;
                        }
                    }
                }
                runtime.block_on(remove(&desk, removals));
            }
        }
        if !desk.is_home() {
            tracing::error!("a thread did not find back from a pod's network namespace and ends");
            return;
        }
    }
}

async fn remove(desk: &Desk, removals: Vec<Removal>) {
    let (devices, waiting): (Vec<_>, Vec<_>) = removals.into_iter().map(|one| (one.device, one.done)).unzip();
    for (done, result) in waiting.into_iter().zip(desk.remove_devices(&devices).await) {
        // Nobody waits any more: the device is gone all the same, or found by the next who asks.
        let _ = done.send(result);
    }
}

fn runtime() -> Result<Runtime, LinkError> {
    Builder::new_current_thread().enable_io().build().map_err(LinkError::Namespace)
}

impl Desk {
    /// Does `work` in a pod's namespace, with netlink there.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or `work` fails.
    pub async fn inside<T>(
        &self,
        namespace: &Namespace,
        work: impl AsyncFnOnce(Links) -> Result<T, LinkError>,
    ) -> Result<T, LinkError> {
        // Back also when the work is given up halfway.
        let way_back = WayBack(&self.home);
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| LinkError::Namespace(errno.into()))?;
        let result = work(Links::connect()?).await;
        drop(way_back);
        result
    }

    fn is_home(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let number = |file: &File| file.metadata().map(|data| (data.dev(), data.ino())).ok();
        File::open("/proc/thread-self/ns/net").is_ok_and(|here| number(&here) == number(&self.home))
    }
}

struct WayBack<'a>(&'a File);

impl Drop for WayBack<'_> {
    fn drop(&mut self) {
        // Where it ends up is looked at after the job.
        let _ = setns(self.0, CloneFlags::CLONE_NEWNET);
    }
}
