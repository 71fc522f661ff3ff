# `make` shows what there is. Everything is made below target/ and dist/.

CARGO ?= cargo
RELEASE := $(or $(CARGO_TARGET_DIR),target)/release

# Packages are the same bytes for the same commit.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)
export SOURCE_DATE_EPOCH

.PHONY: help build check subjects audit test test-long packages deb rpm arch-package demo full compat bench corpus storm fuzz deps clean
.DEFAULT_GOAL := help

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | while IFS="$$(printf '\t')" read -r target text; do \
	    printf '  make %-13s %s\n' "$$target" "$$text"; done

build: ## the programs, optimised
	@packaging/host-deps build
	$(CARGO) build --locked --release -p dkms-core -p dkms-apt-hook -p dkms-dnf-plugin

check: ## formatting, spelling, clippy, rustdoc and unit tests: no root needed, about two minutes when warm
	@packaging/host-deps check
	$(CARGO) fmt --all --check
	@# .codespellrc has the words that are meant as they stand.
	codespell
	@! git rev-parse -q --verify HEAD >/dev/null 2>&1 || $(MAKE) --no-print-directory subjects
	@# Of alpm-hook, all but the program that needs pacman's library, which is checked where its package is made.
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@# The fuzz targets are a workspace of their own, and must not rot. Nothing is linked: the fuzzer itself is not made.
	CUSTOM_LIBFUZZER_PATH=/nonexistent/libfuzzer.a $(CARGO) check --locked -q --manifest-path tests/fuzz/Cargo.toml --target-dir target
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked -q --no-deps --workspace
	$(CARGO) test --locked -q -p dkms-core -p dkms-apt-hook -p dkms-dnf-plugin -p dkms-alpm-hook -p dkms-packaging
	$(CARGO) test --locked -q -p dkms-core --features failpoints --test failpoints
	$(CARGO) test --locked -q -p dkms-tests --lib --bin suites

# The rule for commits is in CONTRIBUTING.md. Those that upstream lacks are checked; without an upstream, the newest.
subjects:
	@git log --format=%s $$(git rev-parse -q --verify '@{upstream}' >/dev/null 2>&1 && echo '@{upstream}..' || echo -1) -- | \
	    awk 'length > 72 { print "commit subject over 72 columns: " $$0; bad = 1 } END { exit bad }'

# The newest that compiles with the Rust that Cargo.toml asks for.
CARGO_DENY := 0.18.3
AUDITED := Cargo.toml tests/fuzz/Cargo.toml $(wildcard tests/oracle/Cargo.toml)
audit: ## bans, licences and sources of all dependencies, and advisories where their database can be had, with cargo-deny
	@packaging/host-deps build
	@$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install cargo-deny --locked --version $(CARGO_DENY)
	@what='bans licenses sources'; \
	if $(CARGO) deny fetch --config deny.toml db >/dev/null 2>&1; then what="advisories $$what"; \
	    else echo 'the database of advisories cannot be fetched: only bans, licences and sources are checked'; fi; \
	for manifest in $(AUDITED); do \
	    echo "$$manifest:"; \
	    $(CARGO) deny --locked --manifest-path $$manifest check --config deny.toml $$what || exit 1; done

packages: deb rpm ## dist/dkms-rs_VERSION_ARCH.deb, dist/dkms-rs-VERSION-1.ARCH.rpm; as root Arch's package, too
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory arch-package; \
	    else echo "Arch's package is made in a throwaway root, by root: left out"; fi

deb: build ## dist/dkms-rs_VERSION_ARCH.deb
	$(CARGO) run --locked -q -p dkms-packaging -- deb --binaries $(RELEASE) --out dist

rpm: build ## dist/dkms-rs-VERSION-1.ARCH.rpm
	$(CARGO) run --locked -q -p dkms-packaging -- rpm --binaries $(RELEASE) --out dist

arch-package: deps ## dist/dkms-rs-VERSION-1-x86_64.pkg.tar.zst, made by makepkg in a throwaway root (needs root)
	$(CARGO) run --locked -q -p dkms-tests --bin arch-package

test: deps check packages ## check, then real transactions in throwaway roots (needs root, half an hour; SUITES="rpm boot::" runs some)
	$(CARGO) run -q --locked -p dkms-tests --bin suites -- $(SUITES)

test-long: deps packages ## the tests that take long: every package manager, Secure Boot, storms, full, compat (needs root, hours when cold)
	$(CARGO) run -q --locked -p dkms-tests --bin suites -- --long $(SUITES)

demo: deps deb ## a kernel installed by apt in a throwaway Debian, its modules rebuilt and loaded (needs root)
	$(CARGO) run --locked -q -p dkms-tests --bin demo

full: deps deb ## 23 real module packages and a new kernel in one transaction (needs root, long)
	$(CARGO) test --locked -p dkms-tests --test full_transaction -- --ignored --test-threads=1 --nocapture

compat: deps deb ## every *-dkms package of Debian 13, built by Debian's dkms and by ours, compared (needs root, hours when cold)
	$(CARGO) test --locked -p dkms-tests --test compat -- --ignored --test-threads=1 --nocapture

bench: deps deb ## how long it takes, against Debian's dkms and the bare compilers (needs root, half an hour, a quiet machine)
	$(CARGO) run --locked -q --release -p dkms-tests --bin bench

storm: deps deb ## 200 kills at random moments of a publication (needs root)
	$(CARGO) test --locked -p dkms-tests --test kill_storm -- --ignored --nocapture

# How long each target runs. The fuzzer needs compiler flags that the stable toolchain keeps to itself. No sanitizer: there is
# no unsafe code of ours that it could watch.
FUZZ_SECONDS ?= 600
fuzz: ## the readers of hostile input, ten minutes each, with cargo-fuzz (installed when missing)
	@packaging/host-deps fuzz
	@# cargo-fuzz knows no --locked.
	@$(CARGO) fetch --locked -q --manifest-path tests/fuzz/Cargo.toml
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install cargo-fuzz --locked
	@cd tests/fuzz && for target in $$($(CARGO) fuzz list --fuzz-dir .); do \
	    mkdir -p corpus/$$target; \
	    RUSTC_BOOTSTRAP=1 nice $(CARGO) fuzz run -s none --fuzz-dir . $$target corpus/$$target seeds/$$target -- \
	        -max_total_time=$(FUZZ_SECONDS) -timeout=5 -rss_limit_mb=1024 || exit 1; done

corpus: deps ## every dkms.conf of every Debian suite, evaluated natively and by bash (fetches 800 MB once)
	DKMS_CORPUS=all $(CARGO) test --locked -p dkms-tests --test conf_corpus

deps: ## install what the throwaway roots need on this machine, if it is missing (needs root)
	@packaging/host-deps roots

clean: ## remove everything that was made, throwaway roots with their mounts included
	@# Innermost mounts first. A root whose run was killed may still have some: deleting through them would reach the host.
	@sed 's/^[^ ]* [^ ]* [^ ]* [^ ]* \([^ ]*\) .*/\1/' /proc/self/mountinfo | grep -F "$(CURDIR)/target/" | sort -r | \
	    while read -r mount; do umount --lazy "$$mount" || exit 1; done
	rm -rf --one-file-system target/roots dist
	$(CARGO) clean
