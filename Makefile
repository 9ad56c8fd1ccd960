# The one set of commands.  `make run` and `make test` install what they need into .venv, once.

# Debian's own Python, if it is ready for use: it is built with all optimisations, and others are often not.
PYTHON ?= $(shell /usr/bin/python3.11 -c 'import ensurepip, sys; print(sys.executable)' 2>/dev/null || echo python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# What to test, and in how many processes: one, because trial's workers hang when there is no test to run.
# What to pass to `make run`, `make bench` and `make bench-raft`.
T ?= tests
JOBS ?=
ARGS ?=
# How long each simulated cluster of `make fuzz-raft` is.
STEPS ?= 1000

# Commands that tests call, and the Debian package of each.
TOOLS := nghttp:nghttp2-client h2load:nghttp2-client etcdctl:etcd-client
APT := DEBIAN_FRONTEND=noninteractive apt-get -qq -y

# The reactors that the protocols are tested on.
REACTORS := epoll poll select asyncio

# How long each fuzzer runs.
SECONDS ?= 60

.PHONY: help run test test-reactors check bench bench-raft fuzz fuzz-raft fuzz-disk simulate proto tools
.DELETE_ON_ERROR:

help:
	@echo "make run [ARGS='--name=m1 ...']   a member on 127.0.0.1:2379, its data in default.etcd"
	@echo "make test [T=tests.raft]          make check, then the tests"
	@echo "make test-reactors                the tests of the protocols, on each of several reactors"
	@echo "make check                        lint, format, types, and who imports whom"
	@echo "make bench [ARGS=...]             how fast it is"
	@echo "make bench-raft [ARGS=...]        what raft alone costs"
	@echo "make fuzz [SECONDS=...]           what nobody would send, for so long to each parser"
	@echo "make fuzz-raft [SEEDS=... STEPS=...]  simulated clusters of raft members, 2000 seeds of 1000 steps"
	@echo "make fuzz-disk [SEEDS=500]        crash a member on a simulated disk"
	@echo "make simulate [SEEDS=1-500 MEMBERS='3 5' SECONDS=120]  clusters of servers, in trouble"
	@echo "make proto                        twistedetcd/pb/*.proto -> *_pb2.py and *_pb2.pyi"

run: $(VENV)/run.stamp
	$(BIN)/twistedetcd $(ARGS)

test: check tools
	$(BIN)/python -m twisted.trial $(if $(JOBS),--jobs=$(JOBS)) $(T)

# Strictness is in setup.cfg: --strict here would undo the exception that it makes for Twisted.
test-reactors: $(VENV)/dev.stamp
	@set -e; for reactor in $(REACTORS); do \
	    echo "The $$reactor reactor:"; \
	    $(BIN)/python -m twisted.trial --reactor=$$reactor --reporter=text tests.protocols; \
	done

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p twistedetcd
	$(BIN)/lint-imports

bench: $(VENV)/dev.stamp tools
	$(BIN)/python -m twistedetcd.testing.bench $(ARGS)

bench-raft: $(VENV)/dev.stamp
	$(BIN)/python -m twistedetcd.testing.bench.raft $(ARGS)

fuzz: $(VENV)/dev.stamp
	$(BIN)/python -m twistedetcd.testing.fuzz --seconds $(SECONDS) $(ARGS)

fuzz-raft: SEEDS ?= 2000
fuzz-raft: $(VENV)/dev.stamp
	$(BIN)/python -m twistedetcd.testing.raftsim --seeds 0..$$(($(SEEDS) - 1)) --steps $(STEPS)

# Each seed is a member's five lives, and what a disk may do to it in between.
fuzz-disk: SEEDS ?= 500
fuzz-disk: $(VENV)/dev.stamp
	SEEDS=$(SEEDS) $(BIN)/python -m twisted.trial tests.disk.test_lives

# Each seed is a cluster with its clients, and what goes wrong.
simulate: SEEDS ?= 1-100
simulate: MEMBERS ?= 3 5
simulate: SECONDS = 60
simulate: $(VENV)/dev.stamp
	@set -e; for members in $(MEMBERS); do \
	    $(BIN)/python -m twistedetcd.testing.simulate --seeds $(SEEDS) --seconds $(SECONDS) \
	        --members $$members --jobs $$(nproc) $(ARGS); \
	done

proto: $(VENV)/dev.stamp
	$(BIN)/python -m twistedetcd.pb.generate

$(VENV)/run.stamp: setup.cfg pyproject.toml | $(BIN)/python
	$(PIP) install --editable .
	@touch $@

$(VENV)/dev.stamp: setup.cfg pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[dev]'
	@touch $(VENV)/run.stamp $@

# Debian's python3 has no ensurepip until python3-venv is there, and venv makes half a directory without it.
$(BIN)/python:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get -qq update && $(APT) install python3-venv; \
	else \
	    echo 'Python 3.11 with venv is needed: install the package python3-venv, then call make again.'; \
	    exit 1; \
	fi
	$(PYTHON) -m venv --clear $(VENV)

# Never fails: a test that needs a missing tool says so itself.
tools:
	@missing=$$(for tool in $(TOOLS); do \
	    command -v $${tool%%:*} >/dev/null || echo $${tool##*:}; \
	done | sort -u); \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get -qq update && $(APT) install $$missing && missing=; \
	fi; \
	if [ -n "$$missing" ]; then \
	    echo "Some tests need Debian packages that are not here:" $$missing; \
	fi
