.PHONY: check test test-all nightly bench format docs

check:      ## format, lint, types
	uv run ruff format --check .
	uv run ruff check .
	uv run pyright

format:
	uv run ruff format .
	uv run ruff check --fix .

test:       ## the fast tests, under four minutes on two cores
	uv run pytest

test-all:   ## the fast and the slow tests
	uv run pytest -m "not gpu"

nightly: check docs test-all   ## all that .ci/run does, the site, the slow tests, and the commands of every page
	.ci/pages all

docs:       ## the documentation site in site/, every link checked; no network
	NO_MKDOCS_2_WARNING=1 uv run --group docs mkdocs build --strict

bench:      ## ratios in one run; CIFAR10= names the unpacked CIFAR-10 (JPEG) folder
	OMP_WAIT_POLICY=PASSIVE uv run --group bench python -m benchmarks.side_by_side
