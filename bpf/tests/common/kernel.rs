//! The built object, loaded for one test: no pins, small maps, nothing shared with a cluster on the same machine.

use std::net::{IpAddr, SocketAddr};

use axoneme_bpf::address::{Address, AddressKey, CidrKey};
use axoneme_bpf::affinity::{Affinity, AffinityKey};
use axoneme_bpf::bandwidth::{Bandwidth, BandwidthKey};
use axoneme_bpf::config::Config;
use axoneme_bpf::conntrack::Ct;
use axoneme_bpf::endpoint::Endpoint;
use axoneme_bpf::event::Event;
use axoneme_bpf::inet::{Direction, Tuple};
use axoneme_bpf::metrics::{Metrics, MetricsKey, Reason};
use axoneme_bpf::nat::{Exclusion, Nat};
use axoneme_bpf::policy::{Policy, PolicyClass, PolicyClassKey, PolicyRuleKey, Verdicts};
use axoneme_bpf::programs;
use axoneme_bpf::service::{Backend, BackendKey, Service, ServiceKey};
use axoneme_bpf::sock::{SockReverse, SockReverseKey};
use axoneme_bpf::uplink::Uplink;
use axoneme_bpf::{maps, objects};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::{Program, SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader, Pod};

use super::packet::{Seen, TCP};

/// What a program may return, as `linux/pkt_cls.h` numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On to the stack (ingress) or the wire (egress).
    Pass,
    Drop,
    /// To another device.
    Redirect,
}

/// The key of an LPM map, which begins with the prefix's length.
fn prefix<K: Pod, D: Pod>(key: K) -> Key<D> {
    assert_eq!(size_of::<K>(), size_of::<Key<D>>());
    // SAFETY: both are plain integers of the same size, and an LPM key is the length followed by the data.
    unsafe { std::mem::transmute_copy(&key) }
}

/// The object with its maps created and no program loaded.
pub fn object() -> Ebpf {
    let mut loader = EbpfLoader::new();
    for name in [maps::CT_TCP, maps::CT_ANY, maps::NAT, maps::SOCK_REVERSE] {
        loader.map_max_entries(name, 4096);
    }
    loader.load(objects::AXONEME).expect("the object can be read and its maps created")
}

/// Hands a program to the verifier.
pub fn load(name: &str, program: &mut Program) {
    if let Err(error) = programs::load(program) {
        panic!("{name}: {error:?}");
    }
}

/// Programs and maps of one test.
pub struct Kernel {
    pub ebpf: Ebpf,
}

impl Kernel {
    /// The object with these programs loaded; others are when they are run.
    pub fn with(programs: &[&str]) -> Self {
        let mut ebpf = object();
        for name in programs {
            load(name, ebpf.program_mut(name).unwrap());
        }
        Self { ebpf }
    }

    fn map(&mut self, name: &str) -> &mut Map {
        self.ebpf.map_mut(name).unwrap()
    }

    fn set<K: Pod, V: Pod>(&mut self, name: &str, key: K, value: V) {
        let mut map = HashMap::<&mut MapData, K, V>::try_from(self.map(name)).unwrap();
        map.insert(key, value, 0).unwrap();
    }

    fn get<K: Pod, V: Pod>(&mut self, name: &str, key: K) -> Option<V> {
        HashMap::<&mut MapData, K, V>::try_from(self.map(name)).unwrap().get(&key, 0).ok()
    }

    /// Inserts a row of an LPM map.
    fn set_prefix<K: Pod, D: Pod, V: Pod>(&mut self, name: &str, key: K, value: V) {
        let mut map = LpmTrie::<&mut MapData, D, V>::try_from(self.map(name)).unwrap();
        map.insert(&prefix(key), value, 0).unwrap();
    }

    fn delete_prefix<K: Pod, D: Pod, V: Pod>(&mut self, name: &str, key: K) {
        LpmTrie::<&mut MapData, D, V>::try_from(self.map(name)).unwrap().remove(&prefix(key)).unwrap();
    }

    pub fn config(&mut self, config: Config) {
        Array::<&mut MapData, Config>::try_from(self.map(maps::CONFIG)).unwrap().set(0, config, 0).unwrap();
    }

