//! The `bpf(2)` calls that the daemon makes: objects by pin, map entries one by one and in batches.
//!
//! The loader uses a library for ELF and BTF; the daemon only needs this, and so does not hold what a loader holds. Layouts are
//! those of `union bpf_attr` in `linux/bpf.h`, which only ever grow.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const MAP_GET_NEXT_KEY: libc::c_int = 4;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const MAP_LOOKUP_BATCH: libc::c_int = 24;

/// What batch operations answer on maps that do not have them; unknown to libc.
pub const ENOTSUPP: i32 = 524;

/// Map types, of `enum bpf_map_type`.
pub mod map_type {
    /// `BPF_MAP_TYPE_ARRAY`
    pub const ARRAY: u32 = 2;
}

/// Makes a call with the attributes `attr`, which the kernel may write to.
///
/// # Safety
/// `attr` must be the attributes of `command`, and every pointer in it valid for what the command reads and writes there.
pub unsafe fn call<A>(command: libc::c_int, attr: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: attr is a live and exclusive borrow of size_of::<A>() bytes; the rest is promised by the caller.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Owns the descriptor that a call returned.
///
/// # Safety
/// `result` must be a new descriptor that nobody else owns.
pub unsafe fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    let raw = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: promised by the caller.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

#[repr(C)]
#[derive(Default)]
struct Object {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Opens a pinned map, program or link.
///
/// # Errors
/// When there is none (`NotFound`), or the path is not in a BPF file system.
pub fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Object { pathname: path.as_ptr() as u64, ..Object::default() };
    // SAFETY: the path is a C string that outlives the call, and OBJ_GET returns a new descriptor.
    unsafe { descriptor(call(OBJ_GET, &mut attr)?) }
}

/// Pins a map, program or link at `path`, which must not exist.
///
/// # Errors
/// When the kernel refuses.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let bpf_fd = object.as_raw_fd().cast_unsigned();
    let mut attr = Object { pathname: path.as_ptr() as u64, bpf_fd, ..Object::default() };
    // SAFETY: the path is a C string that outlives the call.
    unsafe { call(OBJ_PIN, &mut attr) }.map(drop)
}

#[repr(C)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// What the kernel tells of a map, program or link, as far as `I` goes.
///
/// # Safety
/// `I` must be a prefix of the information of this kind of object, made of integers only, and hold no address at which the
/// kernel would write.
pub unsafe fn info<I: Default>(object: BorrowedFd<'_>) -> io::Result<I> {
    let mut info = I::default();
    let info_len = u32::try_from(size_of::<I>()).map_err(io::Error::other)?;
    let bpf_fd = object.as_raw_fd().cast_unsigned();
    let mut attr = InfoByFd { bpf_fd, info_len, info: std::ptr::from_mut(&mut info) as u64 };
    // SAFETY: the kernel writes at most info_len bytes to info, which lives and is borrowed by nobody else.
    unsafe { call(OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info)
}

/// The definition of a map: what must be equal before a pinned one may be used as if we had made it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapInfo {
    /// `enum bpf_map_type`.
    pub kind: u32,
    /// Of the kernel, never reused.
    pub id: u32,
    /// Bytes.
    pub key_size: u32,
    /// Bytes.
    pub value_size: u32,
    /// How many entries fit.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
}

/// The definition of a map.
///
/// # Errors
/// When the kernel refuses.
pub fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    // SAFETY: MapInfo is the beginning of struct bpf_map_info and holds integers only.
    unsafe { info(map) }
}

#[repr(C)]
#[derive(Default)]
struct Element {
    map_fd: u32,
    reserved: u32,
    key: u64,
    /// Or where the next key goes.
    value: u64,
    flags: u64,
}

fn element(map: BorrowedFd<'_>, key: *const u8, value: *const u8) -> Element {
    Element { map_fd: map.as_raw_fd().cast_unsigned(), key: key as u64, value: value as u64, ..Element::default() }
}

/// Reads the value at `key` into `value`.
///
/// # Safety
/// `key` must be readable and `value` writable for as many bytes as the map's keys and values have (values of per-CPU maps: once
/// per possible CPU, rounded up to 8 bytes).
pub unsafe fn lookup(map: BorrowedFd<'_>, key: *const u8, value: *mut u8) -> io::Result<()> {
    // SAFETY: promised by the caller.
    unsafe { call(MAP_LOOKUP_ELEM, &mut element(map, key, value)) }.map(drop)
}

/// Writes `value` at `key`, whether or not there is an entry.
///
/// # Safety
/// As for [`lookup`], both readable.
pub unsafe fn update(map: BorrowedFd<'_>, key: *const u8, value: *const u8) -> io::Result<()> {
    // SAFETY: promised by the caller.
    unsafe { call(MAP_UPDATE_ELEM, &mut element(map, key, value)) }.map(drop)
}

/// Removes the entry at `key`.
///
/// # Safety
/// As for [`lookup`].
pub unsafe fn delete(map: BorrowedFd<'_>, key: *const u8) -> io::Result<()> {
    // SAFETY: promised by the caller.
    unsafe { call(MAP_DELETE_ELEM, &mut element(map, key, std::ptr::null())) }.map(drop)
}

/// Writes the key after `key` (null: the first one) to `next`.
///
/// # Safety
/// `key` must be null or readable, `next` writable, for as many bytes as the map's keys have.
pub unsafe fn next_key(map: BorrowedFd<'_>, key: *const u8, next: *mut u8) -> io::Result<()> {
    // SAFETY: promised by the caller.
    unsafe { call(MAP_GET_NEXT_KEY, &mut element(map, key, next)) }.map(drop)
}

#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

/// What a batch of lookups found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// How many keys and values were written.
    pub count: u32,
    /// No more batches follow.
    pub last: bool,
}

/// Reads up to `count` entries into `keys` and `values`; `from` is what the last batch wrote to `position`, null for the first.
///
/// # Errors
/// ENOSPC: `count` is too small for the next bucket of a hash. [`ENOTSUPP`] or EINVAL: this kind of map has no batches.
///
/// # Safety
/// `keys` and `values` must be writable for `count` keys and values; `from`, unless null, readable and `position` writable for
/// the larger one of a key and 8 bytes.
pub unsafe fn lookup_batch(
    map: BorrowedFd<'_>,
    from: *const u8,
    position: *mut u8,
    keys: *mut u8,
    values: *mut u8,
    count: u32,
) -> io::Result<Found> {
    let mut attr = Batch {
        in_batch: from as u64,
        out_batch: position as u64,
        keys: keys as u64,
        values: values as u64,
        count,
        map_fd: map.as_raw_fd().cast_unsigned(),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: promised by the caller.
    match unsafe { call(MAP_LOOKUP_BATCH, &mut attr) } {
        Ok(_) => Ok(Found { count: attr.count, last: false }),
        // The end; what was found until then is valid.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Found { count: attr.count, last: true }),
        Err(error) => Err(error),
    }
}
