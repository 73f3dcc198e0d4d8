PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Without its dependency torchvision, of which not every PyTorch has a build; the tests use a stub.
TIMM := timm==1.0.31

.PHONY: quickstart test lint format clean

quickstart: $(VENV)/installed-quickstart ## train, evaluate and export crossvit_9_dagger on handwritten digits
	$(BIN)/keras-crossvit quickstart $(ARGS)

test: $(VENV)/installed-test ## run the test suite
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/installed-test ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed-test ## apply what ruff can fix
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
