//! Programs that are attached to devices and to the root cgroup, whoever attached them: tcx, tc filters, XDP, sockets.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use nix::sys::socket::SockProtocol;

use super::Attached;
use crate::maps::bpf;
use crate::netlink::{attributes, list, number, text};
use crate::programs::bpffs::HYBRID;

const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
/// More are not attached at a place; the kernel allows 64.
const MOST: usize = 64;

/// `enum bpf_attach_type`, of tcx.
const TCX: [(u32, &str); 2] = [(46, "ingress"), (47, "egress")];
/// ... of cgroups: what translates Services at sockets, in the words of `bpftool cgroup`.
const CGROUP: [(u32, &str); 12] = [
    (2, "cgroup_inet_sock_create"),
    (10, "cgroup_inet4_connect"),
    (11, "cgroup_inet6_connect"),
    (12, "cgroup_inet4_post_bind"),
    (13, "cgroup_inet6_post_bind"),
    (14, "cgroup_udp4_sendmsg"),
    (15, "cgroup_udp6_sendmsg"),
    (19, "cgroup_udp4_recvmsg"),
    (20, "cgroup_udp6_recvmsg"),
    (29, "cgroup_inet4_getpeername"),
    (30, "cgroup_inet6_getpeername"),
    (34, "cgroup_inet_sock_release"),
];

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
/// `struct ifinfomsg`: family, type, index, flags, change.
const LINK_HEADER: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
/// `struct tcmsg`: family, index, handle, parent, info.
const FILTER_HEADER: usize = 20;
/// Of clsact, from where packets come and whereto they go.
const PARENTS: [(u32, &str); 2] = [(0xffff_fff2, "ingress"), (0xffff_fff3, "egress")];
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_ID: u16 = 11;

/// A device, and the program of XDP that it has.
struct Device {
    index: u32,
    name: String,
    xdp: Option<u32>,
}

/// Everything that is attached in this network namespace, and to this cgroup.
pub(super) fn attached(cgroup: &Path) -> io::Result<Vec<Attached>> {
    let mut found = Vec::new();
    for device in devices()? {
        let name = &device.name;
        if let Some(id) = device.xdp.filter(|id| *id != 0) {
            let removal = format!("ip link set dev {name} xdp off");
            found.push(Attached { program: program_name(id)?, place: format!("{name} (XDP)"), removal });
        }
        for (kind, direction) in TCX {
            for id in query(Target::Device(device.index), kind)? {
                let removal = "remove its pins below /sys/fs/bpf, or restart the node".to_owned();
                let place = format!("{name} {direction} (tcx)");
                found.push(Attached { program: program_name(id)?, place, removal });
            }
        }
        for (parent, direction) in PARENTS {
            for id in filters(device.index, parent)? {
                let removal = format!("tc filter delete dev {name} {direction}");
                let place = format!("{name} {direction} (tc)");
                found.push(Attached { program: program_name(id)?, place, removal });
            }
        }
    }
    // The version 2 of a hybrid host, or all there is.
    let opened = [cgroup.join(HYBRID), cgroup.to_owned()].into_iter().find_map(|it| Some((File::open(&it).ok()?, it)));
    let Some((opened, folder)) = opened else { return Ok(found) };
    for (kind, shown) in CGROUP {
        for id in query(Target::Cgroup(opened.as_fd()), kind)? {
            let detach = format!("bpftool cgroup detach {} {shown} id {id}", folder.display());
            let removal = format!("remove its pins below /sys/fs/bpf, or: {detach}");
            found.push(Attached { program: program_name(id)?, place: format!("{shown} (root cgroup)"), removal });
        }
    }
    Ok(found)
}

fn devices() -> io::Result<Vec<Device>> {
    let mut devices = Vec::new();
    list(SockProtocol::NetlinkRoute, RTM_GETLINK, &[0; LINK_HEADER], RTM_NEWLINK, |body| devices.extend(device(body)))?;
    Ok(devices)
}

