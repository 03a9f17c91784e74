//! Loads the object, pins what it holds, and puts it in place of what ran before.
//!
//! Everything is made and verified in `staging/` first. Then programs are replaced one by one, each atomically, and the maps
//! that had to be made anew take their names last: until then the running programs and their maps are untouched. A run that
//! finds everything in place changes nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use axoneme_bpf::programs::{self, ALL, Hook};
use axoneme_bpf::{maps, objects};
use aya::programs::{ProgramError, ProgramInfo};
use aya::{Ebpf, EbpfError, EbpfLoader};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::attach::Attacher;
use super::bpffs::{self, BpffsError};
use super::definition::Definition;
use super::kernel::{self, KernelError};
use super::sizes::{self, Size, Sizes};
use super::{DEFAULT_ROOT, Paths, cgroup, fingerprint, object, transfer};
use crate::link::{LinkError, Links};
use crate::maps::bpf;

/// What a load needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadConfig {
    /// Directory in a BPF file system; its parent is mounted as one if it is none.
    pub root: PathBuf,
    /// Where the host's cgroup v2 hierarchy is mounted.
    pub cgroup_root: PathBuf,
    /// Sizes of maps.
    pub sizes: Sizes,
}

impl Default for LoadConfig {
    fn default() -> Self {
        Self { root: DEFAULT_ROOT.into(), cgroup_root: "/sys/fs/cgroup".into(), sizes: Sizes::default() }
    }
}

/// What a load did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Maps that were not there.
    pub maps_created: Vec<String>,
    /// Maps that were there with another definition, with how many entries were carried over (`None`: they mean something
    /// else now, and are written anew by the daemon or learnt anew by the programs).
    pub maps_replaced: BTreeMap<String, Option<u32>>,
    /// Programs that were not there or different.
    pub programs_replaced: Vec<String>,
    /// Links of devices and of the cgroup that were made or told to use another program.
    pub links_changed: usize,
    /// Pods' devices that ran another version.
    pub pods_changed: usize,
    /// Devices are attached to by tcx; if not, by clsact.
    pub tcx: bool,
}

