.PHONY: check format test test-all fuzz nightly docs bench wheel-check versions licences audit

check:      ## format, lint, types
	uv run --group dev ruff format --check .
	uv run --group dev ruff check .
	uv run --group dev pyright

format:
	uv run --group dev ruff format .
	uv run --group dev ruff check --fix .

test:       ## the fast tests, under four minutes on two cores
	uv run --group dev pytest

test-all:   ## the fast and the slow tests
	uv run --group dev pytest -m "not gpu and not fuzz"

fuzz:       ## 5,000 damaged inputs and odd command lines, about 25 minutes; EIGENVIEW_FUZZ_SEED= draws others
	EIGENVIEW_FUZZ_CASES=$${EIGENVIEW_FUZZ_CASES:-5000} uv run --group dev pytest -n 0 -m fuzz tests/fuzz

nightly: check docs test-all fuzz licences audit   ## all that .ci/run does, the site, slow tests, fuzz, every page's commands, the wheel, other versions
	.ci/pages all
	.ci/wheel-check
	.ci/versions

docs:       ## the documentation site in site/, every link checked; no network
	NO_MKDOCS_2_WARNING=1 uv run --group docs mkdocs build --strict

bench:      ## ratios in one run; CIFAR10= names the unpacked CIFAR-10 (JPEG) folder
	OMP_WAIT_POLICY=PASSIVE uv run --group bench python -m benchmarks.side_by_side

wheel-check:  ## the wheel, installed in an empty environment outside the repository and used there
	.ci/wheel-check

versions:   ## lowest declared versions, newest ones, other Pythons: first command and fast tests, in one table
	.ci/versions

licences:   ## what eigenview runs with, extras included: a table with licences; fails on one that is not permissive
	uv run --all-extras python .ci/licences.py --extras

audit:      ## known vulnerabilities of these packages (pip-audit); a line "skipped" where nobody answers
	python3 .ci/audit.py
