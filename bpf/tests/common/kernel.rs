//! The built object, loaded for one test: no pins, small maps, nothing shared with a cluster on the same machine.

use axoneme_bpf::{maps, objects};
use aya::programs::Program;
use aya::{Ebpf, EbpfLoader};

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
    let result = match program {
        Program::SchedClassifier(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        other => panic!("{name} is of an unexpected type {:?}", other.prog_type()),
    };
    if let Err(error) = result {
        panic!("{name}: {error:?}");
    }
}
