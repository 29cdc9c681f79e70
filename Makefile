# Short ways to what tests/scripts and cargo do. `make` alone lists them.

.DEFAULT_GOAL := help
.PHONY: help demo sandbox test bench build lint setup install uninstall

# rustup puts cargo here, which is not on everyone's PATH.
export PATH := $(if $(CARGO_HOME),$(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1 \2/p' Makefile | \
		awk '{ printf "  %s %-10s", $$1, $$2; $$1 = $$2 = ""; print }'

demo: setup ## See it work: a query through a real SSH tunnel into a real PostgreSQL
	@tests/scripts/demo

sandbox: setup ## A shell with the sandbox and a daemon running, to play with
	@tests/scripts/sandbox

# The end-to-end tests run the binaries, which `cargo test` alone would not build. Built with
# the tests, which have some crates do more, those crates are compiled once and not twice.
# Tests mostly wait, so there are two at a time for each processor.
test: ## All tests, against the sandbox, the embedded bastion and OpenSSH's sshd
	@tests/scripts/setup test
	@tests/scripts/drivers
	cargo build --workspace --bins --tests
	BOREALIS_LEAVE_OUT=$${BOREALIS_LEAVE_OUT-$$(tests/scripts/namespaces)} \
		TMPDIR=$$(tests/scripts/scratch) \
		RUST_TEST_THREADS=$${RUST_TEST_THREADS-$$((2 * $$(getconf _NPROCESSORS_ONLN)))} \
		BOREALIS_SANDBOX_CACHE=$${BOREALIS_SANDBOX_CACHE-$(CURDIR)/target/sandbox} \
		cargo test --workspace --no-fail-fast

bench: setup ## Compare with ssh -L, over lines with and without delay (as root; takes long)
	cargo build --release --workspace --bins
	target/release/borealis-bench $(BENCH_ARGS)

build: ## Debug binaries in target/debug
	@tests/scripts/setup build
	cargo build --workspace --bins

lint: ## Formatting, clippy, and what of shellcheck and cargo-deny is installed
	@tests/scripts/setup build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@if command -v shellcheck >/dev/null; then \
		echo shellcheck; shellcheck -x tests/scripts/* .ci/run; fi
	@if command -v systemd-analyze >/dev/null; then echo systemd-analyze; tests/scripts/units; fi
	@if command -v cargo-deny >/dev/null; then cargo deny check; fi

setup: ## Install what building and testing need and this machine lacks
	@tests/scripts/setup

install: ## Build for release and install for this user (PREFIX, default ~/.local)
	@tests/scripts/setup build
	@tests/scripts/install

uninstall: ## Remove what install put there; config and state stay
	@tests/scripts/install --remove
