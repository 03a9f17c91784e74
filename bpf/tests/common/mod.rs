//! What the tests share: privileges, and the object in this kernel.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "tests; each uses its part")]

pub mod btf;
pub mod cluster;
pub mod kernel;
pub mod netns;
pub mod node;
pub mod packet;
pub mod traffic;

/// Whether privileged tests are skipped, which says so. Without root they fail.
pub fn skip_privileged(test: &str) -> bool {
    let skip = std::env::var_os("AXONEME_SKIP_PRIVILEGED").is_some_and(|value| value == "1");
    if skip {
        println!("SKIPPED without privileges (AXONEME_SKIP_PRIVILEGED=1): {test}");
    } else {
        assert!(nix::unistd::geteuid().is_root(), "{test} needs root; AXONEME_SKIP_PRIVILEGED=1 skips it");
    }
    skip
}

/// A test that needs root.
#[macro_export]
macro_rules! privileged {
    ($(#[$meta:meta])* fn $name:ident() $body:block) => {
        $(#[$meta])*
        #[test]
        fn $name() {
            if $crate::common::skip_privileged(stringify!($name)) {
                return;
            }
            $body
        }
    };
}
