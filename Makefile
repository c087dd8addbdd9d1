# Everything a newcomer needs: `make demo` shows the main result in minutes, `make test` checks it.
# Both create .venv themselves; they need Python 3.11 to 3.13 and a package index, nothing else.
PYTHON ?= python3
VENV ?= .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
OUTPUTS ?= outputs
# Processes that run tests: auto is one for each core; never more than 8, since each holds torch.
WORKERS ?= auto

.PHONY: help demo test chaos lint format clean
help:
	@echo "make demo    install, then draw the three drift curves of the demo in $(OUTPUTS)/ (about 3 minutes, 2 cores)"
	@echo "make test    install with the test tools, then run every test (about 8 minutes, 2 cores)"
	@echo "make chaos   kill commands 200 times and fill their disk 20 times; killed itself, it goes on (20 minutes of a core)"
	@echo "make lint    check style and format with ruff, types with mypy"
	@echo "make format  let ruff mend style and format"
	@echo "make clean   remove the environment and the caches; $(OUTPUTS)/ stays"
	@echo "make demo PYTHON=python3.12 VENV=/scratch/venv OUTPUTS=/scratch/outputs   chooses interpreter and places"

# The stamps are newer than what they were installed from, so a second `make` installs nothing.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "analog-glue needs Python 3.11 to 3.13, but $(PYTHON) is another: make PYTHON=python3.11 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt $(VENV)/installed
	$(PIP) install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(VENV)/installed
	$(VENV)/bin/analog-glue train -m +experiment=demo training=digital,hardware_aware output_root=$(OUTPUTS)
	$(VENV)/bin/analog-glue tables $(OUTPUTS)

test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal

chaos: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 nice -n 5 $(VENV)/bin/python -m tests.chaos --folder $(OUTPUTS)/chaos

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/installed-dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
