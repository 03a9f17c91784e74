#!/bin/sh
# Builds both peers, that of this build and that of the commit in e2e/skew/previous, and lets them talk.
set -eu
cd "$(dirname "$0")/../.."
AXONEME_PREVIOUS_PEER=$(e2e/skew/build.sh)
cargo build --quiet --locked --package axoneme-e2e --example peer
AXONEME_PEER=${CARGO_TARGET_DIR:-target}/debug/examples/peer
case $AXONEME_PEER in /*) ;; *) AXONEME_PEER=$PWD/$AXONEME_PEER ;; esac
export AXONEME_PEER AXONEME_PREVIOUS_PEER
exec cargo test --quiet --locked --package axoneme-e2e --test skew
