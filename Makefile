# The two commands: `make run` and `make test`. Both set up what they need, on a fresh Debian with Python 3.11 and git.

BIN := .venv/bin

.PHONY: help run stop test setup bench format clean

help:
	@echo "make run     the agent on a copy of specs-example/, with a real llama.cpp server and a tiny model"
	@echo "make stop    end the services that make run left running, and forget its state"
	@echo "make test    every check: format, lint, types, layers, tests (starts a Docker engine if none answers)"
	@echo "make bench   measure against the bare Docker calls and docker-compose"
	@echo "make format  format the code"
	@echo "make setup   only make .venv"
	@echo "make clean   remove what the others made"

setup:
	@tools/setup dev

run:
	@tools/setup demo
	@$(BIN)/python -m tools.demo run

stop:
	@tools/setup demo
	@$(BIN)/python -m tools.demo stop

test: setup
	@tools/docker-engine || echo "no Docker engine: the tests that need one will say so"
	@tools/apt-install gnupg openssh-client openssl
	@tools/sshd || echo "no sshd: the tests of git over ssh will say so"
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/mypy --explicit-package-bases tools
	@$(BIN)/lint-imports
	@$(BIN)/pytest -n 2 --dist loadfile $(PYTEST)

bench: setup
	@tools/docker-engine
	@tools/apt-install docker-compose
	@$(BIN)/python -m bench $(BENCH)

format: setup
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix-only -q

clean:
	@if [ -d .run ] && [ -x $(BIN)/python ]; then $(BIN)/python -m tools.demo stop; fi
	rm -rf .venv .run .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
