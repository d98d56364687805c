# SPDX-License-Identifier: Apache-2.0
# `make help` lists the targets. Every target sets up what it needs by itself; nothing is asked.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# The build folder can be moved (BUILD=/elsewhere); everything that a run makes lies below it.
BUILD ?= $(CURDIR)/.build
export VPCSIM_VENV := $(BUILD)/venv
PYTHON := $(VPCSIM_VENV)/bin/python
BINARY := $(BUILD)/install/vpc-cni
export VPC_CNI_BINARY := $(BINARY)
export VPC_CNI_TEST_PYTHON := $(PYTHON)

# Tests share as many threads as there are processors. Unlimited, every test is started at once, and one that waits for
# a server comes to run again behind all the others: limits in real time are then the machine's, not the code's.
export SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH ?= 8

# A tenth of the build's time is debug information, which the installed binary never has. For a debugger: DEBUG_INFO=dwarf.
DEBUG_INFO ?= none
SWIFT_BUILD := swift build --scratch-path $(BUILD) -debug-info-format $(DEBUG_INFO)
# libstdc++ and libgcc from their archives: the folder of links stands first in the linker's search path.
RELEASE := -c release --static-swift-stdlib --disable-local-rpath -Xlinker -L$(BUILD)/archives
# What every start of the plugin would pay for (docs/decisions/0013-start-up-time.md): a table of exported symbols that
# nobody looks up; 72,000 relocations; types found by name, for which Swift's runtime goes through all conformances.
RELEASE += -Xlinker --no-export-dynamic -Xlinker -z -Xlinker relro -Xlinker -z -Xlinker now -Xlinker --no-pie
RELEASE += -Xswiftc -Xfrontend -Xswiftc -disable-concrete-type-metadata-mangled-name-accessors
# Each function in a section of its own: the linker drops those that nothing calls, and the program has fewer pages to fault in.
RELEASE += -Xswiftc -Xfrontend -Xswiftc -function-sections -Xcc -ffunction-sections

# End-to-end tests mostly wait: four at once keep two processors busy. Each worker has a VPC of its own. Tests marked
# `timed`, which judge elapsed time, run alone afterwards. 0: one after the other, in one process.
WORKERS ?= 4

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install what is missing: Debian packages and the rig's Python environment
	@.ci/setup $(VPCSIM_VENV)

.PHONY: packages
packages:
	@.ci/setup

$(BUILD)/archives:
	@mkdir -p $@
	@ln -sf "$$(gcc -print-file-name=libstdc++.a)" $@/libstdc++.a
	@ln -sf "$$(gcc -print-file-name=libgcc_eh.a)" $@/libgcc_s.a

.PHONY: build
build: packages $(BUILD)/archives ## Release binary, static Swift runtime, stripped: .build/install/vpc-cni
	@$(SWIFT_BUILD) $(RELEASE) --product vpc-cni 2>&1 | Tests/Checks/quiet-build
	@mkdir -p $(BUILD)/install
	@printf '@(#)vpc-cni-build %s' "$$(git describe --always --dirty --abbrev=12 --exclude '*' 2>/dev/null || echo unknown)" \
	  > $(BUILD)/install/.commit.new && truncate -s 80 $(BUILD)/install/.commit.new
	@cmp -s $(BUILD)/release/vpc-cni $(BUILD)/install/.unstripped 2>/dev/null \
	  && cmp -s $(BUILD)/install/.commit.new $(BUILD)/install/.commit 2>/dev/null || { \
	  cp $(BUILD)/release/vpc-cni $(BUILD)/install/.unstripped; cp $(BUILD)/install/.commit.new $(BUILD)/install/.commit; \
	  strip -o $(BINARY).new $(BUILD)/release/vpc-cni \
	    && objcopy --update-section .vpc_cni_build=$(BUILD)/install/.commit $(BINARY).new && mv $(BINARY).new $(BINARY); }
	@echo "built $(BINARY): $$(stat -c %s $(BINARY)) bytes"

