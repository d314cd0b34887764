# A thin front for CMake. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Parallel compilers, and tests running at a time.
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
TEST_JOBS ?= 2
# Which sources `make lint` runs clang-tidy on: changed (since LINT_BASE), all or none.
LINT ?= changed
LINT_BASE ?= HEAD
# More arguments: make demo ARGS='--help', make test ARGS='-L unit'.
ARGS ?=
# What `make build`, `asan` and `tsan` build; empty: everything.
TARGETS ?=

packages = deploy/setup/packages.sh
configure = test -f build/$(1)/build.ninja || cmake --preset $(1)
build = cmake --build --preset $(1) -j $(JOBS) $(addprefix --target ,$(TARGETS))
ctest = ctest --preset $(1) -j $(TEST_JOBS) $(ARGS)

.PHONY: help
help: ## Show this list.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: packages
packages: ## Install the Debian packages that are missing.
	@$(packages) build

.PHONY: demo
demo: packages ## Build, then serve the demo model from a device pool that is too small for it.
	@$(call configure,release)
	@$(call build,release) --target sluice
	@build/release/sluice demo $(ARGS)

.PHONY: build
build: packages ## Build everything (preset release): build/release/sluice.
	@$(call configure,release)
	@$(call build,release)

.PHONY: test
test: build ## Build, then run all tests.
	@$(packages) metrics redis
	@$(call ctest,release)

.PHONY: bench
bench: build ## Run the benchmarks (ARGS: suites, see tests/bench/README.md); results in build/bench.
	@python3 tests/bench/collect.py build/release build/bench $(ARGS)

.PHONY: lint
lint: packages ## Check format, structure and, for changed sources, clang-tidy (LINT=all: every source).
	@$(packages) lint
	@$(call configure,release)
	@python3 tests/tidy/tidy.py
	@tests/tidy/lint.sh build/release '$(LINT)' '$(LINT_BASE)'

.PHONY: format
format: ## Rewrite the C++ sources with clang-format.
	@$(packages) lint
	@tests/tidy/sources.sh | xargs clang-format -i

.PHONY: asan
asan: packages ## Build and test with AddressSanitizer and UndefinedBehaviorSanitizer.
	@$(call configure,asan)
	@$(call build,asan)
	@$(call ctest,asan)

.PHONY: tsan
tsan: packages ## Build and test with ThreadSanitizer (clang).
	@$(packages) clang
	@$(call configure,tsan)
	@$(call build,tsan)
	@$(call ctest,tsan)

.PHONY: clean
clean: ## Remove everything that was built.
	@rm -rf build
