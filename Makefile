# Two commands set everything up on a fresh machine: `make demo` and `make test`.
# The environment lies in .venv; uv fetches the torch build that fits the machine (CUDA where a driver is found, CPU elsewhere).

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# A local folder with wheels (a torch build, say) is used where pip is told of one.
ifneq ($(PIP_FIND_LINKS),)
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
TORCH_BACKEND := $(if $(UV_FIND_LINKS),,--torch-backend=auto)
DEMO := demo

.PHONY: env demo test serve check bench soak clean

env: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "recess needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode $(TORCH_BACKEND) -c constraints.txt -e '.[dev]'
	touch $@

demo: env  ## make a simulated study as DICOM with an examination, analyse it, print what was found and the files to open
	$(BIN)/python -m training.phantom.demo --out $(DEMO)/study
	$(BIN)/recess analyze $(DEMO)/study/dicom --exam $(DEMO)/study/exam.yaml --out $(DEMO)/result

test: env  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q

serve: env  ## API on loopback
	$(BIN)/recess serve

check: env  ## lint, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: env  ## wall time and peak memory of a whole analysis; ingest beside plain pydicom; the correlation
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench_ingest
	$(BIN)/python -m tests.inference.bench_correlate

soak: env  ## long runs of the property tests; every variant and abnormal study read whole
	RECESS_SOAK=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q -m "soak"
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.findings.run

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
