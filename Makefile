# resound: everything a person does with this folder. Needs cargo, make and a C compiler.

CARGO ?= cargo
ARGS ?= echo
SEEDS ?= 100000
PREFIX ?= $(HOME)/.cargo
BASELINE ?= before
FILTER ?=

# Criterion's options for an answer in two minutes.
QUICK = --warm-up-time 0.1 --measurement-time 0.4 --sample-size 10 --nresamples 2000 --noplot

# The same for a round of several.
ROUND = --warm-up-time 0.3 --measurement-time 1.2 --sample-size 20 --nresamples 5000 --noplot

.PHONY: help run build test format lint unit doc-test doc bench bench-quick bench-save bench-compare figures soak install clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  make run ARGS='broadcast -l 0.0.0.0:7000'   runs something else than an echo on 127.0.0.1:9999"
	@echo "  make bench FILTER=echo/pipelined   measures only what has that in its name"
	@echo "  RESOUND_ADDR=HOST:PORT make bench   measures a server that runs elsewhere"

run: ## build for speed and run: an echo service on 127.0.0.1:9999, or what ARGS says
	@$(CARGO) run --release --locked -- $(ARGS)

build: ## build for speed: target/release/resound
	$(CARGO) build --release --locked

test: format lint unit doc-test doc ## all checks and tests
	@echo "All checks and tests have passed."

# rustfmt and clippy come with most toolchains; where they are absent and can't be added, their
# check is left out, with a word (but in continuous integration that is a failure).
format:
	@if $(CARGO) fmt --version >/dev/null 2>&1 || rustup component add rustfmt >/dev/null 2>&1; \
	then $(CARGO) fmt --check; \
	else echo "rustfmt is not installed: the format is not checked"; test -z "$$CI"; fi

lint:
	@if $(CARGO) clippy --version >/dev/null 2>&1 || rustup component add clippy >/dev/null 2>&1; \
	then $(CARGO) clippy --locked --all-targets -- -D warnings && \
	for features in "" load,testing; do \
	$(CARGO) clippy --locked --lib --no-default-features --features "$$features" -- -D warnings || exit 1; done; \
	else echo "clippy is not installed: its lints are not checked"; test -z "$$CI"; fi

# The tests of the library, of the binary and from outside, and each bench once, from one build.
unit:
	$(CARGO) test --locked --all-targets

doc-test:
	$(CARGO) test --locked --doc --features testing

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

bench: ## measure with criterion, beside others (ten minutes once built); report in target/criterion/report/index.html
	$(CARGO) bench --locked -- $(if $(FILTER),'$(FILTER)')

bench-quick: ## the same in two minutes, less exact
	$(CARGO) bench --locked -- $(QUICK) $(if $(FILTER),'$(FILTER)')

bench-save: ## measure and keep it as BASELINE=before
	$(CARGO) bench --locked -- --save-baseline $(BASELINE) $(if $(FILTER),'$(FILTER)')

bench-compare: ## measure and say what has changed since BASELINE=before
	$(CARGO) bench --locked -- --baseline $(BASELINE) $(if $(FILTER),'$(FILTER)')

figures: ## measure all in three rounds and write README's figures
	for round in 1 2 3; do \
	RESOUND_ROUND=$$round $(CARGO) bench --locked -- $(ROUND) --save-baseline round$$round || exit 1; done
	$(CARGO) bench --locked --bench figures -- --write

soak: ## many more simulated runs: SEEDS=100000
	SEEDS=$(SEEDS) $(CARGO) test --locked --lib simulation

install: ## install the binary below PREFIX (default: ~/.cargo)
	$(CARGO) install --locked --path . --root $(PREFIX)

clean: ## remove what was built
	$(CARGO) clean
