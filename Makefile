# What a newcomer and CI call. `make help` lists it.
CARGO ?= cargo
CACHE ?= $(or $(MILVUS_GUARD_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/milvus-guard)
DENY := $(CACHE)/tools/bin/cargo-deny

TESTBED := $(CARGO) run --quiet -p milvus-guard-testbed --bin testbed-build --

.PHONY: help demo demo-cluster record-demo test test-operations test-others test-fast test-full test-hostile test-node node-packages test-milvus test-roll test-roll-short test-node-and-roll-short lint testbed generate bench bench-load fuzz fuzz-check

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

demo: ## Judge three upgrades, plan one, ask the webhook (Rust alone, no cluster)
	@examples/demo/run.sh

demo-cluster: testbed ## From Milvus 2.1 to 2.5 on a real control plane: a denial, the plan, the migration, held upgrades (Rust and Go, no root)
	$(CARGO) test --workspace --quiet --test operations -- story:: --nocapture

# The recording of it in docs.
record-demo: testbed
	MILVUS_GUARD_RECORD=$(CURDIR)/docs/demo-cluster.txt $(CARGO) test --workspace --quiet --test operations -- story::
	$(CARGO) run --quiet -p xtask -- recording docs/demo-cluster.txt > docs/demo-cluster.svg

test: lint testbed ## Everything that needs no root, on real parts
	$(CARGO) test --workspace --all-targets --no-run --quiet
	$(MAKE) --no-print-directory --jobs=2 test-operations test-others
	$(CARGO) test --workspace --doc --quiet

# Two at a time: each waits for servers again and again, and leaves a quarter of two cores idle alone.
test-operations:
	$(CARGO) test --workspace --quiet --test operations --test program

test-others:
	$(CARGO) test --workspace --quiet --lib --bins --examples --benches \
	    --test control_plane --test etcd --test helm --test killed --test milvus --test node --test programs \
	    --test hostile --test real --test repository --test webhook

# The modules of the six test targets (tests/*/main.rs) that start no server and need no Helm. `::` ends the name of a module, so that
# `certs::` is not `certs_managed::`.
test-fast: ## Unit, property and command-line tests; starts no server
	$(CARGO) test --workspace --lib
	$(CARGO) test --workspace --test program -- cases:: catalogue:: cli:: first_hour:: inputs:: properties::
	$(CARGO) test --workspace --test repository -- docs:: house:: schemas::
	$(CARGO) test --workspace --test webhook -- certs::
	$(CARGO) test --workspace --test hostile -- input::

test-full: test ## Like test; then the crash matrices, the table of orders, many runs at once and an idle cluster, whole; and a build from vendored crates
	$(CARGO) test --quiet --test repository -- builds:: --ignored
	MILVUS_GUARD_FULL=1 $(CARGO) test --workspace --quiet --test operations -- crash:: upgrade_orders:: upgrade_many::
	MILVUS_GUARD_FULL=1 $(CARGO) test --workspace --quiet --test webhook -- fresh::

test-hostile: testbed ## The released program in a cgroup, under every attack at once (root)
	$(CARGO) build --release --quiet
	MILVUS_GUARD_BINARY=$(CURDIR)/target/release/milvus-guard $(CARGO) test --workspace --quiet --test hostile -- load:: --ignored --nocapture

test-node: ## Pods of our image and chart on a real node; Helm's SQL driver (root; make node-packages once)
	$(TESTBED) --node
	$(CARGO) test --quiet -p milvus-guard-testbed --test node -- --ignored --test-threads=1
	$(CARGO) test --workspace --quiet --test real -- helm_sql:: node:: --ignored --test-threads=1

test-milvus: ## Real Milvus servers: 2.1.0 migrated to 2.2.16 and restored; what is loaded, also while an upgrade waits for it; verify and its probe (x86-64; Python 3.10 to 3.12 with pip)
	$(TESTBED) --milvus
	$(CARGO) test --quiet -p milvus-guard-testbed --test milvus -- --ignored --test-threads=1
	$(CARGO) test --workspace --quiet --test real -- milvus:: milvus_api:: milvus_gate:: milvus_verify:: --ignored --test-threads=3

# ROLL=within|rolling|across and WAYS=plain|upgrade|hold|job|hooks choose; several are separated by commas. RUNS=3 makes each of them three
# times. ROLL_RESULTS=FILE adds each roll to a file, of which `cargo xtask roll-table FILE...` makes a table.
test-roll: ## Rolling upgrades of a distributed Milvus under load: helm upgrade, plain and held, against milvus-guard upgrade, here and as a Job (root; as test-node and test-milvus, Java, Maven)
	$(TESTBED) --roll
	ROLL=$(ROLL) WAYS=$(WAYS) RUNS=$(RUNS) ROLL_RESULTS=$(ROLL_RESULTS) $(CARGO) test --workspace --quiet --test real -- roll_compare:: --ignored --nocapture

test-roll-short: ## One such roll by milvus-guard upgrade, with sessions that end soon (needs as test-roll)
	$(TESTBED) --roll
	$(CARGO) test --workspace --quiet --test real -- roll_short:: --ignored --nocapture

# One after the other: both have pods on a node of this machine.
test-node-and-roll-short: test-node
	$(MAKE) test-roll-short

node-packages: ## Install the Debian packages that test-node lacks (root)
	@packages=$$($(TESTBED) --node-packages) && if [ -n "$$packages" ]; then \
	    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$packages; fi

lint: $(DENY) ## Format, clippy, import circles, licences and sources
	$(CARGO) fmt --all --check
	rustfmt --edition 2024 --check crates/core/src/rules/mg*.rs
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	$(CARGO) test --quiet -p xtask
	$(DENY) --log-level error check bans licenses sources

testbed: ## Build etcd, the Kubernetes control plane and both Helms into the cache
	$(TESTBED)

# Crates with snapshots.
SNAPSHOTS := $(patsubst crates/%/Cargo.toml,-p milvus-guard-%,$(shell grep -l '^insta' crates/*/Cargo.toml))

# Everything is written, also where a test fails: that of a new rule does, until it is finished.
generate: ## Write generated documentation, schemas, definitions and snapshots again
	@failed=; export UPDATE_GENERATED=1 INSTA_UPDATE=always; \
	$(CARGO) test $(SNAPSHOTS) --lib --quiet --no-fail-fast || failed=yes; \
	$(CARGO) test --workspace --test repository --quiet -- docs:: schemas:: chart_conventions::the_tables || failed=yes; \
	if [ -n "$$failed" ]; then echo "Everything was written, but a test failed: see above." >&2; exit 1; fi

bench-load: ## The webhook under load, against a bare server of the same crates
	$(CARGO) bench --bench load

bench: ## Figures of docs/performance.md
	$(CARGO) bench

fuzz-check: ## Compile the fuzz targets, which are outside of the workspace
	$(CARGO) check --quiet --manifest-path fuzz/Cargo.toml

fuzz: ## Fuzz the readers of untrusted input for a minute each
	fuzz/run.sh

$(DENY):
	$(CARGO) install cargo-deny --locked --quiet --root $(CACHE)/tools
