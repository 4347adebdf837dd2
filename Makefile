# make demo [FILES="a.wav b.mp3"]   name, search and picture sounds with the embedded checkpoint
# make test                         the tests, at most 240 CPU seconds in all
# make test-slow                    the rest of them
# make lint                         ruff and mypy
# make docs                         the documentation site, in build/site; a warning is an error
# All set up .venv once from the pinned constraints.txt and then work offline.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OFFLINE := HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1

.PHONY: demo test test-slow lint docs format wheel clean

demo: $(STAMP)
	$(OFFLINE) $(BIN)/clara demo $(FILES)

test: $(STAMP)
	$(OFFLINE) $(BIN)/python -m pytest

test-slow: $(STAMP)
	$(OFFLINE) $(BIN)/python -m pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/python -c "import material, mkdocstrings_handlers.python" 2>/dev/null || \
		$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(OFFLINE) NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(STAMP)
	$(BIN)/python -m build --wheel

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[all]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
