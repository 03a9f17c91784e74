//! Limits that pods have by their annotations.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use axoneme_e2e::reach::{PATIENCE, inside};

use crate::lab::{Lab, Server};

const PORT: u16 = 9200;
const MEGABIT: f64 = 1e6;

/// Bits per second that one TCP stream gets through, without its first second.
fn rate(from: &Server, to: &Server) -> f64 {
    let listener = inside(&to.network, || TcpListener::bind(("0.0.0.0", PORT))).unwrap().unwrap();
    let target = SocketAddr::new(to.ip, PORT);
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let mut stream = inside(&from.network, || TcpStream::connect_timeout(&target, PATIENCE)).unwrap().unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
            let block = vec![0; 1 << 16];
            // Until the receiver has had enough and closes.
            while stream.write_all(&block).is_ok() {}
        });
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = vec![0; 1 << 16];
        let mut count = |duration: Duration| {
            let (start, mut bytes) = (Instant::now(), 0);
            while start.elapsed() < duration {
                bytes += stream.read(&mut buffer).unwrap();
            }
            bytes as f64 * 8.0 / start.elapsed().as_secs_f64()
        };
        count(Duration::from_secs(1));
        let rate = count(Duration::from_secs(3));
        drop(stream);
        sender.join().unwrap();
        rate
    })
}

#[test]
fn a_pod_sends_and_receives_no_more_than_its_annotations_say() {
    let lab = Lab::open();
    let workload = lab.workload("bandwidth");
    lab.annotated(&workload, "sender", 0, &[("kubernetes.io/egress-bandwidth", "50M")]);
    lab.annotated(&workload, "receiver", 1, &[("kubernetes.io/ingress-bandwidth", "20M")]);
    lab.annotated(&workload, "free", 1, &[]);
    lab.annotated(&workload, "near", 0, &[]);
    let [sender, receiver, free, near] = ["sender", "receiver", "free", "near"].map(|name| lab.server(&workload, name));
    // Never more than the limit. Less at times: a machine that stands still for longer than the line saves up loses what it
    // missed, so the stream must come near it in one of three times.
    let limited = |what: &str, from: &Server, to: &Server, limit: f64| {
        let shares = (0..3).map(|_| {
            let share = rate(from, to) / (limit * MEGABIT);
            assert!(share < 1.2, "{what}: {share:.2} of {limit} Mbit/s");
            share
        });
        let shares: Vec<f64> = shares.take_while(|share| *share <= 0.8).collect();
        assert!(shares.len() < 3, "{what}: {shares:.2?} of {limit} Mbit/s");
    };
    limited("sent to another node", &sender, &free, 50.0);
    limited("sent on the same node", &sender, &near, 50.0);
    limited("received from another node", &near, &receiver, 20.0);
    let unlimited = rate(&near, &free);
    assert!(unlimited > 200.0 * MEGABIT, "nobody limits {:.0} Mbit/s", unlimited / MEGABIT);
}
