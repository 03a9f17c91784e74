//! Pinned programs on devices.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use axoneme_bpf::programs::{ALL, FROM_OVERLAY, FROM_POD, FROM_UPLINK, Hook, TO_OVERLAY, TO_POD, TO_UPLINK};

use super::{Paths, syscall};
use crate::link::device::Device;
use crate::link::filter::Direction;
use crate::link::uplink::is_pod_device;
use crate::link::veth::PodPrograms;
use crate::link::{LinkError, Links};
use crate::maps::bpf;

/// The programs of a device: (direction, name).
pub type DevicePrograms = [(Direction, &'static str); 2];

/// On devices that lead to other nodes.
pub const UPLINK: DevicePrograms = [(Direction::Ingress, FROM_UPLINK), (Direction::Egress, TO_UPLINK)];
/// On the VXLAN device.
pub const OVERLAY: DevicePrograms = [(Direction::Ingress, FROM_OVERLAY), (Direction::Egress, TO_OVERLAY)];
/// On the host side of pods' devices.
pub const POD: DevicePrograms = [(Direction::Ingress, FROM_POD), (Direction::Egress, TO_POD)];

/// The pinned programs of pods, held open.
#[derive(Debug)]
pub struct PodProgramFds {
    from_pod: OwnedFd,
    to_pod: OwnedFd,
}

impl PodProgramFds {
    /// Opens what is pinned now; a loader run replaces the pins, so this is not kept for long.
    ///
    /// # Errors
    /// When they are not there.
    pub fn open(paths: &Paths) -> io::Result<Self> {
        let open = |name| bpf::open_pinned(&paths.programs().join(name));
        Ok(Self { from_pod: open(FROM_POD)?, to_pod: open(TO_POD)? })
    }

    /// For [`Links::configure_host_side`].
    #[must_use]
    pub fn as_programs(&self) -> PodPrograms<'_> {
        PodPrograms { from_pod: self.from_pod.as_fd(), to_pod: self.to_pod.as_fd() }
    }

    /// The kernel's ids of the programs: (from the pod, to the pod).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn ids(&self) -> io::Result<(u32, u32)> {
        Ok((syscall::program_info(self.from_pod.as_fd())?.id, syscall::program_info(self.to_pod.as_fd())?.id))
    }
}

/// Attaches pinned programs to the node's own devices.
#[derive(Clone, Debug)]
pub struct Attacher {
    paths: Paths,
    links: Links,
    tcx: bool,
}

impl Attacher {
    /// Finds out how this kernel attaches.
    ///
    /// # Errors
    /// When there are no pinned programs.
    pub fn new(paths: Paths, links: Links) -> io::Result<Self> {
        let program = bpf::open_pinned(&paths.programs().join(FROM_UPLINK))?;
        let tcx = syscall::has_tcx(program.as_fd())?;
        Ok(Self { paths, links, tcx })
    }

    /// As on a kernel without tcx.
    #[must_use]
    pub fn without_tcx(paths: Paths, links: Links) -> Self {
        Self { paths, links, tcx: false }
    }

    /// Whether devices are attached to by tcx; if not, by clsact.
    #[must_use]
    pub fn tcx(&self) -> bool {
        self.tcx
    }

    /// Makes the pinned programs run on a device. What runs already is left alone; another version is replaced atomically.
    ///
    /// # Errors
    /// Naming the program and the device.
    pub async fn attach(&self, device: &Device, programs: &DevicePrograms) -> Result<(), LinkError> {
        for &(direction, name) in programs {
            let error = |source| LinkError::Attach { program: name.to_owned(), device: device.name.clone(), source };
            let program = bpf::open_pinned(&self.paths.programs().join(name)).map_err(error)?;
            if self.tcx {
                self.attach_tcx(device.index, direction, name, &program).map_err(error)?;
            } else {
                self.attach_clsact(device.index, direction, name, &program).await?;
            }
        }
        Ok(())
    }

