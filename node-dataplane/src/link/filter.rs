//! BPF programs on devices by clsact and cls_bpf: for pods' devices, because attaching by tcx waits for a grace period (12-16
//! ms), and for all devices on kernels without tcx.

use std::os::fd::{AsRawFd, BorrowedFd};

use futures::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};

use super::{LinkError, Links, Operation};

/// Ours among the filters of a device: one, with this handle, at the first priority.
const HANDLE: u32 = 1;
const PRIORITY: u32 = 1;
const ETH_P_ALL: u16 = 0x0003;

/// Which packets of a device a program sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Those it receives. On the host side of a veth: what the pod sends.
    Ingress,
    /// Those it sends.
    Egress,
}

impl Direction {
    fn parent(self) -> TcHandle {
        let minor = match self {
            Self::Ingress => TcHandle::MIN_INGRESS,
            Self::Egress => TcHandle::MIN_EGRESS,
        };
        TcHandle { major: TcHandle::CLSACT.major, minor }
    }
}

impl Links {
    /// Gives a device the place where filters hang, unless it has it.
    ///
    /// # Errors
    /// When the kernel refuses, for one because another queueing discipline (`ingress`) is in that place.
    pub async fn ensure_clsact(&self, device: u32) -> Result<(), LinkError> {
        let mut handle = self.handle.clone();
        let mut message = TcMessage::with_index(index(device));
        message.header.parent = TcHandle::CLSACT;
        message.header.handle = TcHandle { major: u16::MAX, minor: 0 };
        message.attributes.push(TcAttribute::Kind("clsact".to_owned()));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
        execute(&mut handle, request)
            .await
            .map_err(LinkError::netlink(Operation::Create, format_args!("clsact on device {device}")))
    }

    /// Hangs a program on a device, in place of an earlier one of ours; no packet goes without either. Needs clsact.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn set_filter(
        &self,
        device: u32,
        direction: Direction,
        name: &str,
        program: BorrowedFd<'_>,
    ) -> Result<(), LinkError> {
        let mut handle = self.handle.clone();
        let mut message = TcMessage::with_index(index(device));
        message.header.parent = direction.parent();
        message.header.handle = TcHandle::from(HANDLE);
        message.header.info = PRIORITY << 16 | u32::from(ETH_P_ALL.to_be());
        message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
        message.attributes.push(TcAttribute::Options(vec![
            TcOption::Bpf(TcFilterBpfOption::ProgFd(program.as_raw_fd().cast_unsigned())),
            TcOption::Bpf(TcFilterBpfOption::ProgName(name.to_owned())),
            TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
        ]));
        // Without EXCL, cls_bpf swaps the program of an existing filter under RCU.
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewTrafficFilter(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
        execute(&mut handle, request)
            .await
            .map_err(LinkError::netlink(Operation::Set, format_args!("program {name} on device {device}")))
    }

    /// The id of the program that hangs on a device as ours, if any.
    ///
    /// # Errors
    /// When the kernel refuses for another reason than that there is no filter.
    pub async fn filter(&self, device: u32, direction: Direction) -> Result<Option<u32>, LinkError> {
        Ok(self.own_filter(device, direction).await?.as_ref().and_then(program_id))
    }

    /// The name that the program in our place was hung up with, if there is one: it may be somebody else's.
    ///
    /// # Errors
    /// When the kernel refuses for another reason than that there is no filter.
    pub async fn filter_name(&self, device: u32, direction: Direction) -> Result<Option<String>, LinkError> {
        Ok(self.own_filter(device, direction).await?.as_ref().and_then(program_name))
    }

    async fn own_filter(&self, device: u32, direction: Direction) -> Result<Option<TcMessage>, LinkError> {
        let _listing = self.listing.lock().await;
        let mut handle = self.handle.traffic_filter(index(device));
        let request = handle.get();
        let request = match direction {
            Direction::Ingress => request.ingress(),
            Direction::Egress => request.egress(),
        };
        let listed: Result<Vec<TcMessage>, _> = request.execute().try_collect().await;
        match listed.map_err(LinkError::netlink(Operation::List, format_args!("programs on device {device}"))) {
            Ok(filters) => Ok(filters
                .into_iter()
                .find(|filter| filter.header.handle == TcHandle::from(HANDLE) && program_id(filter).is_some())),
            // EINVAL: no clsact.
            Err(LinkError::Netlink { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => Ok(None),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes our program off a device; an absent one is off already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn delete_filter(&self, device: u32, direction: Direction) -> Result<(), LinkError> {
        if self.filter(device, direction).await?.is_none() {
            return Ok(());
        }
        let mut handle = self.handle.clone();
        let mut message = TcMessage::with_index(index(device));
        message.header.parent = direction.parent();
        message.header.handle = TcHandle::from(HANDLE);
        message.header.info = PRIORITY << 16 | u32::from(ETH_P_ALL.to_be());
        message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::DelTrafficFilter(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        let deleted = execute(&mut handle, request).await;
        match deleted.map_err(LinkError::netlink(Operation::Delete, format_args!("program on device {device}"))) {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(()),
        }
    }
}

async fn execute(
    handle: &mut rtnetlink::Handle,
    request: NetlinkMessage<RouteNetlinkMessage>,
) -> Result<(), rtnetlink::Error> {
    let mut answers = handle.request(request)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(rtnetlink::Error::NetlinkError(error));
        }
    }
    Ok(())
}

fn program_id(filter: &TcMessage) -> Option<u32> {
    options(filter).find_map(|option| match option {
        TcFilterBpfOption::ProgId(id) => Some(*id),
        _ => None,
    })
}

fn program_name(filter: &TcMessage) -> Option<String> {
    options(filter).find_map(|option| match option {
        TcFilterBpfOption::ProgName(name) => Some(name.clone()),
        _ => None,
    })
}

/// What a filter of cls_bpf is like.
fn options(filter: &TcMessage) -> impl Iterator<Item = &TcFilterBpfOption> {
    let all = filter.attributes.iter().filter_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    all.flatten().filter_map(|option| match option {
        TcOption::Bpf(option) => Some(option),
        _ => None,
    })
}

/// Traffic control has signed interface numbers.
fn index(device: u32) -> i32 {
    device.cast_signed()
}
