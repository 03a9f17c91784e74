use super::*;
use crate::check::Finding;
use crate::node::{Counts, Failure, MapUse, Progress, Stream};

fn endpoint(name: &str, desired: Option<u32>, programmed: Option<u32>, sync: Sync) -> Endpoint {
    let state = |identity| EndpointState { identity, addresses: vec!["10.0.0.7".into()] };
    Endpoint {
        namespace: "shop".into(),
        name: name.into(),
        sync,
        desired: desired.map(state),
        programmed: programmed.map(state),
        endpoint_id: 3,
        ..Endpoint::default()
    }
}

#[test]
fn what_differs_is_marked() {
    let mut table = Table::new(&ENDPOINT_COLUMNS);
    let waiting = Endpoint { problem: "no policy yet".into(), ..endpoint("old", Some(9), Some(8), Sync::Differs) };
    endpoints(&mut table, "n1", &[endpoint("web", Some(9), Some(9), Sync::AsDesired), waiting]);
    assert_eq!(
        table.render(false),
        "\
NAMESPACE  POD  NODE  ID  ADDRESSES  IDENTITY DESIRED  PROGRAMMED  STATE
shop       web  n1    3   10.0.0.7   9                 9           as desired
shop       old  n1    3   10.0.0.7   9                 8           differs: no policy yet
"
    );
    let coloured = table.render(true);
    assert!(coloured.contains("\x1b[31m8\x1b[0m") && coloured.contains("\x1b[32mas desired\x1b[0m"), "{coloured:?}");
}

#[test]
fn a_daemon_is_told_of_in_a_few_lines() {
    let good = Status {
        node: "n1".into(),
        version: "0.1.0".into(),
        kernel: "6.18".into(),
        ready: true,
        stream: Stream { connected: true, operator: "192.0.2.1:4246".into(), since_seconds: 75, ..Stream::default() },
        progress: Progress { received: 7, attempted: 7, ..Progress::default() },
        counts: Counts { rows: 20, endpoints: 2, policies: 1, frontends: 4, nodes: 3, ..Counts::default() },
        maps: vec![
            MapUse { name: "ax_a".into(), entries: 5, capacity: 10 },
            MapUse { name: "ax_b".into(), entries: 6, capacity: 1000 },
        ],
        uptime_seconds: 3_700,
        ..Status::default()
    };
    assert_eq!(
        status(&good, false),
        "\
Node       n1 (ready, axoneme-node 0.1.0, Linux 6.18, up 1h1m)
Operator   follows 192.0.2.1:4246 for 1m15s
Rows       20 held, received to revision 7, tried to 7; nothing is failing
Kernel     2 endpoints (0 waiting), 1 policies, 4 frontends, 3 nodes
Maps       fullest is ax_a with 5 of 10 entries
"
    );
    let failure = Failure {
        scope: "services".into(),
        table: "service".into(),
        key: "shop/web".into(),
        code: "capacity".into(),
        message: "map ax_services is full at 10 entries".into(),
        ..Failure::default()
    };
    let bad = Status {
        ready: false,
        stream: Stream { error: "nobody leads".into(), ..Stream::default() },
        progress: Progress { failing: 1, ..good.progress.clone() },
        failures: vec![failure],
        problems: vec!["operator: nobody leads".into()],
        ..good
    };
    let text = status(&bad, false);
    for line in [
        "n1 (not ready",
        "not connected for 0s (never connected): what runs goes on. nobody leads",
        "1 entries are not as desired",
        "Problem    operator: nobody leads",
        "Failing    services service shop/web (capacity): map ax_services is full at 10 entries",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn findings_come_with_what_to_do() {
    let found = Report {
        findings: vec![
            Finding::good("kernel", "Linux 6.18"),
            Finding::bad("ports", "8472/udp is in use", "remove what uses it"),
        ],
        ..Report::default()
    };
    assert_eq!(found.level(), Level::Bad);
    assert_eq!(report(&found, false, false), "bad   ports: 8472/udp is in use\n      -> remove what uses it\n");
    assert!(report(&found, true, false).starts_with("ok    kernel: Linux 6.18\n"));
}

#[test]
fn times_have_two_units() {
    assert_eq!([5, 65, 3_660, 90_000].map(duration), ["5s", "1m5s", "1h1m", "1d1h"]);
}
