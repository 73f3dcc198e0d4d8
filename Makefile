PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Without its dependency torchvision, of which not every PyTorch has a build; the tests use a stub.
TIMM := timm==1.0.31

# Two workers and more where there are more cores; a file's tests, and what they share, stay in one worker. A worker
# that crashed is not replaced: the new one would run the same test, and pytest-xdist then waits forever.
PYTEST = $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile --max-worker-restart=0 \
         --durations=20 --durations-min=5
# Each of some hundred processes would compile the package again, and each worker all tests.
unexport PYTHONDONTWRITEBYTECODE

VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' keras_crossvit/__init__.py)
RELEASED := build/release/installed
# What users install, but torch: its wheel with CUDA has some gigabytes.
RELEASED_EXTRAS := completion,hub,kserve,litert,onnx,openvino,report,serve,serving,tfds,train,tune
AT_TIME_OF_COMMIT = SOURCE_DATE_EPOCH=$(shell git log -1 --format=%ct)

.PHONY: quickstart test check test-slow test-jax test-torch test-lowest soak lint format docs release audit clean

quickstart: $(VENV)/installed-quickstart ## train, evaluate and export crossvit_9_dagger on handwritten digits
	$(BIN)/keras-crossvit quickstart $(ARGS)

test: $(VENV)/installed-dev ## run what a change can break in daily work, in three minutes on two cores
	$(PYTEST) $(ARGS)

check: $(VENV)/installed-test test ## run everything: also slow tests, other backends, lint and types
	$(MAKE) --jobs --keep-going test-slow test-jax test-torch lint

test-slow: $(VENV)/installed-test
	$(PYTEST) -m slow

# With lower priority, for when slow tests wait: more processes than processors would delay each other by a quarter.
test-jax test-torch: test-%: $(VENV)/installed-test
	KERAS_BACKEND=$* nice $(PYTEST) --numprocesses=1 -m backends

# pip has no such option, uv has. Tests of the newest versions are those of the other targets.
test-lowest: ## run the tests of daily work with the lowest versions that pyproject.toml allows
	$(PYTHON) -m venv --clear build/lowest
	build/lowest/bin/python -m pip install --quiet uv
	build/lowest/bin/uv pip install --quiet --python build/lowest --resolution lowest-direct --editable ".[dev]"
	$(PYTEST:$(BIN)/%=build/lowest/bin/%) $(ARGS)

soak: $(VENV)/installed-test ## damage files, kill commands and load a server for SOAK_SECONDS; writes soak/report.md
	$(BIN)/python -m tests.soak $(ARGS)

lint: $(VENV)/installed-dev ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed-dev ## apply what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/installed-docs ## build the documents as a site in build/site; a warning is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning -c docs . build/site

# From the commit and with its time, so that the same commit gives the same bytes. The SBOM lists what the wheel was
# installed with; its tool knows no dynamic version.
release: $(VENV)/installed-release ## build wheel, sdist and SBOM of the commit in dist, and install the wheel
	rm -rf build/release dist
	mkdir -p build/release/source
	git archive HEAD | tar -x -C build/release/source
	$(AT_TIME_OF_COMMIT) $(BIN)/python -m build --outdir dist build/release/source
	$(PYTHON) -m venv $(RELEASED)
	$(RELEASED)/bin/python -m pip install --quiet "dist/keras_crossvit-$(VERSION)-py3-none-any.whl[$(RELEASED_EXTRAS)]"
	$(RELEASED)/bin/python -m pip check
	cd build/release && installed/bin/keras-crossvit --version
	sed 's/^dynamic = .*/version = "$(VERSION)"/' pyproject.toml > build/release/pyproject.toml
	$(AT_TIME_OF_COMMIT) $(BIN)/cyclonedx-py environment --pyproject build/release/pyproject.toml --mc-type library \
	  --output-reproducible --output-file dist/keras_crossvit-$(VERSION).cdx.json $(RELEASED)

# An index that has no advisories to give is an error. This package itself is left out: it has none before it is published.
audit: ## look for known vulnerabilities in what `make release` installed
	$(RELEASED)/bin/python -m pip freeze --exclude keras_crossvit > build/release/requirements.txt
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement build/release/requirements.txt

clean: ## remove the environment and build outputs
	rm -rf $(VENV) build dist soak *.egg-info

# An environment with the package and one of its extras, renewed when pyproject.toml changes; `test` includes the others.
# Python compiles what it imports; pip would compile three times as much first.
$(VENV)/installed-%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it by PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --editable ".[$*]"
	$(if $(filter test,$*),$(BIN)/python -m pip install --quiet --no-compile --no-deps $(TIMM))
	@touch $@ $(if $(filter test,$*),$(VENV)/installed-dev $(VENV)/installed-docs $(VENV)/installed-quickstart)
