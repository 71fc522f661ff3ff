# `make` lists the targets. All output is in target/ and dist/.

CARGO ?= cargo
RELEASE := $(or $(CARGO_TARGET_DIR),target)/release

# Reproducible packages: the same commit gives the same bytes.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)
export SOURCE_DATE_EPOCH

.PHONY: help build check subjects audit test test-long packages deb rpm arch-package demo demo-fleet full compat arm64 verdicts bench corpus powercut storm fuzz oracle oracle-sample deps clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | while IFS="$$(printf '\t')" read -r target text; do \
	    printf '  make %-13s %s\n' "$$target" "$$text"; done

build: ## build the programs in release mode
	@packaging/host-deps build
	$(CARGO) build --locked --release -p dkms-core -p dkms-apt-hook -p dkms-dnf-plugin

check: ## check formatting, spelling, clippy and rustdoc, and run the unit tests (no root, about two minutes when cached)
	@packaging/host-deps check
	$(CARGO) fmt --all --check
	@# .codespellrc lists words that codespell must accept.
	codespell
	@! git rev-parse -q --verify HEAD >/dev/null 2>&1 || $(MAKE) --no-print-directory subjects
	@# This does not include alpm-hook's program that needs libalpm; it is checked when its package is built.
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@# The fuzz targets are a separate workspace. Only checked, not linked: libFuzzer is not built.
	CUSTOM_LIBFUZZER_PATH=/nonexistent/libfuzzer.a $(CARGO) check --locked -q --manifest-path tests/fuzz/Cargo.toml --target-dir target
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked -q --no-deps --workspace
	$(CARGO) test --locked -q -p dkms-core -p dkms-apt-hook -p dkms-dnf-plugin -p dkms-alpm-hook -p dkms-packaging
	$(CARGO) test --locked -q -p dkms-core --features failpoints --test failpoints
	$(CARGO) test --locked -q -p dkms-tests --lib --bin suites

# Checks the commits that are not upstream, or the newest one if there is no upstream. See CONTRIBUTING.md.
subjects:
	@git log --format=%s $$(git rev-parse -q --verify '@{upstream}' >/dev/null 2>&1 && echo '@{upstream}..' || echo -1) -- | \
	    awk 'length > 72 { print "commit subject over 72 columns: " $$0; bad = 1 } END { exit bad }'

# The newest version that compiles with the rust-version in Cargo.toml.
CARGO_DENY := 0.18.3
AUDITED := Cargo.toml tests/fuzz/Cargo.toml $(wildcard tests/oracle/Cargo.toml)
audit: ## check bans, licences, sources and, if the database is available, advisories of all dependencies with cargo-deny
	@packaging/host-deps build
	@$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install cargo-deny --locked --version $(CARGO_DENY)
	@what='bans licenses sources'; \
	if $(CARGO) deny fetch --config '$(CURDIR)/deny.toml' db >/dev/null 2>&1; then what="advisories $$what"; \
	    else echo 'cannot fetch the advisory database: checking only bans, licences and sources'; fi; \
	for manifest in $(AUDITED); do \
	    echo "$$manifest:"; \
	    $(CARGO) deny --locked --manifest-path $$manifest check --config '$(CURDIR)/deny.toml' $$what || exit 1; done

packages: deb rpm ## build the .deb and the .rpm in dist/, and as root also the Arch package
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory arch-package; \
	    else echo "skipping the Arch package: it is built in a throwaway root, which requires root"; fi

deb: build ## build dist/dkms-rs_VERSION_ARCH.deb
	$(CARGO) run --locked -q -p dkms-packaging -- deb --binaries $(RELEASE) --out dist

rpm: build ## build dist/dkms-rs-VERSION-1.ARCH.rpm
	$(CARGO) run --locked -q -p dkms-packaging -- rpm --binaries $(RELEASE) --out dist

arch-package: deps ## build dist/dkms-rs-VERSION-1-x86_64.pkg.tar.zst with makepkg in a throwaway root (needs root)
	$(CARGO) run --locked -q -p dkms-tests --bin arch-package

test: deps check packages oracle-sample ## run check, then real transactions in throwaway roots (needs root, half an hour; SUITES="rpm boot::" selects suites)
	$(CARGO) run -q --locked -p dkms-tests --bin suites -- $(SUITES)

test-long: deps packages ## run the slow tests: all package managers, Secure Boot, storm, full, compat (needs root, hours on the first run)
	$(CARGO) run -q --locked -p dkms-tests --bin suites -- --long $(SUITES)

demo: deps deb ## install a kernel with apt in a throwaway Debian, rebuild and load its modules (needs root)
	$(CARGO) run --locked -q -p dkms-tests --bin demo

demo-fleet: deps deb ## build a module in one Debian, install it by apt in another without compiler, boot and load it (needs root)
	$(CARGO) run --locked -q -p dkms-tests --bin demo-fleet

