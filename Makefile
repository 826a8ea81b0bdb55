# Every target sets itself up from a bare clone; pip is the only thing that uses the network.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FAST := OMP_NUM_THREADS=1

.PHONY: install test demo slow lint tables clean

install: $(STAMP)

# torch comes first and alone, so that the pinned build is the one that everything else finds.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -c constraints.txt torch==2.13.0
	$(BIN)/pip install -c constraints.txt -e '.[cli,analysis,llm,tracking,dev]'
	touch $(STAMP)

test: $(STAMP)
	$(FAST) $(BIN)/python -m pytest -q $(PYTEST)

demo: $(STAMP)
	$(BIN)/querier demo
	@echo 'ask it yourself: $(BIN)/querier ask output=outputs/demo run=querier query="What makes sourdough sour?"'

slow: $(STAMP)
	$(FAST) $(BIN)/python -m pytest -q -m slow $(PYTEST)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

tables: $(STAMP)
	$(BIN)/python -m querier.commands.tables README.md EXPERIMENTS.md

clean:
	rm -rf build dist *.egg-info outputs multirun .pytest_cache .mypy_cache .ruff_cache
