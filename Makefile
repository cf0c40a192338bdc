.PHONY: check test test-all bench format

check:      ## format, lint, types
	uv run ruff format --check .
	uv run ruff check .
	uv run pyright

format:
	uv run ruff format .
	uv run ruff check --fix .

test:       ## the fast tests, under five minutes on two cores
	uv run pytest

test-all:   ## with the slow ones
	uv run pytest -m "not gpu"

bench:      ## ratios in one run; CIFAR10= names the unpacked CIFAR-10 (JPEG) folder
	OMP_WAIT_POLICY=PASSIVE uv run --group bench python -m benchmarks.side_by_side
