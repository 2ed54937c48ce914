"""Sphinx configuration: MyST pages, one generated reference page per package."""

from __future__ import annotations

import inspect
import os
import pkgutil
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
sys.path.append(str(HERE.parent / "benchmarks"))

import summary  # noqa: E402  # of benchmarks

import framefold  # noqa: E402  # the checkout, not another installed copy
from framefold import udfs  # noqa: E402

# as the tables beside it are now
(HERE / "benchmarks" / "summary.md").write_text(summary.summary(HERE / "benchmarks"), encoding="utf-8")

project = "framefold"
author = "The framefold developers"
copyright = "2026, the framefold developers"  # noqa: A001  # Sphinx's name
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "remove_config_comments": True,
}
exclude_patterns = [
    "faults/*",
    "_build",
    "benchmarks/*.md",
    "gen_modules/unreleased.md",
    "gen_modules/gpu_table.md",
    "auto_examples/*.ipynb",
    "auto_examples/*.py",
    "auto_examples/*.md5",
]
# pages that are notebooks run in a kernel of their own, on this checkout
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
nb_execution_mode = "auto"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
html_theme = "pydata_sphinx_theme"
html_title = "framefold"
html_show_sourcelink = False
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
html_sidebars = {"index": []}
html_static_path = ["_static"]
html_css_files = ["wide.css"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = False
napoleon_use_rtype = False
# attributes as a list: several are properties too, and those have entries of their own
napoleon_use_ivar = True
# short names such as nav and sig belong to several classes: a link to any of them would mislead
suppress_warnings = ["ref.python"]
# `name` in docstrings is a name in code, not a link that must resolve
default_role = "code"

_PACKAGES = {
    "framefold": "What `import framefold as ff` offers.",
    "framefold.udfcore": "The programming model and the pure half of the engine.",
    "framefold.kernels": "Functions on arrays: the loops behind everything.",
    "framefold.io": "Sources: files, arrays and live streams.",
    "framefold.executor": "Where folds run.",
    "framefold.udfs": "Reductions that come with framefold.",
    "framefold.sim": "Synthetic data with known truth.",
    "framefold.plot": "Pictures of results, static and live.",
    "framefold.web": "The browser view.",
    "framefold.testing": "Checks for your own UDFs and sources, and detector emulators.",
    "framefold.compat": "LiberTEM names on top of framefold.",
    "framefold.cli": "The command line; commands and UDFs of plug-ins.",
}


def _modules(package: str) -> list[str]:
    """Return the public modules of `package`, those of deeper packages included, without importing them."""
    folder = HERE.parent / package.replace(".", "/")
    if package == "framefold":  # its own modules only: packages have pages of their own
        found = [f"framefold.{m.name}" for m in pkgutil.iter_modules([str(folder)]) if not m.ispkg]
    else:
        files = sorted(folder.rglob("*.py"))
        found = [
            ".".join([package, *f.relative_to(folder).with_suffix("").parts])
            for f in files
            if f.name != "__init__.py"
        ]
    return [m for m in found if not any(part.startswith("_") for part in m.split("."))]


def _title(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n\n"


def _write_reference(_app: object) -> None:
    """Write ``gen_modules/*.rst``: modules are listed as they come."""
    out = HERE / "gen_modules"
    out.mkdir(exist_ok=True)
    pages = []
    for package, what in _PACKAGES.items():
        modules = _modules(package)
        if not modules:
            continue
        text = _title(package, "=") + what.replace("`", "``") + "\n\n"
        for module in modules:
            text += _title(module, "-") + f".. automodule:: {module}\n\n"
        _write_if_new(out / f"{package}.rst", text)
        pages.append(package)
    toc = ".. toctree::\n   :maxdepth: 2\n\n" + "".join(f"   {p}\n" for p in pages)
    _write_if_new(out / "index.rst", _title("Reference", "=") + toc)
    for stale in set(out.glob("*.rst")) - {out / f"{p}.rst" for p in [*pages, "index"]}:
        stale.unlink()


def _write_unreleased(_app: object) -> None:
    """Write ``gen_modules/unreleased.md``: the sentences in ``changes/`` that wait for the next version."""
    out = HERE / "gen_modules"
    out.mkdir(exist_ok=True)
    fragments = sorted((HERE.parent / "changes").glob("*.*.md"))
    items = "".join(f"- {' '.join(f.read_text().split())}\n" for f in fragments)
    _write_if_new(out / "unreleased.md", f"## Not released yet\n\n{items}" if items else "")


def _write_gpu_table(_app: object) -> None:
    """Write ``gen_modules/gpu_table.md``: which reductions take arrays of a device, as the classes say."""
    lines = ["| UDF | on a GPU | |", "|---|---|---|"]
    for name in udfs.__all__:
        cls = getattr(udfs, name)
        if cls is not udfs.Ptychography:  # its backend is a parameter
            own = cls.get_backends is not framefold.UDF.get_backends
            note = (inspect.getdoc(cls.get_backends) or "").splitlines()[0].rstrip(".") if own else ""
            lines.append(f"| `{name}` | {'yes' if cls.engine.device or own else 'no'} | {note} |")
    out = HERE / "gen_modules"
    out.mkdir(exist_ok=True)
    _write_if_new(out / "gpu_table.md", "\n".join(lines) + "\n")


def _write_if_new(path: Path, text: str) -> None:
    """Keep the time stamp of unchanged pages, so that Sphinx rebuilds only what changed."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _bars_are_bars(
    _app: object, _what: str, _name: str, _obj: object, _opts: object, lines: list[str]
) -> None:
    """Escape ``|`` outside of literals: in our docstrings it is the absolute value, not a substitution."""
    for i, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
        lines[i] = "".join(parts)


def setup(app: object) -> None:
    """Hook in the reference pages, before Sphinx lists its sources, and the docstrings' conventions."""
    app.connect("builder-inited", _write_reference)  # type: ignore[attr-defined]
    app.connect("builder-inited", _write_unreleased)  # type: ignore[attr-defined]
    app.connect("builder-inited", _write_gpu_table)  # type: ignore[attr-defined]
    app.connect("autodoc-process-docstring", _bars_are_bars)  # type: ignore[attr-defined]


version = release = getattr(framefold, "__version__", "0.1.0")
