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
	pytest -n 2 --dist worksteal

# One after the other: some of them measure
slow:
	pytest -m slow
