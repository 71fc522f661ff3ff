# `make` shows what there is. Everything is made below target/ and dist/.

CARGO ?= cargo
RELEASE := $(or $(CARGO_TARGET_DIR),target)/release

# Packages are the same bytes for the same commit.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)
export SOURCE_DATE_EPOCH

.PHONY: help build check test test-long packages deb rpm arch-package demo full compat bench corpus storm fuzz deps clean
.DEFAULT_GOAL := help

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | while IFS="$$(printf '\t')" read -r target text; do \
	    printf '  make %-13s %s\n' "$$target" "$$text"; done

build: ## the programs, optimised
	@packaging/host-deps build
	$(CARGO) build --release -p dkms-core -p dkms-apt-hook -p dkms-dnf-plugin

check: ## formatting, clippy and unit tests: no root needed, under two minutes when warm
	@packaging/host-deps build
	$(CARGO) fmt --all --check
	@# Of alpm-hook, all but the program that needs pacman's library, which is checked where its package is made.
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@# The fuzz targets are a workspace of their own, and must not rot. Nothing is linked: the fuzzer itself is not made.
	CUSTOM_LIBFUZZER_PATH=/nonexistent/libfuzzer.a $(CARGO) check -q --manifest-path tests/fuzz/Cargo.toml --target-dir target
	$(CARGO) test -q -p dkms-core -p dkms-apt-hook -p dkms-dnf-plugin -p dkms-alpm-hook -p dkms-packaging
	$(CARGO) test -q -p dkms-core --features failpoints --test failpoints
	$(CARGO) test -q -p dkms-tests --lib --bin suites

packages: deb rpm ## dist/dkms-rs_VERSION_ARCH.deb, dist/dkms-rs-VERSION-1.ARCH.rpm; as root Arch's package, too
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory arch-package; \
	    else echo "Arch's package is made in a throwaway root, by root: left out"; fi

deb: build ## dist/dkms-rs_VERSION_ARCH.deb
	$(CARGO) run -q -p dkms-packaging -- deb --binaries $(RELEASE) --out dist

rpm: build ## dist/dkms-rs-VERSION-1.ARCH.rpm
	$(CARGO) run -q -p dkms-packaging -- rpm --binaries $(RELEASE) --out dist

arch-package: deps ## dist/dkms-rs-VERSION-1-x86_64.pkg.tar.zst, made by makepkg in a throwaway root (needs root)
	$(CARGO) run -q -p dkms-tests --bin arch-package

test: deps check packages ## check, then real transactions in throwaway roots (needs root, half an hour; SUITES="rpm boot::" runs some)
	$(CARGO) run -q --locked -p dkms-tests --bin suites -- $(SUITES)

test-long: deps packages ## the tests that take long: every package manager, Secure Boot, storms, full, compat (needs root, hours when cold)
	$(CARGO) run -q --locked -p dkms-tests --bin suites -- --long $(SUITES)

demo: deps deb ## a kernel installed by apt in a throwaway Debian, its modules rebuilt and loaded (needs root)
	$(CARGO) run -q -p dkms-tests --bin demo

full: deps deb ## 23 real module packages and a new kernel in one transaction (needs root, long)
	$(CARGO) test -p dkms-tests --test full_transaction -- --ignored --test-threads=1 --nocapture

compat: deps deb ## every *-dkms package of Debian 13, built by Debian's dkms and by ours, compared (needs root, hours when cold)
	$(CARGO) test -p dkms-tests --test compat -- --ignored --test-threads=1 --nocapture

bench: deps deb ## how long it takes, against Debian's dkms and the bare compilers (needs root, half an hour, a quiet machine)
	$(CARGO) run -q --release -p dkms-tests --bin bench

storm: deps deb ## 200 kills at random moments of a publication (needs root)
	$(CARGO) test -p dkms-tests --test kill_storm -- --ignored --nocapture

# How long each target runs. The fuzzer needs compiler flags that the stable toolchain keeps to itself. No sanitizer: there is
# no unsafe code of ours that it could watch.
FUZZ_SECONDS ?= 600
fuzz: ## the readers of hostile input, ten minutes each, with cargo-fuzz (installed when missing)
	@packaging/host-deps fuzz
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install cargo-fuzz --locked
	@cd tests/fuzz && for target in $$($(CARGO) fuzz list --fuzz-dir .); do \
	    mkdir -p corpus/$$target; \
	    RUSTC_BOOTSTRAP=1 nice $(CARGO) fuzz run -s none --fuzz-dir . $$target corpus/$$target seeds/$$target -- \
	        -max_total_time=$(FUZZ_SECONDS) -timeout=5 -rss_limit_mb=1024 || exit 1; done

corpus: deps ## every dkms.conf of every Debian suite, evaluated natively and by bash (fetches 800 MB once)
	DKMS_CORPUS=all $(CARGO) test -p dkms-tests --test conf_corpus

deps: ## install what the throwaway roots need on this machine, if it is missing (needs root)
	@packaging/host-deps roots

clean: ## remove everything that was made, throwaway roots with their mounts included
	@# Innermost mounts first. A root whose run was killed may still have some: deleting through them would reach the host.
	@sed 's/^[^ ]* [^ ]* [^ ]* [^ ]* \([^ ]*\) .*/\1/' /proc/self/mountinfo | grep -F "$(CURDIR)/target/" | sort -r | \
	    while read -r mount; do umount --lazy "$$mount" || exit 1; done
	rm -rf --one-file-system target/roots dist
	$(CARGO) clean
