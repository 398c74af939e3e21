"""How the parts of the project hang together."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import clary

ROOT = Path(__file__).parents[1]
PACKAGES = ("algorithms", "containers", "local", "recordio", "serve", "train")
TOP = ("__init__", "__main__", "cli", "errors", "logs", "native")
MODULES = {
    **{f"clary.{name}": ROOT / "src/clary" / f"{name}.py" for name in TOP},
    **{
        f"clary.{package}.{path.stem}": path
        for package in PACKAGES
        for path in sorted((ROOT / package).glob("*.py"))
        if not path.stem.endswith("_pb2")
    },
}
GENERATED = {"record_pb2.py"}

LAYERS = (
    {"errors", "logs", "native", "__init__"},
    {"recordio"},
    {"algorithms"},
    {"train", "serve"},
    {"containers"},
    {"local"},
    {"cli"},
)
"""Each may import itself and those before it; train and serve not one another."""


def pyproject() -> str:
    """The text of pyproject.toml; Python 3.10 has no reader for it."""
    return (ROOT / "pyproject.toml").read_text()


def area(module: str) -> str:
    """What of the project a module belongs to: its package, or its own name."""
    name = module.split(".")[1:2] or ["__init__"]
    return {"__main__": "cli"}.get(name[0], name[0]) if name[0] in {*PACKAGES, *TOP} else "__init__"


def may_import(importer: str, imported: str) -> bool:
    """Whether one area may import another."""
    level = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    return importer == imported or level[imported] < level[importer] or level[importer] == 0 == level[imported]


def imports(module: str) -> Iterator[str]:
    """What a module imports, with relative names resolved."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    """Imports go from errors over recordio, algorithms, train and serve, and containers to the command line."""
    for imported in imports(module):
        assert imported.partition(".")[0] not in PACKAGES, f"{module} imports {imported}: a second copy of it"
        if imported.partition(".")[0] == "clary":
            assert may_import(area(module), area(imported)), f"{module} imports {imported}"


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("train", "recordio", True),
        ("cli", "containers", True),
        ("recordio", "errors", True),
        ("train", "serve", False),
        ("serve", "train", False),
        ("recordio", "algorithms", False),
        ("errors", "recordio", False),
        ("algorithms", "cli", False),
    ],
)
def test_rule(importer: str, imported: str, allowed: bool) -> None:
    """The rule itself allows what goes down and refuses what goes up or across."""
    assert may_import(importer, imported) == allowed


def test_packages() -> None:
    """Every folder that is a package is packaged, and none else."""
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"benchmarks", "tests"}
    listed = re.search(r"^packages = \[([^]]*\"clary\"[^]]*)\]$", pyproject(), re.MULTILINE)
    mapped = re.search(r"^package-dir = \{(.*)\}$", pyproject(), re.MULTILINE)
    assert listed is not None and mapped is not None
    assert set(re.findall(r'"(.*?)"', listed[1])) == {"clary", *(f"clary.{name}" for name in folders)}
    assert dict(re.findall(r'"([^"]*)" = "([^"]*)"', mapped[1])) == {
        "clary": "src/clary",
        **{f"clary.{name}": name for name in folders},
    }
    assert folders == set(PACKAGES)


def loaded(code: str) -> set[str]:
    """Names of the modules that a new process has after running some code."""
    words = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
    return set(subprocess.run(words, capture_output=True, check=True, cwd=ROOT, text=True).stdout.split())


def test_one_copy() -> None:
    """No file is imported under two names, whatever folder Python is started in."""
    everything = "\n".join(f"import {module}" for module in MODULES if not module.endswith(("__main__", "__init__")))
    modules = loaded(everything)
    assert {module for module in MODULES if not module.endswith(("__main__", "__init__"))} <= modules
    assert not {name for name in modules if name.partition(".")[0] in PACKAGES}


def test_import_costs_nothing() -> None:
    """The package itself, and its record format until it is used, load no numpy and nothing larger."""
    heavy = {"numpy", "google", "flask", "scipy", "sklearn", "xgboost", "pandas", "docker"}
    assert not loaded("import clary, clary.recordio, clary.errors, clary.logs") & heavy


def test_version() -> None:
    """The version is the same wherever it is written."""
    written = re.search(r'^version = "(.*)"$', pyproject(), re.MULTILINE)
    assert written is not None
    assert written[1] == clary.__version__ == metadata.version("clary")
    assert re.search(rf"^## .*\b{re.escape(clary.__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def python_files() -> list[Path]:
    """All Python files of the project that people write."""
    folders = (*PACKAGES, "src/clary", "tests", "benchmarks", "docs", "examples")
    files = {path for folder in folders for path in (ROOT / folder).rglob("*.py")}
    return sorted(path for path in files if path.name not in GENERATED)


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_length(path: Path) -> None:
    """No file is longer than 500 lines."""
    assert len(path.read_text().splitlines()) <= 500


@pytest.mark.parametrize("module", MODULES)
def test_nothing_runs_foreign_code(module: str) -> None:
    """No module evaluates text, unpickles or unpacks an archive as it comes."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert not (isinstance(node.func, ast.Name) and name in {"eval", "exec", "compile", "__import__"})
            assert name != "extractall"
            assert not any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in node.keywords)
    assert not {name.partition(".")[0] for name in imports(module)} & {"pickle", "marshal", "shelve", "dill", "joblib"}


def broad_handlers(module: str) -> list[int]:
    """Lines of handlers that take every exception."""
    nodes = [node for node in ast.walk(ast.parse(MODULES[module].read_text())) if isinstance(node, ast.ExceptHandler)]
    return [
        node.lineno
        for node in nodes
        if (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}))
        and not any(isinstance(inner, ast.Raise) for inner in node.body)
    ]


@pytest.mark.parametrize("module", MODULES)
def test_broad_handlers(module: str) -> None:
    """Every exception is swallowed at edges alone: a job's, a server's, and that of the platform's threads."""
    assert not broad_handlers(module) or module in {"clary.train.job", "clary.serve.endpoint", "clary.local.edge"}


@pytest.mark.parametrize("module", [module for module in MODULES if not module.endswith("__main__")])
def test_public_names(module: str) -> None:
    """Every public name that a module announces is there."""
    found = importlib.import_module(module.removesuffix(".__init__"))
    assert [name for name in getattr(found, "__all__", ()) if not hasattr(found, name)] == []