fn device(body: &[u8]) -> Option<Device> {
    let (mut name, mut xdp) = (None, None);
    for (kind, value) in attributes(body.get(LINK_HEADER..)?) {
        match kind {
            IFLA_IFNAME => name = Some(text(value)),
            IFLA_XDP => {
                xdp = attributes(value).find(|(kind, _)| *kind == IFLA_XDP_PROG_ID).and_then(|(_, id)| number(id))
            }
            _ => {}
        }
    }
    Some(Device { index: number(body.get(4..)?)?, name: name?, xdp })
}

/// Ids of the programs among a device's filters.
fn filters(device: u32, parent: u32) -> io::Result<Vec<u32>> {
    let mut header = [0; FILTER_HEADER];
    header[4..8].copy_from_slice(&device.to_ne_bytes());
    header[12..16].copy_from_slice(&parent.to_ne_bytes());
    let mut found = Vec::new();
    let listed = list(SockProtocol::NetlinkRoute, RTM_GETTFILTER, &header, RTM_NEWTFILTER, |body| {
        found.extend(body.get(FILTER_HEADER..).and_then(filter));
    });
    match listed {
        // It has no place for filters, or has gone since.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENODEV | libc::EOPNOTSUPP)) => {
            Ok(Vec::new())
        }
        listed => listed.map(|()| found),
    }
}

/// None: it is no program.
fn filter(listed: &[u8]) -> Option<u32> {
    let of = |bytes, wanted| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    if of(listed, TCA_KIND).map(text)? != "bpf" {
        return None;
    }
    of(of(listed, TCA_OPTIONS)?, TCA_BPF_ID).and_then(number)
}

/// Where programs are attached.
#[derive(Clone, Copy)]
enum Target<'a> {
    Device(u32),
    Cgroup(BorrowedFd<'a>),
}

/// The beginning of the attributes of `BPF_PROG_QUERY`.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    reserved: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// Ids of programs.
fn query(target: Target<'_>, attach_type: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0; MOST];
    let target = match target {
        Target::Device(index) => index,
        Target::Cgroup(folder) => folder.as_raw_fd().cast_unsigned(),
    };
    let programs = ids.as_mut_ptr() as u64;
    let mut attr = Query { target, attach_type, programs, count: MOST as u32, ..Query::default() };
    // SAFETY: Query is the beginning of the attributes of PROG_QUERY; the kernel writes at most `count` ids to the array, which
    // lives as long as the call.
    match unsafe { bpf::call(PROG_QUERY, &mut attr) } {
        Ok(_) => Ok(ids.into_iter().take(attr.count as usize).collect()),
        // A kernel without tcx or without this kind, a device that has gone since, a cgroup of version 1.
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENODEV | libc::ENOENT | libc::EBADF)) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// `struct bpf_prog_info` up to the program's name.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Named {
    before: [u64; 8],
    name: [u8; 16],
}

/// What a program is called; nothing once it has gone.
fn program_name(id: u32) -> io::Result<String> {
    let mut attr = [id, 0, 0];
    // SAFETY: the attributes of PROG_GET_FD_BY_ID are the id, one of which we do not begin, and flags; it returns a new descriptor.
    let program = match unsafe { bpf::call(PROG_GET_FD_BY_ID, &mut attr).and_then(|result| bpf::descriptor(result)) } {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        program => program?,
    };
    // SAFETY: Named is the beginning of struct bpf_prog_info and holds integers only. Among those before the name are addresses at
    // which the kernel writes as much as the lengths beside them say, which are zero.
    let info: Named = unsafe { bpf::info(program.as_fd()) }?;
    Ok(text(&info.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_this_machine_are_listed() {
        let devices = devices().unwrap();
        let loopback = devices.iter().find(|device| device.name == "lo").expect("every namespace has one");
        assert_eq!(loopback.index, 1);
    }
}
