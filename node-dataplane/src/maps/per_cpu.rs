//! Counters that each CPU has for itself: `ax_metrics`.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use axoneme_bpf::maps::METRICS;
use axoneme_bpf::metrics::{Metrics, MetricsKey};

use super::bpf;
use super::kernel::OpenError;

/// The programs' counters, by reason and direction.
#[derive(Debug)]
pub struct Counters {
    fd: OwnedFd,
    cpus: usize,
}

impl Counters {
    /// Opens the counters that are pinned in `directory`.
    ///
    /// # Errors
    /// When they are not there, or made for other keys or values.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join(METRICS);
        let opened = bpf::open_pinned(&path).and_then(|fd| Ok((bpf::map_info(fd.as_fd())?, fd, possible_cpus()?)));
        let (info, fd, cpus) = opened.map_err(|source| OpenError::Pin { path: path.clone(), source })?;
        let (found_key, found_value) = (info.key_size, info.value_size);
        let (key, value) = (size_of::<u32>(), size_of::<Metrics>());
        if (found_key as usize, found_value as usize) != (key, value) {
            return Err(OpenError::Layout { path, found_key, found_value, key, value });
        }
        Ok(Self { fd, cpus })
    }

    /// All counters that are not zero, summed over CPUs.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn read(&self) -> io::Result<Vec<(MetricsKey, Metrics)>> {
        let mut counters = Vec::new();
        let mut values = vec![Metrics::default(); self.cpus];
        for key in MetricsKey::all() {
            let index = key.index();
            // SAFETY: open compared the size of the key with the map's; values has room for one value per possible CPU, whose
            // size is a multiple of 8.
            unsafe { bpf::lookup(self.fd.as_fd(), (&raw const index).cast(), values.as_mut_ptr().cast()) }?;
            let sum = values.iter().fold(Metrics::default(), |sum, cpu| Metrics {
                packets: sum.packets.wrapping_add(cpu.packets),
                bytes: sum.bytes.wrapping_add(cpu.bytes),
            });
            if sum != Metrics::default() {
                counters.push((key, sum));
            }
        }
        Ok(counters)
    }
}

const _: () = assert!(size_of::<Metrics>().is_multiple_of(8), "a per-CPU value is rounded up to 8 bytes");

/// How many CPUs the kernel keeps room for.
fn possible_cpus() -> io::Result<usize> {
    let text = fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<usize>().ok());
    last.map(|last| last + 1)
        .ok_or_else(|| io::Error::other(format!("/sys/devices/system/cpu/possible holds {text:?}")))
}
