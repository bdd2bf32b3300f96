# make demo   the whole job on a local stand-in archive; needs no account, contacts nothing but this machine
# make test   set up and run every test
# make docs   write the generated pages anew
# make pictures  draw the pictures of a run in docs/images anew, from a real one
# make chaos  break 200 runs in every way there is, and see that nothing is lost (about ten minutes)
# make bench  measure midasdl beside curl, wget2, aria2c and rclone, and write docs/benchmarks.md
# make check  everything that CI runs: format, lint, types, rooms, tests

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check lint format docs pictures wheel-check soak chaos bench bench-quick bench-tools clean

$(READY): pyproject.toml setup.cfg
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "midasdl needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/python examples/demo.py

# most tests wait for something, so that more of them than there are cores can share a machine
PROCESSES ?= 6

test: $(READY)
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --maxschedchunk 2 -m "not punctual and not soak"
	$(BIN)/python -m pytest -m "punctual and not soak"

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)
	$(BIN)/python -m midasdl.ledger.reference > docs/ledger.md
	$(BIN)/python -m midasdl.config.reference > docs/configuration.md

pictures: $(READY)
	$(BIN)/python examples/pictures.py

check: lint test

wheel-check: $(READY)
	rm -rf build dist && $(BIN)/python -m build --wheel --outdir dist . >/dev/null
	rm -rf build/wheel-venv && $(PYTHON) -m venv build/wheel-venv
	build/wheel-venv/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	cd build && ../build/wheel-venv/bin/python ../examples/demo.py wheel-demo

soak: $(READY)
	$(BIN)/python -m pytest -m soak

chaos: $(READY)
	$(BIN)/python -m pytest -m soak tests/chaos

# the peers are programs of the system; without them they are left out, with a word
bench-tools:
	@if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	    aria2 wget2 curl rclone nginx-light sqlite3 coreutils >/dev/null; \
	fi

bench: $(READY) bench-tools
	$(BIN)/python -m benchmarks --write

bench-quick: $(READY) bench-tools
	$(BIN)/python -m benchmarks --rounds 2 --scale 0.1

clean:
	rm -rf $(VENV) demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