    fn attach_tcx(&self, device: u32, direction: Direction, name: &str, program: &OwnedFd) -> io::Result<()> {
        let pin = self.device_pin(name, device);
        match bpf::open_pinned(&pin) {
            Ok(link) => {
                let info = syscall::link_info(link.as_fd())?;
                if info.target == device {
                    let same = info.program == syscall::program_info(program.as_fd())?.id;
                    return if same { Ok(()) } else { syscall::update(link.as_fd(), program.as_fd()) };
                }
                // The device is gone, and another one has its number now.
                fs::remove_file(&pin)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let link = syscall::attach_tcx(program.as_fd(), device, direction)?;
        bpf::pin(link.as_fd(), &pin)
    }

    async fn attach_clsact(
        &self,
        device: u32,
        direction: Direction,
        name: &'static str,
        program: &OwnedFd,
    ) -> Result<(), LinkError> {
        let id = syscall::program_info(program.as_fd()).ok().map(|info| info.id);
        self.links.ensure_clsact(device).await?;
        if id.is_some() && self.links.filter(device, direction).await? == id {
            return Ok(());
        }
        self.links.set_filter(device, direction, name, program.as_fd()).await
    }

    /// Takes our programs off devices that are neither pods' nor in `keep`: a device is no uplink any more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn detach_others(&self, keep: &[u32]) -> Result<(), LinkError> {
        let error = |source| LinkError::Attach { program: "of a former uplink".into(), device: "links".into(), source };
        for (_, device, pin) in self.device_pins().map_err(error)? {
            if !keep.contains(&device) {
                fs::remove_file(pin).map_err(error)?;
            }
        }
        if self.tcx {
            return Ok(());
        }
        for device in self.links.devices().await? {
            if !keep.contains(&device.index) && !is_pod_device(&device.name) {
                self.links.delete_filter(device.index, Direction::Ingress).await?;
                self.links.delete_filter(device.index, Direction::Egress).await?;
            }
        }
        Ok(())
    }

    /// Makes all pods' devices run the pinned programs. Returns how many did not.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn refresh_pods(&self) -> Result<usize, LinkError> {
        let error = |source| LinkError::Attach { program: FROM_POD.into(), device: "pods".into(), source };
        let programs = PodProgramFds::open(&self.paths).map_err(error)?;
        let (from_pod, to_pod) = programs.ids().map_err(error)?;
        let PodPrograms { from_pod: from_fd, to_pod: to_fd } = programs.as_programs();
        let mut replaced = 0;
        for device in self.links.devices().await?.into_iter().filter(|device| is_pod_device(&device.name)) {
            let mut stale = false;
            for (direction, name, fd, id) in
                [(Direction::Ingress, FROM_POD, from_fd, from_pod), (Direction::Egress, TO_POD, to_fd, to_pod)]
            {
                match self.links.filter(device.index, direction).await? {
                    Some(current) if current != id => {
                        stale = true;
                        match self.links.set_filter(device.index, direction, name, fd).await {
                            // Its pod went away meanwhile.
                            Err(error) if error.is_absent() => {}
                            result => result?,
                        }
                    }
                    // Up to date, or an attachment in the making, which will take the pinned ones itself.
                    _ => {}
                }
            }
            replaced += usize::from(stale);
        }
        Ok(replaced)
    }

    /// Makes the links of all devices run the pinned programs. Returns how many did not.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn refresh_devices(&self) -> io::Result<usize> {
        let mut replaced = 0;
        for (name, _, pin) in self.device_pins()? {
            let program = bpf::open_pinned(&self.paths.programs().join(name))?;
            let link = bpf::open_pinned(&pin)?;
            let info = syscall::link_info(link.as_fd())?;
            if info.target == 0 {
                fs::remove_file(&pin)?;
            } else if info.program != syscall::program_info(program.as_fd())?.id {
                syscall::update(link.as_fd(), program.as_fd())?;
                replaced += 1;
            }
        }
        Ok(replaced)
    }

    fn device_pin(&self, program: &str, device: u32) -> PathBuf {
        self.paths.links().join(format!("{program}_{device}"))
    }

    /// Pinned links of devices: program, index of the device, path.
    fn device_pins(&self) -> io::Result<Vec<(&'static str, u32, PathBuf)>> {
        let mut pins = Vec::new();
        for entry in fs::read_dir(self.paths.links())? {
            let entry = entry?;
            let name = entry.file_name();
            let parsed = name.to_str().and_then(|name| name.rsplit_once('_')).and_then(|(program, device)| {
                let (program, _) = ALL.iter().find(|(known, hook)| *known == program && *hook != Hook::Cgroup)?;
                Some((*program, device.parse().ok()?))
            });
            pins.extend(parsed.map(|(program, device)| (program, device, entry.path())));
        }
        Ok(pins)
    }
}
