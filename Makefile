# make app          start the app on the shipped model
# make test         install what the tests need and run them all
# make lint         ruff, mypy, and ESLint where npm and its packages can be had
# make model DATA=DIR   the shipped model again, from CelebA in DIR to its directions, figures and metrics (hours; resumes)
# All take PYTHON=path/to/python to use an environment of yours instead of .venv.

VENV := .venv
PYTHON ?= $(VENV)/bin/python

.PHONY: app test lint model chromium

app: $(if $(filter $(VENV)/%,$(PYTHON)),$(VENV)/app.stamp,app.install)
	@$(PYTHON) app.py

# The tests that kill a run at random moments have the machine to themselves; the others get a worker for each core, and a thread
# for each worker.
test: $(if $(filter $(VENV)/%,$(PYTHON)),$(VENV)/test.stamp,test.install) chromium
	@export OMP_NUM_THREADS=1; $(PYTHON) -m pytest tests/test_loop.py && \
	$(PYTHON) -m pytest -n auto --dist loadfile --ignore tests/test_loop.py

lint: $(if $(filter $(VENV)/%,$(PYTHON)),$(VENV)/test.stamp,test.install)
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy
	@if npm install --silent --no-audit --no-fund --fetch-retries=0 --fetch-timeout=60000 2>/dev/null; then npm run --silent lint; \
	else echo "make lint: ESLint is left out: npm or its packages cannot be had here."; fi

model: $(if $(filter $(VENV)/%,$(PYTHON)),$(VENV)/test.stamp,test.install)
	$(PYTHON) train/run.py --data $(DATA) --preset celeba64 --stages fit
	$(PYTHON) train/run.py --data $(DATA) --preset celeba64-features --start runs/celeba64 --out runs/model \
	  --stages fit,evaluate,directions,compare,figures --choose --features classifier

$(VENV)/bin/python:
	python3 -m venv $(VENV)

# A stamp says that a list was installed, so that a second start needs no network.
$(VENV)/app.stamp: requirements.txt | $(VENV)/bin/python
	$(PYTHON) -m pip install --disable-pip-version-check -q -r requirements.txt
	@touch $@

$(VENV)/test.stamp: requirements.txt requirements-train.txt requirements-test.txt | $(VENV)/bin/python
	$(PYTHON) -m pip install --disable-pip-version-check -q -r requirements-test.txt
	@touch $@

.PHONY: app.install test.install
app.install:
	@$(PYTHON) -m pip install --disable-pip-version-check -q -r requirements.txt
test.install:
	@$(PYTHON) -m pip install --disable-pip-version-check -q -r requirements-test.txt

# The browser tests drive a real browser: Debian's where there is one or one can be installed, else Playwright's own.
chromium:
	@command -v chromium >/dev/null || { \
	  SUDO=$$([ "$$(id -u)" = 0 ] || command -v sudo || true); \
	  if command -v apt-get >/dev/null; then $$SUDO apt-get update -qq && $$SUDO apt-get install -y -qq chromium; fi; } \
	|| $(PYTHON) -m playwright install chromium
