//! Rows in, map dump out. Each file in `tests/scenario` is a story: what the operator commits, what happens on the node, and
//! what the kernel's maps hold then. Every story is told with one operation of ten failing, with several seeds; the end must
//! be the same as without faults.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod dump;
mod kernel;
mod random;
mod rows;
mod story;

macro_rules! stories {
    ($($name:ident)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $name() {
                story::tell(include_str!(concat!("../scenario/", stringify!($name), ".yaml"))).await;
            }
        )*

        #[test]
        fn every_story_is_told() {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenario");
            let told = [$(concat!(stringify!($name), ".yaml")),*];
            for file in std::fs::read_dir(folder).unwrap() {
                let name = file.unwrap().file_name().into_string().unwrap();
                assert!(told.contains(&name.as_str()), "{name} is not in the list");
            }
        }
    };
}

stories! {
    addresses
    adoption
    capacity
    checkpoint
    claims
    endpoints
    frontend_of_two
    frontends
    host_policy
    native_routing
    network
    own_settings
    policy
    policy_update
    refused_pods
    refused_rows
    relabel
    services
    snapshots
    uplinks
}
