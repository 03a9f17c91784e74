#!/bin/sh
# Builds e2e/examples/peer.rs with the sources of the commit in e2e/skew/previous, which spoke the protocol before this one, and
# prints where the binary is. It is kept in the cache: nothing of it is committed, and it is built once.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
commit=$(cat "$here/previous")
peer=$repository/e2e/examples/peer.rs
cache=${AXONEME_CACHE:-$HOME/.cache/axoneme}/skew/$commit-$(sha256sum < "$peer" | cut -c1-16)
if [ ! -x "$cache/peer" ]; then
    git -C "$repository" cat-file -e "$commit" 2> /dev/null || {
        echo "commit $commit is not in this clone: git fetch --unshallow" >&2
        exit 1
    }
    tree=$cache/tree
    rm -rf "$tree"
    mkdir -p "$tree/skew/src"
    git -C "$repository" archive "$commit" | tar -x -C "$tree"
    cp "$peer" "$tree/skew/src/main.rs"
    sed -i 's/^members = \[/members = ["skew", /' "$tree/Cargo.toml"
    cat > "$tree/skew/Cargo.toml" <<END
[package]
name = "skew"
version = "0.0.0"
edition.workspace = true
[dependencies]
axoneme-bpf.workspace = true
axoneme-node = { path = "../node-dataplane" }
axoneme-operator = { path = "../operator" }
axoneme-proto.workspace = true
futures.workspace = true
k8s-openapi.workspace = true
kube.workspace = true
serde_json.workspace = true
tokio = { workspace = true, features = ["io-std", "rt"] }
tokio-util.workspace = true
END
    # The lock file gets one member more, and nothing else.
    (cd "$tree" && CARGO_TARGET_DIR=$cache/target cargo build --quiet --package skew >&2)
    cp "$cache/target/debug/skew" "$cache/peer.new"
    mv "$cache/peer.new" "$cache/peer"
    rm -rf "$cache/target" "$tree"
fi
echo "$cache/peer"
