# `make help` lists the targets. Each sets up what it needs, from nothing but Python, make and a shell.

PYTHON ?= python3
ALGORITHM ?= kmeans
ALGORITHMS := $(shell sed -n 's/^ *"\([a-z-]*\)": "clary\.algorithms\..*/\1/p' algorithms/registry.py)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# What xgboost, and so the image of all, needs more than numpy is an extra of that name.
EXTRA = $(if $(filter xgboost all,$(ALGORITHM)),xgboost)
IMAGE ?= clary-$(ALGORITHM)
BASE_IMAGE ?= python:3.12-slim-bookworm
# The Python of BASE_IMAGE, for `make wheels`.
PYTHON_VERSION ?= 3.12
# A folder of wheels: `make image` then uses no network.
WHEELS ?=
DOCKER ?= docker
DOCKER_BUILD_FLAGS ?=
# Of `make fuzz`: how long, and where chance begins.
SECONDS ?= 60
SEED ?= 1
# Of `make test`: how many parts of the tests run at a time.
JOBS ?= 3

PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet

.PHONY: help venv demo test test-top test-doc check fix fuzz bench bench-short docs image images wheels clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 13

# What is installed is remembered in stamps: it is done again only when pyproject.toml changes.
.venv/pip.stamp:
	$(PYTHON) -m venv .venv
	$(PIP) install --upgrade pip
	@touch $@

.venv/demo.stamp: pyproject.toml .venv/pip.stamp
	$(PIP) install --editable '.[data]'
	@touch $@

.venv/dev.stamp: pyproject.toml .venv/pip.stamp
	$(PIP) install --editable '.[all]' --group dev
	@touch .venv/demo.stamp $@

.venv/docs.stamp: .venv/dev.stamp
	$(PIP) install --group docs
	@touch $@

venv: .venv/dev.stamp ## set up .venv with everything development needs (PYTHON=python3.12)

demo: .venv/demo.stamp ## train k-means through a FIFO, serve it, ask it
	$(PY) examples/demo.py

# Much of the time they wait for each other's processes: so three parts of them run at a time, the longest first.
LONGEST := local serve docker
PARTS := $(LONGEST) $(filter-out $(LONGEST),$(sort $(patsubst tests/%/,%,$(dir $(wildcard tests/*/test_*.py)))))
test: .venv/dev.stamp ## run the tests and the examples in docstrings (JOBS=3 at a time)
	@$(MAKE) --no-print-directory --keep-going --output-sync=target --jobs $(JOBS) $(PARTS:%=test-%) test-top test-doc

test-%:
	env -u MAKEFLAGS $(PY) -m pytest tests/$*

test-top:
	$(PY) -m pytest tests/test_*.py

test-doc:
	$(PY) -m pytest --doctest-modules --pyargs clary

check: .venv/dev.stamp ## lint and check types
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(PY) -m pyright --pythonpath $(PY)

fix: .venv/dev.stamp ## repair what the linter can
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

fuzz: ## let the kernels that read bytes read wrong ones, under sanitizers (SECONDS=60, SEED=1)
	mkdir -p build
	$(CC) -std=c11 -D_GNU_SOURCE -DCLARY_SANITIZED -O1 -g -Wall -Wextra -fno-omit-frame-pointer \
		-fsanitize=address,undefined -fno-sanitize-recover=all native/fuzz/main.c -o build/fuzz -lm
	cd build && ./fuzz $(SECONDS) $(SEED) ../native/fuzz/corpus/* ../tests/recordio/*/*.rec

# In a folder of their own, which tests do not see, and with the NumPy that is there.
.venv/bench.stamp: pyproject.toml .venv/dev.stamp
	rm -rf .venv/peers
	$(PIP) freeze --exclude-editable >.venv/constraints.txt
	$(PIP) install --target .venv/peers --constraint .venv/constraints.txt --group peers
	@touch $@

bench: .venv/bench.stamp ## measure against the peers, and write docs/benchmarks.md
	PYTHONPATH=$(CURDIR)/.venv/peers $(PY) -m benchmarks

bench-short: .venv/bench.stamp ## a minute of it; fails where a ratio is worse than half its target
	PYTHONPATH=$(CURDIR)/.venv/peers $(PY) -m benchmarks --short

docs: .venv/docs.stamp ## build the documentation into site/
	$(if $(wildcard docs/generate.py),$(PY) docs/generate.py)
	.venv/bin/zensical build --strict

# The wheels, wherever they lie, go to the one place of the build context where the Dockerfile looks for them.
image: ## build the image (ALGORITHM=name or all, IMAGE=, BASE_IMAGE=; without network: WHEELS=folder)
	@$(if $(filter $(ALGORITHM),$(ALGORITHMS) all),:,echo "no algorithm $(ALGORITHM): $(ALGORITHMS), or all" >&2; exit 2)
	rm -rf build/wheels
	$(if $(WHEELS),mkdir -p build/wheels && cp $(WHEELS)/*.whl build/wheels/)
	$(DOCKER) build --tag $(IMAGE) $(if $(WHEELS),--network none) $(DOCKER_BUILD_FLAGS) \
		--build-arg BASE_IMAGE=$(BASE_IMAGE) \
		--build-arg ALGORITHM=$(filter-out all,$(ALGORITHM)) \
		--build-arg EXTRA=$(EXTRA) \
		--build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$$(git rev-parse --verify --quiet HEAD 2>/dev/null) \
		--build-arg CREATED=$$(date -u +%Y-%m-%dT%H:%M:%SZ) .
	rm -rf build/wheels

images: ## build the images of all algorithms as clary/NAME:VERSION, and of AWS's versions (clary/kmeans:1 …)
	@set -e; for name in $(ALGORITHMS) all; do \
		$(MAKE) --no-print-directory image ALGORITHM=$$name IMAGE=clary/$$name:$(VERSION); \
		words=$$(PYTHONPATH=src $(PYTHON) -m clary.containers.registries $$name); \
		for word in $$words; do \
			$(DOCKER) tag clary/$$name:$(VERSION) clary/$$name:$$word; \
		done; \
	done

# clary itself is among them where there is a compiler, with its kernels; the image is built without one. Else it is
# built inside, from the tree, for which setuptools must be among the wheels.
wheels: .venv/pip.stamp ## fetch into wheels/ what the image installs (ALGORITHM=name or all, PYTHON_VERSION=, that of BASE_IMAGE)
	rm -rf wheels
	$(PIP) download --dest wheels --only-binary :all: --python-version $(PYTHON_VERSION) '.$(if $(EXTRA),[$(EXTRA)])' 'setuptools>=77'
	rm -f wheels/clary-*.whl
	$(PIP) wheel --no-deps --wheel-dir wheels .
	rm -f wheels/clary-*-none-any.whl

clean: ## remove everything that can be made again
	rm -rf .venv build dist site wheels *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