/// Why a load failed. What ran before runs on.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel cannot do what is needed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A directory is not what is needed.
    #[error(transparent)]
    Bpffs(#[from] BpffsError),
    /// Another load runs.
    #[error("another load runs in {0}")]
    Busy(PathBuf),
    /// The object cannot be read: a broken build.
    #[error("the built-in BPF object is broken")]
    Object(#[from] aya_obj::ParseError),
    /// The object lacks a map or program: a broken build.
    #[error("the built-in BPF object lacks {0}")]
    Lacks(&'static str),
    /// Maps could not be made.
    #[error("cannot load the BPF object")]
    Load(#[source] Box<EbpfError>),
    /// The kernel refused a program.
    #[error("the kernel refuses program {name}")]
    Program {
        /// Its name.
        name: &'static str,
        /// What the kernel said, with its log.
        source: Box<ProgramError>,
    },
    /// An object could not be pinned, opened or put in place.
    #[error("cannot put {name} in place")]
    Place {
        /// Its name.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A device refused its program.
    #[error(transparent)]
    Attach(#[from] LinkError),
}

fn place(name: &str) -> impl FnOnce(io::Error) -> LoadError {
    move |source| LoadError::Place { name: name.to_owned(), source }
}

/// Loads, pins and attaches. Blocks; meant to be run in a process of its own, in the host's network namespace.
///
/// # Errors
/// Naming what is missing or refused. Nothing was replaced then, unless the kernel refused in the middle of replacing; a later
/// run completes it.
pub fn load(config: &LoadConfig) -> Result<LoadReport, LoadError> {
    raise_memlock();
    kernel::check()?;
    let cgroup_root = bpffs::find_cgroup(&config.cgroup_root)?;
    let paths = Paths::new(&config.root);
    bpffs::prepare(paths.root(), &[paths.maps(), paths.programs(), paths.links(), paths.staging()])?;
    let root = File::open(paths.root()).map_err(BpffsError::directory(paths.root()))?;
    let _lock = Flock::lock(root, FlockArg::LockExclusiveNonblock).map_err(|_| LoadError::Busy(config.root.clone()))?;
    clear(&paths)?;

    let sizes = config.sizes.resolve(sizes::memory_bytes().map_err(place("sizes of maps"))?);
    let (mut report, mut plan) = (LoadReport::default(), None);
    if !fingerprint::is_current(&paths, &sizes) {
        fingerprint::forget(&paths).map_err(place("the fingerprint"))?;
        let plan = plan.insert(Plan::new(&paths, &sizes)?);
        let mut loaded = plan.load(&paths, &sizes)?;
        report.maps_created = plan.created();
        for name in plan.replaced() {
            report.maps_replaced.insert(name.to_owned(), plan.carry_over(&paths, name).map_err(place(name))?);
        }
        report.programs_replaced = pin_programs(&paths, &mut loaded)?;
    }

    report.links_changed = cgroup::attach(&paths, &cgroup_root).map_err(place("the cgroup's programs"))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(place("programs of devices"))?;
    runtime.block_on(async {
        let attacher = Attacher::new(paths.clone(), Links::connect()?).map_err(place("programs of devices"))?;
        report.tcx = attacher.tcx();
        report.links_changed += attacher.refresh_devices().map_err(place("programs of devices"))?;
        report.pods_changed = attacher.refresh_pods().await?;
        Ok::<_, LoadError>(())
    })?;
    if let Some(plan) = plan {
        for name in plan.replaced() {
            fs::rename(paths.staging().join(name), paths.maps().join(name)).map_err(place(name))?;
        }
        remove_unknown(&paths)?;
        fingerprint::keep(&paths, &sizes).map_err(place("the fingerprint"))?;
    }
    Ok(report)
}

/// Whether a load would change nothing, so that it need not be run. Makes sure that the cgroup's programs are attached; those of
/// devices are whoever's who keeps the device.
#[must_use]
pub fn is_loaded(config: &LoadConfig) -> bool {
    let paths = Paths::new(&config.root);
    let sizes = sizes::memory_bytes().map(|memory| config.sizes.resolve(memory));
    sizes.is_ok_and(|sizes| fingerprint::is_current(&paths, &sizes))
        && bpffs::find_cgroup(&config.cgroup_root).is_ok_and(|root| cgroup::attach(&paths, &root).is_ok())
}

/// What becomes of every map.
struct Plan {
    maps: BTreeMap<&'static str, (Definition, Fate)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Create,
    Reuse,
    Replace,
}

impl Plan {
    fn new(paths: &Paths, sizes: &[Size]) -> Result<Self, LoadError> {
        let mut maps = BTreeMap::new();
        let definitions = object::definitions(sizes)?;
        for name in axoneme_bpf::maps::ALL {
            let definition = *definitions.get(name).ok_or(LoadError::Lacks(name))?;
            let fate = match bpf::open_pinned(&paths.maps().join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Fate::Create,
                pinned => {
                    let info = pinned.and_then(|map| bpf::map_info(map.as_fd())).map_err(place(name))?;
                    let differences = definition.differences(&info);
                    for difference in &differences {
                        tracing::warn!(map = name, %difference, "the pinned map is replaced");
                    }
                    if differences.is_empty() { Fate::Reuse } else { Fate::Replace }
                }
            };
            maps.insert(*name, (definition, fate));
        }
        Ok(Self { maps })
    }

    fn with(&self, fate: Fate) -> impl Iterator<Item = &'static str> + '_ {
        self.maps.iter().filter(move |(_, (_, has))| *has == fate).map(|(name, _)| *name)
    }

    fn created(&self) -> Vec<String> {
        self.with(Fate::Create).map(str::to_owned).collect()
    }

    fn replaced(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.with(Fate::Replace)
    }

    /// Makes maps that are missing, and loads all programs with their maps; nothing is attached yet.
    fn load(&self, paths: &Paths, sizes: &[Size]) -> Result<Ebpf, LoadError> {
        let mut loader = EbpfLoader::new();
        for (name, (_, fate)) in &self.maps {
            let directory = if *fate == Fate::Replace { paths.staging() } else { paths.maps() };
            loader.map_pin_path(name, directory.join(name));
        }
        for size in sizes {
            loader.map_max_entries(size.map, size.entries);
        }
        let mut loaded = loader.load(objects::AXONEME).map_err(|error| LoadError::Load(Box::new(error)))?;
        verify(&mut loaded)?;
        Ok(loaded)
    }

    /// Fills the new map of this name from the pinned one, where entries mean the same in both.
    fn carry_over(&self, paths: &Paths, name: &str) -> io::Result<Option<u32>> {
        let Some((definition, _)) = self.maps.get(name) else { return Ok(None) };
        let old = bpf::open_pinned(&paths.maps().join(name))?;
        let info = bpf::map_info(old.as_fd())?;
        if !definition.same_entries(&info) || !transfer::is_possible(name) {
            return Ok(None);
        }
        let new = bpf::open_pinned(&paths.staging().join(name))?;
        transfer::copy(old.as_fd(), new.as_fd(), &info).map(Some)
    }
}

/// Has the kernel verify all programs, which is what a first load takes its time for: one in each thread.
fn verify(loaded: &mut Ebpf) -> Result<(), LoadError> {
    if let Some((name, _)) = ALL.iter().find(|(name, _)| loaded.program(name).is_none()) {
        return Err(LoadError::Lacks(name));
    }
    std::thread::scope(|scope| {
        let mut verifying = Vec::new();
        for (name, program) in loaded.programs_mut() {
            let Some((name, _)) = ALL.iter().find(|(known, _)| *known == name) else { continue };
            verifying.push((name, scope.spawn(|| programs::load(program))));
        }
        for (name, verified) in verifying {
            let refused = |source| LoadError::Program { name, source: Box::new(source) };
            // A thread that panicked says why itself.
            verified.join().ok().ok_or(LoadError::Lacks(name))?.map_err(refused)?;
        }
        Ok(())
    })
}

/// Puts programs in place whose instructions or maps are not those of the pinned ones.
fn pin_programs(paths: &Paths, loaded: &mut Ebpf) -> Result<Vec<String>, LoadError> {
    let mut replaced = Vec::new();
    for (name, _) in ALL {
        let refused = |source| LoadError::Program { name, source: Box::new(source) };
        let program = loaded.program_mut(name).ok_or(LoadError::Lacks(name))?;
        let pin = paths.programs().join(name);
        let pinned = ProgramInfo::from_pin(&pin).ok();
        let info = program.info().map_err(refused)?;
        if pinned.is_some_and(|pinned| same(&pinned, &info)) {
            continue;
        }
        let staged = paths.staging().join(name);
        let fd = program.fd().map_err(refused)?;
        bpf::pin(fd.as_fd(), &staged).and_then(|()| fs::rename(&staged, &pin)).map_err(place(name))?;
        replaced.push((*name).to_owned());
    }
    Ok(replaced)
}

fn same(pinned: &ProgramInfo, loaded: &ProgramInfo) -> bool {
    let maps = |info: &ProgramInfo| {
        let mut ids = info.map_ids().ok().flatten()?;
        ids.sort_unstable();
        Some(ids)
    };
    pinned.tag() == loaded.tag() && maps(pinned).is_some() && maps(pinned) == maps(loaded)
}

/// Forgets what an interrupted run left.
fn clear(paths: &Paths) -> Result<(), LoadError> {
    let staging = paths.staging();
    let entries = fs::read_dir(&staging).map_err(BpffsError::directory(&staging))?;
    for entry in entries.flatten() {
        fs::remove_file(entry.path()).map_err(BpffsError::directory(&staging))?;
    }
    Ok(())
}

/// Unpins what another version had: its programs would go on running where this version has none, its maps would keep their memory.
fn remove_unknown(paths: &Paths) -> Result<(), LoadError> {
    let known = |name: &str| ALL.iter().any(|(known, _)| *known == name);
    let known_link = |name: &str| {
        let of_device = |program: &str| ALL.iter().any(|(known, hook)| *known == program && *hook != Hook::Cgroup);
        known(name)
            || name
                .rsplit_once('_')
                .is_some_and(|(program, device)| device.parse::<u32>().is_ok() && of_device(program))
    };
    let known_map = |name: &str| maps::ALL.contains(&name);
    let directories =
        [(paths.links(), &known_link as &dyn Fn(&str) -> bool), (paths.programs(), &known), (paths.maps(), &known_map)];
    for (directory, keep) in directories {
        for entry in fs::read_dir(&directory).map_err(BpffsError::directory(&directory))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !keep(&name) {
                tracing::info!(%name, "unpinning what another version had");
                fs::remove_file(entry.path()).map_err(place(&name))?;
            }
        }
    }
    Ok(())
}

/// Before Linux 5.11 maps count as locked memory, of which a process may have little. Later kernels do not mind.
fn raise_memlock() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit is only read, and lives through the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) } != 0 {
        tracing::debug!(error = %io::Error::last_os_error(), "cannot raise the limit of locked memory");
    }
}
