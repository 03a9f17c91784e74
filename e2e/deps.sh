#!/bin/sh
# Installs what the build and the harness need on Debian, beyond Rust and Go. Says nothing and takes no time when nothing is
# missing.
set -eu

packages="
  make gcc libc6-dev
  clang-19 llvm-19 libbpf-dev
  containerd runc iproute2 iptables nftables conntrack
  busybox-static bash-static iperf3 sockperf tcpdump bpftool jq
"

missing=
for package in $packages; do
	case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true) in
	installed) ;;
	*) missing="$missing $package" ;;
	esac
done

for tool in cargo go; do
	if ! command -v "$tool" >/dev/null; then
		echo "error: $tool is not installed; see README.md for versions" >&2
		exit 1
	fi
done

if [ -n "$missing" ]; then
	echo "installing:$missing"
	[ "$(id -u)" = 0 ] || { echo "error: run this as root, or: apt-get install$missing" >&2; exit 1; }
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
fi