    pub fn endpoint(&mut self, ifindex: u32, endpoint: Endpoint) {
        self.set(maps::ENDPOINTS, ifindex, endpoint);
    }

    pub fn address(&mut self, address: IpAddr, row: Address) {
        self.set(maps::ADDRESSES, AddressKey::from(address), row);
    }

    /// Forgets whose an address is.
    pub fn delete_address(&mut self, address: IpAddr) {
        let map = self.map(maps::ADDRESSES);
        HashMap::<&mut MapData, AddressKey, Address>::try_from(map).unwrap().remove(&address.into()).unwrap();
    }

    pub fn cidr(&mut self, address: IpAddr, length: u8, row: Address) {
        self.set_prefix::<_, [u8; 20], _>(maps::CIDRS, CidrKey::new(address, length), row);
    }

    /// Destinations outside that see pods' own addresses.
    pub fn exclude(&mut self, address: IpAddr, length: u8) {
        let key = CidrKey::new(address, length);
        self.set_prefix::<_, [u8; 20], _>(maps::NO_MASQUERADE, key, Exclusion::default());
    }

    /// What pods leave with by a device.
    pub fn uplink(&mut self, ifindex: u32, uplink: Uplink) {
        self.set(maps::UPLINKS, ifindex, uplink);
    }

    /// The device has no address of its own any more.
    pub fn delete_uplink(&mut self, ifindex: u32) {
        let map = self.map(maps::UPLINKS);
        HashMap::<&mut MapData, u32, Uplink>::try_from(map).unwrap().remove(&ifindex).unwrap();
    }

    /// Limits what a pod sends (egress) or gets (ingress).
    pub fn bandwidth(&mut self, ifindex: u32, direction: Direction, bytes_per_second: u64) {
        let key = BandwidthKey { ifindex, direction, ..BandwidthKey::default() };
        self.set(maps::BANDWIDTH, key, Bandwidth { bytes_per_second, ..Bandwidth::default() });
    }

    pub fn policy(&mut self, index: u32, policy: Policy) {
        Array::<&mut MapData, Policy>::try_from(self.map(maps::POLICIES)).unwrap().set(index, policy, 0).unwrap();
    }

    pub fn rule(&mut self, key: PolicyRuleKey, verdicts: Verdicts) {
        self.set_prefix::<_, [u8; 12], _>(maps::POLICY_RULES, key, verdicts);
    }

    pub fn class(&mut self, key: PolicyClassKey, class: PolicyClass) {
        self.set_prefix::<_, [u8; 24], _>(maps::POLICY_CLASSES, key, class);
    }

    pub fn delete_rule(&mut self, key: PolicyRuleKey) {
        self.delete_prefix::<_, [u8; 12], Verdicts>(maps::POLICY_RULES, key);
    }

    pub fn delete_class(&mut self, key: PolicyClassKey) {
        self.delete_prefix::<_, [u8; 24], PolicyClass>(maps::POLICY_CLASSES, key);
    }

    /// A service with backends, replacing what it had.
    pub fn service(&mut self, frontend: SocketAddr, protocol: u8, id: u32, revision: u32, backends: &[SocketAddr]) {
        let key = ServiceKey::new(frontend.ip(), frontend.port(), protocol);
        self.service_with(key, Service { id, revision, ..Service::default() }, backends);
    }

    /// As [`service`](Self::service), with what is particular about it; its count is that of the backends.
    pub fn service_with(&mut self, key: ServiceKey, service: Service, backends: &[SocketAddr]) {
        for (index, backend) in (0..).zip(backends) {
            let key = BackendKey { service: service.id, index };
            self.set(maps::SERVICE_BACKENDS, key, Backend::new(backend.ip(), backend.port()));
        }
        self.set(maps::SERVICES, key, Service { backends: backends.len() as u32, ..service });
    }

    /// Clients of a service keep their backend for so many seconds.
    pub fn set_affinity(&mut self, frontend: SocketAddr, protocol: u8, seconds: u32) {
        let key = ServiceKey::new(frontend.ip(), frontend.port(), protocol);
        let service: Service = self.get(maps::SERVICES, key).unwrap();
        self.set(maps::SERVICES, key, Service { affinity: seconds, ..service });
    }

