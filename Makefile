# `make check` is what CI runs after installing.
.PHONY: check format types test slow docs

check: format types docs test

format:
	ruff format --check .
	ruff check .

types:
	mypy

docs:
	python docs/generate.py --check

test:
	pytest

slow:
	pytest -m slow
