# 'make demo' and 'make test' work on a fresh machine with Python 3.11 or newer and pip.

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-lowest test-newest test-data test-portable fuzz lint docs dist \
	bench clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := train,export,hub,ort,openvino,tensorrt-rtx,video,batch,completion,dev

# Processes of 'make test'; each file of tests stays in one.
WORKERS ?= auto

# Passed through to the demo: make demo VIDEO=film.mp4 CLICK=320,240 (or BOX=100,80,300,240)
VIDEO ?=
CLICK ?=
BOX ?=
MODEL ?=
# Widths of weights and activations; assets/demo-w2a2.pt is the demo model trained at w2a2.
BITS ?=

# Side of the model's input in pixels, a multiple of 32: make demo SIZE=512
SIZE ?=

help:
	@echo "make setup      create $(VENV) with everything that the demo and the tests need"
	@echo "make demo       segment a video and write an overlay"
	@echo "                [VIDEO=FILE CLICK=X,Y or BOX=X1,Y1,X2,Y2] [MODEL=CHECKPOINT.pt] [BITS=w2a2] [SIZE=512]"
	@echo "make test       run the tests"
	@echo "make test-slow  run the tests that take longer"
	@echo "make test-data  run those that need real data (QSAM2_TEST_DATA)"
	@echo "make test-portable  compute on other processors, emulated by QEMU, and compare"
	@echo "make test-lowest   run the tests with the oldest versions that pyproject.toml allows"
	@echo "make test-newest   run the tests with the newest versions of everything but torch"
	@echo "make fuzz       read changed files of every kind, and count what becomes of them"
	@echo "                [FUZZ_READER=model FUZZ_SEED=0 FUZZ_COUNT=2000]"
	@echo "make lint       check style, types and import rules"
	@echo "make docs       build the documentation with an API reference: build/docs/index.html"
	@echo "make dist       build wheel and sdist, check and install them: dist/ [PYTHONS=\"python3.10 python3.12\"]"
	@echo "make bench      measure import time, frame time and memory growth"
	@echo "make clean      remove caches and outputs; $(VENV) stays"

setup: $(STAMP)

# pip reads one of the two constraint variables for isolated builds, depending on its version;
# the build of sam2 imports torch, and must get the same one.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "make setup needs Python 3.11 or newer; run: make setup PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT="$(CURDIR)/constraints.txt" PIP_BUILD_CONSTRAINT="$(CURDIR)/constraints.txt" \
	PIP_DISABLE_PIP_VERSION_CHECK=1 SAM2_BUILD_CUDA=0 \
	$(BIN)/python -m pip install --quiet -e '.[$(EXTRAS)]'
	@$(BIN)/qsam2-build-kernels --if-possible
	@touch $@

demo: $(STAMP)
	@$(BIN)/python examples/demo.py $(if $(VIDEO),--video "$(VIDEO)") \
		$(if $(CLICK),--click "$(CLICK)") $(if $(BOX),--box "$(BOX)") \
		$(if $(MODEL),--checkpoint "$(MODEL)") $(if $(BITS),--bits "$(BITS)") \
		$(if $(SIZE),--image-size "$(SIZE)")

test: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

# Real videos, photos and a checkpoint, which the repository does not hold: QSAM2_TEST_DATA names them.
test-data: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "data and not slow and not gpu"

test-slow: $(STAMP)
	@$(BIN)/python -m pytest -m slow

# Half an hour on two cores; needs: apt-get install qemu-user gcc-aarch64-linux-gnu
test-portable: $(STAMP)
	@$(BIN)/python -m tools.portable --write docs/processors.md
	@$(BIN)/python -m tools.portable.instruction_sets

# Each reader gets FUZZ_COUNT changed files, from number FUZZ_SEED on; all if FUZZ_READER is empty.
FUZZ_COUNT ?= 2000
FUZZ_SEED ?= 0
FUZZ_READER ?=

fuzz: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --count $(FUZZ_COUNT) --seed $(FUZZ_SEED) \
		$(if $(FUZZ_READER),--reader $(FUZZ_READER)) --keep fuzz_failures

# Environments of their own, made anew each time by uv. torch has the version of constraints.txt in
# both: every one is a large download.
TORCH = $(shell sed -n '/^torch==/p' constraints.txt)
UV := .venv-uv/bin/uv
UV_PYTHON ?= 3.11

$(UV):
	@$(PYTHON) -m venv .venv-uv
	@.venv-uv/bin/python -m pip install --quiet uv

# The build of sam2 imports torch, and must get the one that is installed.
define test-with
	@$(UV) venv --quiet --clear --seed --python $(UV_PYTHON) $(1)
	@echo '$(TORCH)' > $(1)/torch.txt
	SAM2_BUILD_CUDA=0 $(UV) pip install --quiet --python $(1) --resolution $(2) --constraint $(1)/torch.txt \
		--build-constraint $(1)/torch.txt --editable '.[$(EXTRAS)]'
	OMP_NUM_THREADS=1 $(1)/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile
endef

test-lowest: $(UV)
	$(call test-with,.venv-lowest,lowest-direct)

test-newest: $(UV)
	$(call test-with,.venv-newest,highest)

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict qsam2_deploy
	@$(BIN)/lint-imports

# An environment of its own, without torch: the reference needs only the names of other packages.
DOCS := .venv-docs

$(DOCS)/.installed: pyproject.toml constraints.txt
	@test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	PIP_CONSTRAINT="$(CURDIR)/constraints.txt" PIP_DISABLE_PIP_VERSION_CHECK=1 \
	$(DOCS)/bin/python -m pip install --quiet -e '.[docs]'
	@touch $@

DIST := .venv-dist
# Interpreters that install what was built: make dist PYTHONS="python3.10 python3.12"
PYTHONS ?= $(PYTHON)

$(DIST)/.installed:
	@test -x $(DIST)/bin/python || $(PYTHON) -m venv $(DIST)
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(DIST)/bin/python -m pip install --quiet \
		build check-wheel-contents twine uv
	@touch $@

dist: $(STAMP) $(DIST)/.installed
	@mkdir -p build && $(BIN)/qsam2-export assets/demo.pt build/demo.onnx
	@$(DIST)/bin/python -m tools.dist dist --model build/demo.onnx $(foreach p,$(PYTHONS),--python $(p))

docs: $(DOCS)/.installed
	@$(DOCS)/bin/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going --conf-dir docs \
		--doctree-dir build/doctrees . build/docs
	@echo "build/docs/index.html"

bench: $(STAMP)
	$(BIN)/python -m benchmarks.speed.import_time
	$(BIN)/python -m benchmarks.speed.frame_time
	$(BIN)/python -m benchmarks.speed.long_stream

clean:
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist demo_output
	find qsam2_deploy tests benchmarks tools examples -name __pycache__ -type d -prune -exec rm -rf {} +