full: deps deb ## install 23 real module packages and a new kernel in one transaction (needs root, slow)
	$(CARGO) test --locked -p dkms-tests --test full_transaction -- --ignored --test-threads=1 --nocapture

arm64: deps ## cross-compile for 64-bit ARM, and run a kernel update in an emulated Debian of that architecture (needs root, an hour)
	$(CARGO) test --locked -p dkms-tests --test arm64 -- --ignored --test-threads=1 --nocapture

compat: deps deb ## build every *-dkms package of Debian 13 with Debian's dkms and with ours, and compare (needs root, hours on the first run)
	$(CARGO) test --locked -p dkms-tests --test compat -- --ignored --test-threads=1 --nocapture

verdicts: deps deb ## insert more than a hundred changed modules in five real kernels, and compare with dkms check (needs root)
	$(CARGO) test --locked -p dkms-tests --test kernel_verdicts -- --include-ignored --test-threads=1 --nocapture

bench: deps deb ## compare build times with Debian's dkms and plain compiler runs (needs root, half an hour, an idle machine)
	$(CARGO) run --locked -q --release -p dkms-tests --bin bench

# The number of states for each story on each file system.
STATES ?= 2000
powercut: deps deb ## record every write of transactions on each file system and judge the states after a power cut; make each system call fail (needs root, hours; STATES=100)
	DKMS_STATES=$(STATES) $(CARGO) test --locked -p dkms-tests --test powercut -- --ignored --test-threads=1 --nocapture

# KILLS of installations, and ROUNDS with 32 processes each.
KILLS ?= 200
ROUNDS ?= 500
storm: deps deb ## kill 200 installations at random moments; 500 rounds of 32 processes at once, some stopped or killed (needs root, an hour; KILLS=10000 ROUNDS=0)
	DKMS_KILLS=$(KILLS) DKMS_ROUNDS=$(ROUNDS) $(CARGO) test --locked -p dkms-tests --test kill_storm --test concurrency -- --ignored --test-threads=1 --nocapture

# Run time of each target. RUSTC_BOOTSTRAP enables compiler flags that libFuzzer needs and the stable toolchain does not accept. No
# sanitizer: this tree contains no unsafe code.
FUZZ_SECONDS ?= 600
fuzz: ## fuzz the parsers of untrusted input with cargo-fuzz, ten minutes each (installs it if necessary)
	@packaging/host-deps fuzz
	@# cargo-fuzz does not support --locked.
	@$(CARGO) fetch --locked -q --manifest-path tests/fuzz/Cargo.toml
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install cargo-fuzz --locked
	@cd tests/fuzz && for target in $$($(CARGO) fuzz list --fuzz-dir .); do \
	    mkdir -p corpus/$$target; \
	    RUSTC_BOOTSTRAP=1 nice $(CARGO) fuzz run -s none --fuzz-dir . $$target corpus/$$target seeds/$$target -- \
	        -max_total_time=$(FUZZ_SECONDS) -timeout=5 -rss_limit_mb=1024 || exit 1; done

# A separate workspace, like the fuzz targets. The crate `rpm` needs a newer Rust than the rest of the tree.
ORACLE = $(CARGO) run -q --locked --manifest-path tests/oracle/Cargo.toml --target-dir target/oracle -- --at-least
oracle: packages deps ## compare our package parsers and packages with the crates debian-packaging and rpm (needs root, downloads 300 MB once)
	tests/oracle/collect target/oracle-packages
	$(ORACLE) 500 dist target/oracle-packages/debs target/oracle-packages/rpms

oracle-sample: packages ## the same for our packages and a few others (needs Rust 1.88)
	@if [ "$$(rustc -vV | sed -n 's/^release: 1\.\([0-9]*\).*/\1/p')" -lt 88 ]; then \
	    echo "skipping oracle-sample: the crate rpm needs Rust 1.88"; \
	else \
	    tests/oracle/collect --few target/oracle-few && $(ORACLE) 25 dist target/oracle-few; fi

corpus: deps ## evaluate every dkms.conf of every Debian suite natively and with bash (downloads 800 MB once)
	DKMS_CORPUS=all $(CARGO) test --locked -p dkms-tests --test conf_corpus

deps: ## install the packages that throwaway roots need on this machine (needs root)
	@packaging/host-deps roots

clean: ## delete all output, including throwaway roots and their mounts
	@# Unmount first, innermost mounts first: roots of killed runs may still contain mounts, and deleting through them would reach the host.
	@sed 's/^[^ ]* [^ ]* [^ ]* [^ ]* \([^ ]*\) .*/\1/' /proc/self/mountinfo | grep -F "$(CURDIR)/target/" | sort -r | \
	    while read -r mount; do umount --lazy "$$mount" || exit 1; done
	rm -rf --one-file-system target/roots dist
	$(CARGO) clean
