# All targets except `venv` need the `.venv` that `make venv` creates.
BIN := .venv/bin

.PHONY: venv test lint format types imports bench-engine locale man pages picture recording docs lock check

venv:
	python3 -m venv .venv
	CMAKE_ARGS="$${CMAKE_ARGS--DLLAVA_BUILD=OFF}" $(BIN)/pip install -e '.[dev]'

test:
	$(BIN)/python -m pytest

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format:
	$(BIN)/ruff format .

types:
	$(BIN)/mypy

imports:
	$(BIN)/lint-imports --no-logo

bench-engine:
	$(BIN)/python -m tests.bench.engine

locale:
	$(BIN)/python -m devtools.catalogue

man:
	$(BIN)/python -m devtools.manpage > man/qwenchat.1

pages:
	$(BIN)/python -m devtools.pages

picture:
	$(BIN)/python -m devtools.picture

recording:
	$(BIN)/python -m devtools.recording

docs: pages
	$(BIN)/pip install -q -e '.[docs]'
	$(BIN)/zensical build --clean --strict

lock:
	(echo "# The exact versions that the project was last tested with. Made by: make lock"; \
	uv pip compile -q --extra dev --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
	pyproject.toml) > lock.new && mv lock.new requirements-dev.lock || { rm -f lock.new; exit 1; }

check: lint types imports test
