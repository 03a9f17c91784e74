# Everything is done by cargo, Go and the harness in e2e/; this names what people want. All variables may be set on the
# command line: make cluster NODES=1 CNI=none

#> NAME=dev                     the cluster; several may run side by side
#> NODES=3
#> CNI=axoneme|none|bridge      its network; none leaves the place for another one
#> FAMILY=ipv4|ipv6|dual        addresses of nodes, pods and Services
#> ROUTING=tunnel|native        VXLAN, or routes between the nodes
#> VALUES=file.yaml             more Helm values
NAME    ?= dev
NODES   ?= 3
CNI     ?= axoneme
FAMILY  ?= ipv4
ROUTING ?= tunnel
SUITE   ?= netpol

HARNESS = cargo run --quiet --package axoneme-e2e -- --name $(NAME)
UP = $(HARNESS) up --nodes $(NODES) --cni $(CNI) --family $(FAMILY) --routing $(ROUTING) $(if $(VALUES),--values $(VALUES))

.DEFAULT_GOAL := help
.PHONY: help deps harness build images arm64 cluster cluster-down demo test skew conformance bench fuzz lint

help: ## this text
	@echo "usage: make TARGET [VARIABLE=value ...]"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "what a cluster is like, for cluster, conformance and bench:"
	@sed -n 's/^#> /  /p' $(MAKEFILE_LIST)

deps: ## install what the build and the harness need (Debian)
	@e2e/deps.sh

# Not quiet: from nothing this takes minutes, and somebody is watching.
harness: deps
	@cargo build --package axoneme-e2e

build: harness ## build everything: this project, Kubernetes, etcd, helm
	cargo build --workspace
	$(HARNESS) build

images: harness ## static binaries in images FROM scratch; prints the archives
	@$(HARNESS) images

cluster: harness ## leave a cluster up; the last line is its kubeconfig
	@$(UP)

cluster-down: harness ## remove the cluster and everything that belongs to it
	@$(HARNESS) down
	@$(HARNESS) leaks

# Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross.
arm64: harness ## cross-build the operator, the node daemon and the command for arm64, as static binaries
	rustup target add aarch64-unknown-linux-gnu
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc RUSTFLAGS=-Ctarget-feature=+crt-static \
		cargo build --release --locked --target aarch64-unknown-linux-gnu -p axoneme-operator -p axoneme-node -p axoneme-cli

demo: harness ## a cluster, helm install, an application, a policy: who reaches whom before and after
	@$(HARNESS) demo --nodes $(NODES)

test: harness ## everything that CI runs
	@cargo run --quiet --package axoneme-e2e -- --name test test

skew: deps ## nodes and operators of this build and of the one that spoke the previous protocol, with each other
	@e2e/skew/run.sh

# It installs the network itself.
conformance: CNI := $(if $(filter lifecycle,$(SUITE)),none,$(CNI))
conformance: harness ## SUITE=netpol|network-policy-api FOCUS=regex: upstream's specs against a cluster; SUITE=lifecycle: the version before to this one and back, uninstall, install
	@$(UP) > /dev/null
	@$(HARNESS) conformance --suite $(SUITE) $(if $(FOCUS),--focus '$(FOCUS)')

bench: harness ## SET=name ROUNDS=n: figures, as a table and in target/bench/; all sets, with enough rounds, without them
	@$(if $(filter stream,$(SET)),true,$(UP) > /dev/null)
	@$(HARNESS) bench $(if $(SET),--set $(SET)) $(if $(ROUNDS),--rounds $(ROUNDS))

fuzz: CASES ?= 100000
fuzz: SEED := $(or $(SEED),$(shell date +%s))
fuzz: harness ## CASES=n SEED=n: policies' property tests with 100,000 random cases each, from another seed every time
	@$(HARNESS) fuzz --cases $(CASES) --seed $(SEED)

lint: harness ## format, clippy, licences
	@$(HARNESS) lint
