PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Without its dependency torchvision, of which not every PyTorch has a build; the tests use a stub.
TIMM := timm==1.0.31

# Two workers and more where there are more cores; a file's tests, and what they share, stay in one worker.
PYTEST = $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile
# Slow tests also wait for processes that they start.
ONE_MORE = $(shell $(PYTHON) -c "import os; print(os.cpu_count() + 1)")

.PHONY: quickstart test check lint format clean

quickstart: $(VENV)/installed-quickstart ## train, evaluate and export crossvit_9_dagger on handwritten digits
	$(BIN)/keras-crossvit quickstart $(ARGS)

test: $(VENV)/installed-dev ## run what a change can break in daily work, in three minutes on two cores
	$(PYTEST) $(ARGS)

check: $(VENV)/installed-test test lint ## run everything: also slow tests, other backends, lint and types
	$(PYTEST) --numprocesses=$(ONE_MORE) -m slow
	KERAS_BACKEND=jax $(PYTEST) -m backends
	KERAS_BACKEND=torch $(PYTEST) -m backends

lint: $(VENV)/installed-dev ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed-dev ## apply what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and build outputs
	rm -rf $(VENV) build dist *.egg-info

# An environment with the package and one of its extras, renewed when pyproject.toml changes.
$(VENV)/installed-%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it by PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	$(if $(filter test,$*),$(BIN)/python -m pip install --quiet --no-deps $(TIMM))
	@touch $@
