//! Every program passes this kernel's verifier. `--nocapture` prints what that costs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use axoneme_bpf::programs;
use aya::programs::Program;
use common::kernel;

privileged! {
    fn every_program_is_accepted_and_its_size_is_known() {
        let mut ebpf = kernel::object();
        println!("{:<20} {:>12} {:>12} {:>10}", "program", "verified", "translated", "jited");
        for (name, _) in programs::ALL {
            let program = ebpf.program_mut(name).unwrap_or_else(|| panic!("{name} is not in the object"));
            kernel::load(name, program);
            let info = program.info().unwrap();
            println!(
                "{name:<20} {:>12} {:>10} B {:>8} B",
                info.verified_instruction_count().unwrap_or_default(),
                info.size_translated().unwrap_or_default(),
                info.size_jitted(),
            );
        }
    }
}

privileged! {
    fn the_object_holds_nothing_that_is_not_named() {
        let ebpf = kernel::object();
        let mut found: Vec<_> = ebpf.programs().map(|(name, _): (&str, &Program)| name.to_owned()).collect();
        let mut named: Vec<_> = programs::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
        found.sort();
        named.sort();
        assert_eq!(found, named);

        let mut found: Vec<_> = ebpf.maps().map(|(name, _)| name.to_owned()).collect();
        let mut named: Vec<_> = axoneme_bpf::maps::ALL.iter().map(|name| (*name).to_owned()).collect();
        found.sort();
        named.sort();
        assert_eq!(found, named);
    }
}
