# The only entry point: `make help` lists what can be asked for.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# What tests, demonstration and benchmarks prepare (kernel, images, groups) stays inside the clone unless told otherwise.
export AURORA_HOME ?= $(CURDIR)/.build/aurora-home
export AURORA_RUNTIME ?= $(CURDIR)/.build/aurora-run

FUZZ_SECONDS ?= 30
BENCH_ARGUMENTS ?=
TEST_ARGUMENTS ?=

.PHONY: help setup guest build test demo bench fmt lint fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is needed from Debian packages (root, or sudo)
	@scripts/setup

guest: ## build the two programs that run inside a guest: PV shim and agent
	@scripts/build-guest

build: guest ## build the aurora command (release): .build/release/aurora
	swift build -c release --product aurora --static-swift-stdlib

test: ## build, prepare kernel and base image, run every test
	@scripts/run-tests $(TEST_ARGUMENTS)

demo: build ## redis-server in a group, spoken to from the host
	@scripts/demo

bench: build ## measure guest and host side by side; prints a table
	bench/run $(BENCH_ARGUMENTS)

fmt: ## format all Swift sources in place
	swift format --in-place --recursive --parallel Sources Tests Fuzz Package.swift

lint: ## check format, documentation comments and shell scripts
	@scripts/lint

fuzz: guest ## run every fuzzer for FUZZ_SECONDS seconds each
	@scripts/fuzz $(FUZZ_SECONDS)

clean: ## remove everything that was built or prepared in this clone
	rm -rf .build Sources/GuestBlobs/generated bench/results