.PHONY: build-bench
build-bench: packages $(BUILD)/archives
	@$(SWIFT_BUILD) $(RELEASE) --product burst 2>&1 | Tests/Checks/quiet-build
	@$(SWIFT_BUILD) $(RELEASE) --product pool-rate 2>&1 | Tests/Checks/quiet-build

.PHONY: build-tests
build-tests: setup
	@$(SWIFT_BUILD) --build-tests 2>&1 | Tests/Checks/quiet-build

.PHONY: test
test: build setup ## Everything that this machine can run, with a table of where the time went
	@$(PYTHON) Tests/run.py --build $(BUILD) --workers $(WORKERS) $(if $(ONLY),--only $(ONLY))

.PHONY: unit-test
unit-test: build-tests ## Unit suites: need nothing (FILTER=Name runs one)
	@$(if $(FILTER),swift test --scratch-path $(BUILD) --skip-build --filter '$(FILTER)',\
	  swift test --scratch-path $(BUILD) --skip-build --filter ModelTests && \
	  swift test --scratch-path $(BUILD) --skip-build --skip 'KernelTests|ModelTests')

.PHONY: kernel-test
kernel-test: build-tests ## Netlink, nftables, iptables, pod wiring on the real kernel: need root
	@swift test --scratch-path $(BUILD) --skip-build --filter KernelTests

.PHONY: manifest-test
manifest-test: setup ## The manifests against the API's schemas, the settings and what the agent asks for
	@$(PYTHON) -m pytest -q Tests/Manifests $(if $(FILTER),-k '$(FILTER)')

.PHONY: simulator-test
simulator-test: setup ## The simulated VPC keeps its promises
	@$(PYTHON) -m pytest -q Tests/Simulator/tests $(if $(FILTER),-k '$(FILTER)')

.PHONY: e2e
e2e: setup build ## The built binary on the simulated VPC (FILTER=word chooses tests, WORKERS=0 runs them one by one)
	@$(PYTHON) -m pytest -q -ra --durations=10 -n $(WORKERS) --dist worksteal -m 'not timed' Tests/EndToEnd $(if $(FILTER),-k '$(FILTER)') \
	  || [ $$? = 5 ]
	@$(PYTHON) -m pytest -q -ra --durations=10 -m timed Tests/EndToEnd $(if $(FILTER),-k '$(FILTER)') || [ $$? = 5 ]

.PHONY: soak
soak: setup build ## End-to-end tests RUNS times (5) in random order beside two busy loops; lists every test that failed once
	@$(PYTHON) Tests/soak.py --build $(BUILD) --runs $(or $(RUNS),5) --workers $(WORKERS) $(if $(FILTER),-k '$(FILTER)')

.PHONY: vm-test
vm-test: build-tests build ## Tests on Linux 5.10, 6.1 and 6.12 in VMs (FILTER=word chooses jobs); the short ones are part of make test
	@VPC_CNI_BUILD=$(BUILD) Tests/VM/run $(if $(FILTER),'$(FILTER)')

.PHONY: vm
vm: setup build ## A shell in a VM with a simulated VPC: KERNEL=5.10, 6.1 (default) or 6.12
	@VPC_CNI_VM_CACHE=$(BUILD)/vm NAME=$(NAME) Tests/VM/vm -i -k $(or $(KERNEL),6.1) -- bash --rcfile Tests/VM/shell -i

# Sanitizers build in folders of their own: objects with and without them do not mix.
#
# UndefinedBehaviorSanitizer's runtime is part of AddressSanitizer's. Its check of indirect calls is left out: Swift's
# functions do not carry the type that it compares.
UNDEFINED := -Xcc -fsanitize=undefined -Xcc -fno-sanitize=function -Xcc -fno-sanitize-recover=undefined

.PHONY: sanitize
sanitize: sanitize-thread sanitize-address ## Unit suites under ThreadSanitizer, all suites under Address- and UndefinedBehaviorSanitizer

