# make install  .venv with the gateway in it     make serve   install, then serve model_repo/
# make test     install, then every test        make check   linters and types
# make proto    regenerate gateway/generated    make bench   the short set of benchmarks
# make image    Dockerfile.gpu                  make audit    what batching and graph optimisers do to answers
# make docs     the documentation as a site, in site/           make wheels   packages, in dist/
# make vendor   fetch the console's libraries again
# make pip-audit  known vulnerabilities of what the gateway needs

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ARGS ?=
# How many processes run tests. A file's tests stay in one, since they share gateways and environments.
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install serve test check docs proto vendor bench audit pip-audit image wheels apt clean

help:  ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## */\t/' | expand -t 12

install: .venv/installed  ## .venv/bin/modelport

.venv/installed: pyproject.toml setup.py gateway/front/fast_path.pyx $(wildcard gateway/front/compiled/*.pxi)
	@test -n "$(PYTHON)" || { echo "modelport needs Python 3.11 or newer: install one, or 'make PYTHON=/path/to/python3'"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) lacks venv or ensurepip: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip
	$(PIP) --editable .
	@touch $@

.venv/developing: .venv/installed
	$(PIP) --group dev
	@touch $@

serve: install  ## serve model_repo/ on :8000 (REST) and :8001 (gRPC); RUNTIMES=onnx limits what is built
	exec $(BIN)/modelport serve model_repo --only "$(RUNTIMES)" $(ARGS)

test: .venv/developing  ## every test; builds the runtime environments that it needs
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: .venv/developing  ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/documenting: .venv/installed
	$(PIP) --group docs
	@touch $@

docs: .venv/documenting  ## the documentation as a site, in site/; a broken link is an error
	$(BIN)/zensical build --clean --strict

PROTOC := .venv/protoc/bin/python

# The files are called what the package is that the code is imported from, since some import others.
proto:  ## regenerate gateway/generated from proto/, with exactly the pinned tools
	@test -x $(PROTOC) || $(PYTHON) -m venv .venv/protoc
	$(PROTOC) -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(PROTOC) -m pip install --quiet --disable-pip-version-check --group proto
	$(PROTOC) -m grpc_tools.protoc -I gateway/generated=proto --python_out=. --pyi_out=. \
		$(patsubst proto/%,gateway/generated/%,$(wildcard proto/*.proto))

vendor: .venv/installed  ## fetch the console's libraries from npm again, and compare their digests with vendor.toml
	$(BIN)/python -m audit.vendor

.venv/benchmarking: .venv/installed
	$(PIP) --group bench
	@touch $@

bench: .venv/benchmarking  ## the short set of benchmarks (docs/performance.md has the others)
	@command -v h2load >/dev/null || { echo "h2load is missing: make apt installs it"; exit 1; }
	$(BIN)/python -m benchmarks.overhead --short

audit: .venv/developing  ## what batching and each runtime's graph optimiser change in answers, over generated models; minutes
	$(BIN)/python -m audit.batching
	$(BIN)/python -m audit.optimisers $(ARGS)

pip-audit: .venv/developing  ## known vulnerabilities of what the gateway needs; audit/allowed_vulnerabilities.toml allows some
	$(BIN)/python -m audit.dependencies $(ARGS)

IMAGE ?= modelport:gpu
IMAGE_ARGS ?=

# A client without its daemon counts as absent. OCI, the other two's own format, has no health check.
image:  ## Dockerfile.gpu by docker, podman or buildah; IMAGE_ARGS="--build-arg RUNTIMES=onnx" limits what is built
	@if docker info >/dev/null 2>&1; then build="docker build"; \
	elif podman info >/dev/null 2>&1; then build="podman build --format docker"; \
	elif buildah info >/dev/null 2>&1; then build="buildah build --format docker"; \
	else echo "make image needs docker with its daemon, podman or buildah, and none of them answers: install one"; exit 1; fi; \
	set -x; $$build --file Dockerfile.gpu --tag $(IMAGE) $(IMAGE_ARGS) .

.venv/packaging: .venv/installed
	$(PIP) --group wheels
	@touch $@

wheels: .venv/packaging  ## the source and wheels for CPython 3.11 to 3.13 on manylinux, in dist/; needs docker or podman
	rm -rf dist
	$(BIN)/python -m build --sdist
	$(BIN)/cibuildwheel --platform linux --output-dir dist dist/*.tar.gz

APT := prometheus haproxy nghttp2-client chromium gcc libc6-dev python3-dev openjdk-17-jre-headless

apt:  ## Debian packages that some tests and the benchmarks use; nothing happens where they are there already
	@dpkg -s $(APT) >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq --no-install-recommends $(APT); }

clean:  ## everything that make made here; environments and caches under MODELPORT_HOME stay
	rm -rf .venv build dist *.egg-info gateway/front/fast_path.*.so .pytest_cache .mypy_cache .ruff_cache
