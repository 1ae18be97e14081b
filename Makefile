# make demo    a file both ways between two processes on this machine; nothing needs to be installed before
# make quick   what to run while one works: a minute
# make test    style, types and the tests: eight minutes on two processors
# make tools   the tests of what the project is developed with: time limits, endurance, audit, benchmarks
# make interop the scenarios and the conformance cases against the Linux kernel's siw in a virtual machine
# make cpython CPython's own tests of sockets, over TCP and over iWARP
# make pyverbs rdma-core's own Python tests, on pyiwarp instead of a device
# make docs    the documentation as pages, with search
# make help    the rest

VENV := .venv
PYTHON := $(VENV)/bin/python
TESTS := tests

# One process more than there are processors, as tests also wait. SEED repeats a shuffled order; WORKERS=0 runs all in one.
WORKERS ?= $(shell expr 1 + $$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN))
SEED ?=
# Bytecode lies below the environment, also where none is to be written beside the sources: a fourth of the time is saved.
CACHED = env -u PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX=$(CURDIR)/$(VENV)/.pycache
PYTEST = $(PYTHON) -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal $(if $(SEED),--randomly-seed=$(SEED))
QUICK := tests/unit tests/rfc tests/golden

.DEFAULT_GOAL := help
.PHONY: help demo quick test tools lint types pytest pythons endurance soak interop cpython pyverbs bench mutants fuzz wheels compiled package compliance reference docs picture audit format clean distclean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

demo: $(VENV)/.demo  ## a file both ways between two processes on this machine
	@$(PYTHON) -m pyiwarp demo

quick: lint types  ## a minute while one works: style, types, and the tests that need no network
	$(CACHED) $(PYTEST) $(QUICK) -m 'not siw and not tools' -q

test: lint types pytest  ## style, types and the tests; SEED=7 repeats an order

tools: $(VENV)/.test  ## the tests of what the project is developed with: time limits, endurance, audit, benchmarks
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[docs,fuzz]'
	$(PYTEST) $(TESTS) -m tools --durations 10

lint: $(VENV)/.test  ## ruff: rules and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.test  ## mypy --strict
	$(VENV)/bin/mypy

pytest: $(VENV)/.test  ## the tests alone; TESTS=tests/unit runs a part
	$(CACHED) $(PYTEST) $(TESTS) --durations 10

pythons: $(VENV)/.test  ## the tests that may depend on it, with each other Python that is here: 3.11, 3.12, 3.13, 3.14
	.ci/pythons

MINUTES ?= 10

soak: $(VENV)/.test  ## good and hostile clients on each driver: memory, descriptors and tasks stay flat; MINUTES=30
	nice $(PYTHON) -m tests.hostile.soak --minutes $(MINUTES)

endurance: $(VENV)/.test  ## all tests again and again: shuffled, under load, with one processor, without IPv6 and so on
	$(PYTHON) -m tests.endurance $(RUNS)

interop: $(VENV)/.test  ## the scenarios and the conformance cases against Linux siw in a virtual machine, then the tests that need it
	$(CACHED) $(PYTHON) -m interop
	$(CACHED) $(PYTHON) -m interop.conform
	$(CACHED) $(PYTHON) -m pytest -m siw

cpython: $(VENV)/.test  ## CPython's own socket tests over TCP and over iWARP: three minutes; writes docs/cpython.md
	$(CACHED) $(PYTHON) -m interop.cpython

pyverbs: $(VENV)/.test  ## rdma-core's own Python tests on pyiwarp.pyverbs: half a minute; writes docs/pyverbs-tests.md
	$(CACHED) $(PYTHON) -m interop.pyverbs

bench: $(VENV)/.test  ## pyiwarp beside sockets and what else is there: some minutes on a quiet machine
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[ucxx]' || \
		echo "ucxx cannot be installed here: its lines say so"
	@[ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
		apt-get install -qq -y ucx-utils libfabric-bin >/dev/null || \
		echo "ucx-utils and libfabric-bin cannot be installed here: their lines say so"
	$(PYTHON) -m benchmarks.compare

MODULE ?= pyiwarp
SAMPLE ?= 20

mutants: $(VENV)/.test  ## break some lines of MODULE (a file or a folder) and show what no test notices; SAMPLE=20 SEED=7
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[mutants]'
	nice $(PYTHON) -m mutants $(MODULE) --sample $(SAMPLE) --seed $(or $(SEED),1)

SECONDS ?= 60

fuzz: $(VENV)/.test  ## search for octets that make something fail, a minute for each target; TARGET=stream SECONDS=600
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(PYTHON) -m tests.fuzz $(TARGET) --seconds $(SECONDS)

wheels:  ## build the pure wheel and the compiled one for this Python, in dist/
	.ci/wheels

compiled: wheels  ## build both wheels, and run the tests of the stack on the compiled one, in .compiled/
	.ci/compiled .compiled

package:  ## build the sdist and the wheel, and try both with every Python that is here
	.ci/package

compliance: $(VENV)/.test  ## write docs/compliance.md anew from the citations
	$(PYTHON) -m tests.meta.compliance

reference: $(VENV)/.test  ## write docs/reference.md anew from the signatures and docstrings
	$(PYTHON) -m tests.meta.reference

docs: $(VENV)/.test  ## the documentation as pages, with search, in .site/: half a minute; view it with python -m http.server -d .site
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs --quiet build --config-file website/mkdocs.yml
	@echo "wrote .site/index.html"

picture: $(VENV)/.test  ## the README's picture, docs/explain.png: a page of pyiwarp explain in chromium
	@mkdir -p build
	$(VENV)/bin/pyiwarp explain --demo write --html build/write.html --force
	chromium --headless --disable-gpu --no-sandbox --hide-scrollbars --window-size=1120,1010 \
		--user-data-dir=build/chromium --screenshot=docs/explain.png "file://$(CURDIR)/build/write.html#4"

audit: $(VENV)/.test  ## break each rule of the RFCs and run the tests that cite it; RULES="MPA-5044-7 ..." audits a part
	$(PYTHON) -m tests.meta.audit $(RULES)

format: $(VENV)/.test  ## let ruff format and repair what it can
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean:  ## remove what tools have left
	rm -rf build dist .site .compiled .pythons .endurance .fuzz .package *.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## and the virtual environment
	rm -rf $(VENV)

# The stamps: the environment is made once, and the package installed anew when its description has changed.

$(VENV)/.made:
	@.ci/venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml
	@echo "installing pyiwarp into $(VENV)"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml
	@echo "installing pyiwarp and its test tools into $(VENV)"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/.demo