.PHONY: sanitize-thread
sanitize-thread: setup ## Unit suites under ThreadSanitizer (FILTER=Name runs one)
	@swift build --scratch-path $(BUILD)/tsan --sanitize thread --build-tests 2>&1 | Tests/Checks/quiet-build
	@clang -shared -fPIC -O1 -Wall -Werror -o $(BUILD)/tsan/thread-mutex.so Tests/Checks/thread-mutex.c
	@LD_PRELOAD="$(BUILD)/tsan/thread-mutex.so" \
	  TSAN_OPTIONS="suppressions=$(CURDIR)/Tests/Checks/thread-suppressions" \
	  swift test --scratch-path $(BUILD)/tsan --sanitize thread --skip-build \
	  $(if $(FILTER),--filter '$(FILTER)',--skip KernelTests)

.PHONY: sanitize-address
sanitize-address: setup ## Kernel and unit suites under Address- and UndefinedBehaviorSanitizer: need root
	@swift build --scratch-path $(BUILD)/asan --sanitize address $(UNDEFINED) --build-tests 2>&1 | Tests/Checks/quiet-build
	@ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  swift test --scratch-path $(BUILD)/asan --sanitize address $(UNDEFINED) --skip-build \
	  $(if $(FILTER),--filter '$(FILTER)')

# Coverage for libFuzzer goes into every Swift module; its runtime, without a main of its own, into the program alone.
FUZZER := -c release --sanitize address -Xswiftc -enable-testing -Xswiftc -Xfrontend -Xswiftc -sanitize=fuzzer
FUZZER += -Xlinker $$(clang -print-resource-dir)/lib/linux/libclang_rt.fuzzer_no_main-$$(uname -m).a -Xlinker -lstdc++

.PHONY: fuzz
fuzz: packages ## libFuzzer on a parser: TARGET=json SECONDS=600; without TARGET on each in turn; SECONDS=0 runs the corpora
	@VPC_CNI_FUZZ=1 swift build --scratch-path $(BUILD)/fuzz $(FUZZER) --product fuzz 2>&1 | Tests/Checks/quiet-build
	@Tests/Fuzz/run $(BUILD)/fuzz/release/fuzz $(BUILD)/fuzz/found '$(TARGET)' '$(or $(SECONDS),60)'

.PHONY: image
image: build ## The container image, without a registry: .build/image/vpc-cni.oci.tar; says its size
	@manifests/image/build $(BINARY) $(BUILD)/image

.PHONY: demo
demo: setup build ## Two simulated EC2 nodes, agents, pods that talk; FAMILY=ipv6; KEEP=1 leaves it up until make demo-down
	@$(PYTHON) Tests/EndToEnd/demo.py $(if $(KEEP),--keep) --family $(or $(FAMILY),ipv4)

.PHONY: demo-down
demo-down: ## Remove what make demo KEEP=1 left up
	@Tests/Simulator/vpcsim --name demo down

.PHONY: bench
bench: setup build build-bench ## Figures as ratios against baselines of the same run; JSON in .build/bench.json
	@$(PYTHON) Tests/Benchmarks/bench.py --json $(BUILD)/bench.json $(if $(ONLY),--only $(ONLY))

.PHONY: check
check: setup build ## Format, headers, lengths, imports, the binary's needs and the plugin's system calls
	@Tests/Checks/sources
	@Tests/Checks/binary $(BINARY)
	@$(PYTHON) Tests/Checks/system-calls $(BINARY) $(BUILD)/install/.unstripped

.PHONY: fmt
fmt: ## Format the Swift sources in place
	@swift format -i -r --parallel Package.swift $$(Tests/Checks/swift-files)

.PHONY: proto
proto: setup ## Make the generated RPC code again from Sources/Core/RPC/Protos
	@Sources/Core/RPC/Protos/generate

.PHONY: clean
clean: ## Remove build products and the Python environment
	@rm -rf $(BUILD)
