# The targets people use: demo, test, bench, attacks, clients. Each does its own set-up and is quick when nothing is missing.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON := .venv/bin/python
PACKAGE := broker/agent_broker
OBJECTS := $(patsubst bpf/%.bpf.c,$(PACKAGE)/kernel/objects/%.bpf.o,$(wildcard bpf/*.bpf.c))
BCC := $(PACKAGE)/kernel/objects/bcc
SHIM := $(PACKAGE)/shim/agent-broker-shim
LAUNCHER := $(PACKAGE)/shim/agent-broker-run
PROTO := $(PACKAGE)/transport/control_pb2.py
CONSTRAINTS := packaging/constraints.txt
BPF_ARCH := $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,x86)
BPF_FLAGS := -g -O2 -mcpu=v3 -target bpf -D__TARGET_ARCH_$(BPF_ARCH) -Wall -Wextra -Werror -Wno-unused-parameter

.PHONY: setup constraints demo test test-vm lint bench bench-peers attacks clients fuzz hammer bpf shim proto wheel clean tools

setup: tools .venv/.installed bpf shim proto

tools:
	@packaging/install-build-tools.sh

.venv/.installed: pyproject.toml $(CONSTRAINTS) | tools
	@test -x $(PYTHON) || /usr/bin/python3 -m venv .venv
	@.venv/bin/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[dev]' 2>&1 | { grep -v '^WARNING' || true; }
	@touch $@

# The newest that pyproject.toml allows, written down: what is built and proven changes by a commit, not by somebody's release.
constraints: .venv/.installed
	@.venv/bin/pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager --editable '.[dev]'
	@.venv/bin/pip freeze --exclude-editable > $(CONSTRAINTS)

bpf: $(OBJECTS) $(BCC)/.copied

# What the backend bcc compiles on the user's machine is shipped as it is.
$(BCC)/.copied: $(shell find bpf/bcc -name '*.h') bpf/events.h
	@rm -rf $(@D) && mkdir -p $(@D) && cp -r bpf/bcc/. bpf/events.h $(@D) && touch $@

$(PACKAGE)/kernel/objects/%.bpf.o: bpf/%.bpf.c bpf/events.h bpf/kernel_types.h bpf/maps.h bpf/taint.h bpf/code.h bpf/marks.h bpf/resize.h bpf/denials.h bpf/ours.h | tools
	@mkdir -p $(@D)
	clang $(BPF_FLAGS) -c $< -o $@
	@llvm-strip -g $@

shim: $(SHIM) $(LAUNCHER)

$(SHIM): SOURCE := client.c
$(LAUNCHER): SOURCE := launcher.c
$(SHIM) $(LAUNCHER): $(wildcard shims/*.c shims/*.h) shims/cc.flags | tools
	@mkdir -p $(@D)
	cd shims && cc @cc.flags -o $(abspath $@) $(SOURCE)
	@strip $@

proto: $(PROTO)

$(PROTO): $(PACKAGE)/transport/control.proto .venv/.installed
	$(PYTHON) -m grpc_tools.protoc -Ibroker --python_out=broker --grpc_python_out=broker $<
	@touch $@

demo: setup
	@packaging/install-build-tools.sh --for-demo
	@$(PYTHON) -m tests.demo.main

# The same examples each time (make fuzz looks for new ones); without the profile pytest takes others each time.
# LANES: how many tests run beside each other (tests/lanes.py); 0: one after the other, as debuggers like it.
LANES ?= 2
test: setup
	@packaging/install-build-tools.sh --for-tests
	@.venv/bin/pytest --hypothesis-profile=ci --numprocesses=$(LANES) $(ARGS)

# What needs BPF LSM, in a virtual machine; some ten minutes. ARGS="-k NAME": some of it.
test-vm: setup
	@packaging/install-build-tools.sh --for-vm
	@$(PYTHON) -m tests.vm.main $(ARGS)

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: setup
	@$(PYTHON) -m tests.bench.main $(ARGS)

# auditd, fatrace and opensnoop beside our monitor, in one run with the same watch. Not part of CI: it turns auditing on meanwhile.
bench-peers: setup
	@packaging/install-build-tools.sh --for-peers
	@$(PYTHON) -m tests.bench.peers.main $(ARGS)

# Every known way around the broker, carried out; writes docs/attack-matrix.md. ARGS="--only NAME --verbose": one of them.
# Then every way to open a watched file; writes docs/open-table.md.
attacks: setup
	@packaging/install-build-tools.sh --for-demo
	@$(PYTHON) -m tests.e2e.attacks.main --write $(ARGS)
	@$(if $(ARGS),,$(PYTHON) -m tests.e2e.opens.main --write)

# Every agent in every layout and login, enrolled, used, attacked, updated, unenrolled; then every tool that can be enrolled, with the real
# client; writes docs/clients*.md. ARGS="--only TEXT": some of the agents.
clients: setup
	@packaging/install-build-tools.sh --for-demo
	@$(PYTHON) -m tests.e2e.agents.main --write $(ARGS)
	@$(if $(ARGS),,$(PYTHON) -m tests.e2e.agents_generic.main --write)
	@$(if $(ARGS),,$(PYTHON) -m tests.e2e.clients.main --write)

# SECONDS_EACH: for each target. A failing input is kept in .build/fuzz.
SECONDS_EACH ?= 20
fuzz: setup
	@$(PYTHON) -m tests.fuzz.main --seconds $(SECONDS_EACH)

# Readers and strangers of a viewed file beside each other, in every way to read one. CI gives it a minute.
hammer: setup
	@$(PYTHON) -m tests.e2e.view.hammer --seconds $(SECONDS_EACH)

wheel: setup
	.venv/bin/pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf .venv .build dist $(PACKAGE)/kernel/objects $(PACKAGE)/shim $(PACKAGE)/transport/control_pb2*
