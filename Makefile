# Every target makes the environment first if it is missing or older than the lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

.PHONY: env reproduce test reliability notebooks lab lint newest clean

env: $(READY)  ## the environment alone, .venv

reproduce: $(READY)  ## all tables and figures; ARGS="--data DIR --tables mri" and others
	$(BIN)/gtgm reproduce $(ARGS)

# One thread per worker: two workers on two cores.
test: export OMP_NUM_THREADS ?= 1
test: $(READY)  ## unit tests and notebooks
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

reliability: export OMP_NUM_THREADS ?= 1
reliability: $(READY)  ## the tests that try to break things, and their table in docs/reliability.md
	$(BIN)/python -m pytest -n 2 --dist loadfile --write-reliability $$(grep -l 'evidence(' tests/test_*.py)

notebooks: export GTGM_ALL_NOTEBOOKS := 1
notebooks: export OMP_NUM_THREADS ?= 1
notebooks: $(READY)  ## every notebook, from two folders, in papermill, jupyter execute and JupyterLab
	$(BIN)/python -m pytest tests/test_notebook_places.py tests/test_browser_lab.py $(ARGS)

# Without ITK=1 no page of Lab asks the web for anything: itkwidgets' extension is off.
lab: export JUPYTER_CONFIG_PATH := $(if $(ITK),,$(CURDIR)/notebooks/.jupyter:)$(JUPYTER_CONFIG_PATH)
lab: $(READY)  ## JupyterLab on the notebooks; ITK=1 for overlay(..., viewer="itk")
	$(BIN)/jupyter lab --notebook-dir=. notebooks/index.ipynb $(ARGS)

lint: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

# Never fails; TORCH=2.14.1 also tries another torch.
newest: $(READY)  ## the newest releases of all packages, tried; report in runs/newest.md
	$(BIN)/python .ci/newest.py

# torch comes first and alone: what depends on it must not pull in another build of it.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name it with PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)

clean:
	rm -rf runs $(VENV) $(VENV)-newest