    /// Who has which backend.
    pub fn affinities(&mut self) -> Vec<(AffinityKey, Affinity)> {
        let map = HashMap::<&mut MapData, _, _>::try_from(self.map(maps::AFFINITY)).unwrap();
        map.iter().collect::<Result<_, _>>().unwrap()
    }

    /// All clients were last seen so many seconds earlier.
    pub fn age_affinities(&mut self, seconds: u64) {
        for (key, affinity) in self.affinities() {
            let used = affinity.used.saturating_sub(seconds * 1_000_000_000);
            self.set(maps::AFFINITY, key, Affinity { used, ..affinity });
        }
    }

    /// Deletes a frontend, if it is there.
    pub fn delete_service(&mut self, frontend: SocketAddr, protocol: u8) {
        let map = self.map(maps::SERVICES);
        let mut map = HashMap::<&mut MapData, ServiceKey, Service>::try_from(map).unwrap();
        let _ = map.remove(&ServiceKey::new(frontend.ip(), frontend.port(), protocol));
    }

    /// Deletes all of conntrack.
    pub fn forget_flows(&mut self) {
        for name in [maps::CT_TCP, maps::CT_ANY] {
            let mut map = HashMap::<&mut MapData, Tuple, Ct>::try_from(self.map(name)).unwrap();
            let keys: Vec<Tuple> = map.keys().map(Result::unwrap).collect();
            for key in keys {
                map.remove(&key).unwrap();
            }
        }
    }

    /// Deletes a flow's entry, if it is there.
    pub fn forget(&mut self, tuple: Tuple) {
        let map = self.map(Self::ct_map(tuple.protocol));
        let _ = HashMap::<&mut MapData, Tuple, Ct>::try_from(map).unwrap().remove(&tuple);
    }

