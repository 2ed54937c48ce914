"""What a release must pass: built, installed alone and with each extra, typed, cited, described.

    python .ci/release.py [--extras plot web ...] [--pythons python3.12 python3.13]

Needs the network. Each extra costs the time of installing it into an environment of its own. Other versions
of Python, which the classifiers promise, are checked with the interpreters that are given.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
USER = Path(__file__).with_name("release_user.py")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# what each extra is for: must be importable with it; cuda installs anywhere and imports beside a GPU only
PROVES = {
    "": "dask.distributed, h5py, pyfftw", "plot": "matplotlib.pyplot", "web": "bokeh.server.server",
    "formats": "hdf5plugin, zarr, tifffile, fabio, dectris.compression, xarray",
    "live": "zmq, cbor2, msgpack, lz4.block", "epics": "p4p.client.thread", "xfel": "extra_data",
    "fxs": "gemmi", "backends": "sparseconverter", "cdi": "finufft",
}  # fmt: skip
PROVES["all"] = ", ".join(PROVES.values())
RESOLVED_ONLY = ("cuda",)
OF_DEVELOPERS = ("test", "faults", "docs", "dev")


def call(*command: object, cwd: Path | None = None) -> str:
    """Run a command outside the checkout's packages; return what it printed."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, env=env, cwd=cwd, check=False
    )
    if done.returncode:
        raise SystemExit(
            f"failed: {' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
    return done.stdout


def empty_environment(folder: Path, interpreter: str | None = None) -> Path:
    """Make an environment without packages, of this Python or another one; return its Python."""
    if interpreter is None:
        venv.create(folder, with_pip=True)
    else:
        call(interpreter, "-m", "venv", folder)
    return folder / "bin" / "python"


def say(text: str, began: float) -> None:
    print(f"{text:<60} ok, {time.perf_counter() - began:.0f} s", flush=True)


def build(tools: Path, folder: Path) -> Path:
    """Build sdist, and the wheel from the sdist; check what they hold; return the wheel."""
    call(tools, "-m", "pip", "install", "-q", "build", "twine")
    call(tools, "-m", "build", "--outdir", folder, ROOT)
    (wheel,), (sdist,) = list(folder.glob("*.whl")), list(folder.glob("*.tar.gz"))
    call(tools, "-m", "twine", "check", "--strict", wheel, sdist)
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {n for n in names if not n.startswith(f"framefold-{PROJECT['version']}.dist-info/")}
    sources = {str(p.relative_to(ROOT)) for p in (ROOT / "framefold").rglob("*.py")}
    assert sources <= ours, f"not in the wheel: {sorted(sources - ours)[:5]}"
    assert all(n.startswith("framefold/") for n in ours), "the wheel holds more than the package"
    assert "framefold/py.typed" in ours, "py.typed is missing from the wheel"
    with tarfile.open(sdist) as archive:
        parts = {n.split("/")[1] for n in archive.getnames() if "/" in n}
    needed = {"framefold", "tests", "docs", "examples", "benchmarks", "LICENSE", "README.md", "CITATION.cff"}
    assert needed <= parts, f"not in the sdist: {needed - parts}"
    return wheel


def check_citation(tools: Path) -> None:
    """Check the citation file against its schema, and that it names the version of the package."""
    call(tools, "-m", "pip", "install", "-q", "cffconvert")
    call(tools.with_name("cffconvert"), "--validate", "-i", ROOT / "CITATION.cff")
    version = f"version: {PROJECT['version']}"
    assert version in (ROOT / "CITATION.cff").read_text().splitlines(), f"CITATION.cff lacks {version!r}"


def check_changes(tools: Path) -> None:
    """Let towncrier make the text of the release from all fragments."""
    call(tools, "-m", "pip", "install", "-q", "towncrier")
    text = call(
        tools.with_name("towncrier"), "build", "--draft", "--version", PROJECT["version"], "--dir", ROOT
    )
    for path in (ROOT / "changes").glob("*.md"):
        if path.name != "README.md":
            words = path.read_text().split()[:4]
            assert " ".join(words) in " ".join(text.split()), f"towncrier left out {path.name}"


def check_extra(wheel: Path, extra: str, folder: Path, interpreter: str | None = None) -> Path:
    """Install the wheel with an extra, and use it; return the Python."""
    python = empty_environment(folder, interpreter)
    call(python, "-m", "pip", "install", "-q", "--no-compile", f"{wheel}[{extra}]" if extra else wheel)
    call(python, "-m", "pip", "check")
    said = call(python.with_name("framefold"), "--version", cwd=folder)
    assert PROJECT["version"] in said, f"framefold --version says {said!r}"
    call(python, "-W", "error::ImportWarning", "-c", f"import framefold, {PROVES[extra]}", cwd=folder)
    call(python, USER, cwd=folder)
    return python


def check_types(python: Path, folder: Path) -> None:
    """Check the user's script in strict mode against the installed package."""
    call(python, "-m", "pip", "install", "-q", "mypy")
    call(python, "-m", "mypy", "--strict", USER, cwd=folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = set(PROJECT["optional-dependencies"])
    assert known == {*PROVES, *RESOLVED_ONLY, *OF_DEVELOPERS} - {""}, "an extra is new to this script"
    parser.add_argument("--extras", nargs="*", default=[*PROVES, *RESOLVED_ONLY])
    parser.add_argument("--pythons", nargs="*", default=[], help="others, for instance python3.13")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        tools = empty_environment(folder / "tools")
        wheel = build(tools, folder / "dist")
        say("sdist and wheel", began)
        for text, check in (("citation", check_citation), ("change notes", check_changes)):
            began = time.perf_counter()
            check(tools)
            say(text, began)
        for extra in args.extras:
            began, here = time.perf_counter(), folder / f"env-{extra}"
            if extra in RESOLVED_ONLY:
                call(tools, "-m", "pip", "install", "-q", "--dry-run", f"{wheel}[{extra}]")
                say(f"resolved with [{extra}]", began)
                continue
            python = check_extra(wheel, extra, here)
            say(
                f"installed {f'with [{extra}]' if extra else 'alone'}: version, imports, a user's script",
                began,
            )
            if not extra:
                began = time.perf_counter()
                check_types(python, here)
                say("types of a user's script, strict", began)
            subprocess.run(["rm", "-rf", here], check=True)
        for interpreter in args.pythons:
            began, here = time.perf_counter(), folder / "env-other"
            version = call(interpreter, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
            assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"], (
                f"no classifier names Python {version}"
            )
            check_extra(wheel, "", here, interpreter)
            say(f"installed alone on Python {version}: version, imports, a user's script", began)
            subprocess.run(["rm", "-rf", here], check=True)


if __name__ == "__main__":
    sys.exit(main())
