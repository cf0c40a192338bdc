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
	uv run python -m benchmarks.augment
	uv run python -m benchmarks.step
	uv run python -m benchmarks.predictor
	uv run python -m benchmarks.micro_batch
	uv run python -m benchmarks.unbiased
	uv run python -m benchmarks.side_by_side