    fn ct_map(protocol: u8) -> &'static str {
        if protocol == TCP { maps::CT_TCP } else { maps::CT_ANY }
    }

    pub fn ct(&mut self, tuple: Tuple) -> Option<Ct> {
        self.get(Self::ct_map(tuple.protocol), tuple)
    }

    pub fn set_ct(&mut self, tuple: Tuple, ct: Ct) {
        self.set(Self::ct_map(tuple.protocol), tuple, ct);
    }

    pub fn nat(&mut self, tuple: Tuple) -> Option<Nat> {
        self.get(maps::NAT, tuple)
    }

    pub fn set_nat(&mut self, tuple: Tuple, nat: Nat) {
        self.set(maps::NAT, tuple, nat);
    }

    pub fn sock_reverses(&mut self) -> Vec<(SockReverseKey, SockReverse)> {
        let map = HashMap::<&mut MapData, _, _>::try_from(self.map(maps::SOCK_REVERSE)).unwrap();
        map.iter().collect::<Result<_, _>>().unwrap()
    }

    /// Packets counted for a reason.
    pub fn count(&mut self, reason: Reason, direction: Direction) -> u64 {
        let map = PerCpuArray::<&mut MapData, Metrics>::try_from(self.map(maps::METRICS)).unwrap();
        let cpus = map.get(&MetricsKey { reason, direction }.index(), 0).unwrap();
        cpus.iter().map(|metrics| metrics.packets).sum()
    }

    /// Everything that was dropped, by reason.
    pub fn drops(&mut self) -> Vec<(Reason, Direction, u64)> {
        let counted = MetricsKey::all().filter(|key| key.reason.is_drop());
        let counts = counted.map(|key| (key.reason, key.direction, self.count(key.reason, key.direction)));
        counts.filter(|(.., packets)| *packets > 0).collect()
    }

    /// Events since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        let mut ring = RingBuf::try_from(self.map(maps::EVENTS)).unwrap();
        let mut events = Vec::new();
        while let Some(record) = ring.next() {
            events.push(Event::read(&record).unwrap());
        }
        events
    }

    /// Runs a program on a packet of the device with ifindex 1.
    pub fn run(&mut self, program: &str, packet: &[u8]) -> (Verdict, Vec<u8>) {
        self.run_from(program, packet, 0)
    }

    /// As [`run`](Self::run), of a packet that came in through `ingress_ifindex` (0: the host made it).
    pub fn run_from(&mut self, program: &str, packet: &[u8], ingress_ifindex: u32) -> (Verdict, Vec<u8>) {
        // struct __sk_buff: ingress_ifindex is its tenth word.
        self.run_with(program, packet, &[(9, ingress_ifindex)])
    }

    /// As [`run`](Self::run), of a packet that is to be cut into segments of `size` bytes of payload.
    pub fn run_segmented(&mut self, program: &str, packet: &[u8], size: u32) -> (Verdict, Vec<u8>) {
        self.run_with(program, packet, &[(44, size)])
    }

    /// As [`run`](Self::run), of another device.
    pub fn run_on(&mut self, program: &str, packet: &[u8], ifindex: u32) -> (Verdict, Vec<u8>) {
        self.run_with(program, packet, &[(10, ifindex)])
    }

    /// As [`run`](Self::run), of a packet with a mark.
    pub fn run_marked(&mut self, program: &str, packet: &[u8], mark: u32) -> (Verdict, Vec<u8>) {
        self.run_with(program, packet, &[(2, mark)])
    }

    /// As [`run_from`](Self::run_from), of a packet with a mark.
    pub fn run_marked_from(&mut self, program: &str, packet: &[u8], mark: u32, ingress: u32) -> (Verdict, Vec<u8>) {
        self.run_with(program, packet, &[(2, mark), (9, ingress)])
    }

    /// As [`run`](Self::run), with words of struct __sk_buff.
    fn run_with(&mut self, program: &str, packet: &[u8], words: &[(usize, u32)]) -> (Verdict, Vec<u8>) {
        let name = program;
        let program = self.ebpf.program_mut(name).unwrap();
        if program.fd().is_err() {
            load(name, program);
        }
        let program: &SchedClassifier = (&*program).try_into().unwrap();
        let mut out = vec![0; packet.len() + 256];
        let mut context = [0; 192];
        for (word, value) in words {
            context[word * 4..][..4].copy_from_slice(&value.to_ne_bytes());
        }
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(packet),
                data_out: Some(&mut out),
                ctx_in: Some(&context),
                ..TestRunOptions::default()
            })
            .unwrap();
        out.truncate(result.data_size_out as usize);
        let verdict = match result.return_value {
            0 => Verdict::Pass,
            2 => Verdict::Drop,
            7 => Verdict::Redirect,
            other => panic!("{name} returned {other}"),
        };
        (verdict, out)
    }

    /// Nanoseconds that a program takes for a packet, over many. The packet must not change.
    pub fn nanoseconds(&mut self, program: &str, packet: &[u8]) -> u64 {
        let (verdict, out) = self.run(program, packet);
        assert_eq!((verdict, out.as_slice()), (Verdict::Pass, packet));
        let program: &SchedClassifier = self.ebpf.program(program).unwrap().try_into().unwrap();
        let options = || TestRunOptions { data_in: Some(packet), repeat: 200_000, ..TestRunOptions::default() };
        // The shortest of several is what the program takes when nobody disturbs it.
        (0..8).map(|_| program.test_run(options()).unwrap().duration.as_nanos() as u64).min().unwrap()
    }

    /// Runs a program that lets the packet live, and reads what became of it.
    pub fn forwarded(&mut self, program: &str, packet: &[u8]) -> (Verdict, Seen) {
        let (verdict, out) = self.run(program, packet);
        assert_ne!(verdict, Verdict::Drop, "{program} dropped {:?}: {:?}", Seen::read(packet), self.events());
        (verdict, Seen::read(&out))
    }

    /// As [`forwarded`](Self::forwarded), of a fragment, whose checksum is that of the whole.
    pub fn forwarded_fragment(&mut self, program: &str, packet: &[u8]) {
        assert_ne!(self.run(program, packet).0, Verdict::Drop, "{:?}", self.events());
    }

    /// Runs a program that drops the packet, and returns the event.
    pub fn dropped(&mut self, program: &str, packet: &[u8]) -> Event {
        self.events();
        let (verdict, _) = self.run(program, packet);
        assert_eq!(verdict, Verdict::Drop, "{program} let a packet pass");
        let events = self.events();
        assert_eq!(events.len(), 1, "one event for one drop");
        events[0]
    }
}
