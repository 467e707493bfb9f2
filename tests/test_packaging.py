"""What is installed: one list, for pip and conda alike, and nothing in it that only one machine has."""

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from duet import __version__, paths

PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(line.split("==") for line in (paths.ROOT / "requirements.txt").read_text().splitlines() if line[0] != "#")


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def version(text):
    return [int(part) for part in re.findall(r"\d+", text)]


PINNED = {normal(name): pin for name, pin in PINS.items()}
DEPENDENCIES = PROJECT["dependencies"] + [item for extra in PROJECT["optional-dependencies"].values() for item in extra]


@pytest.mark.parametrize("dependency", DEPENDENCIES)
def test_every_dependency_is_pinned_at_or_above_its_lower_bound(dependency):
    name, bound = dependency.split(">=")
    assert version(PINNED[normal(name)]) >= version(bound)


def imported(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def test_every_package_that_the_library_and_the_notebooks_import_is_declared():
    codes = [path.read_text() for path in (paths.ROOT / "lib").rglob("*.py")]
    for notebook in paths.NOTEBOOKS.glob("*.ipynb"):
        cells = json.loads(notebook.read_text())["cells"]
        codes += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    packages = {name for code in codes for name in imported(code)} - set(sys.stdlib_module_names) - {"duet", "IPython"}
    declared = {normal(dependency.split(">=")[0]) for dependency in DEPENDENCIES}
    distributions = importlib.metadata.packages_distributions()
    assert "torch" in packages
    assert [name for name in packages if not {normal(each) for each in distributions.get(name, [])} & declared] == []


def test_the_pinned_list_holds_for_every_machine():
    text = (paths.ROOT / "requirements.txt").read_text()
    assert PINNED["torch"] == "2.13.0"
    assert not re.search(r"://|@|^--", text, re.MULTILINE)
    assert not [pin for pin in PINS.values() if "+" in pin]
    assert list(PINS) == sorted(PINS, key=str.lower)
    assert len(PINNED) == len(PINS)


def test_conda_installs_the_same_list_and_this_checkout():
    environment = yaml.safe_load((paths.ROOT / "environment.yml").read_text())
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert pip == ["-r requirements.txt", "-e ."]
    (python,) = [item for item in environment["dependencies"] if str(item).startswith("python=")]
    assert PROJECT["requires-python"] == ">=" + python.removeprefix("python=")


def test_binder_finds_what_it_reads():
    """repo2docker takes these from the root: one system package a line, and two scripts that can be run."""
    root = paths.ROOT
    assert not (root / "binder").exists() and not (root / ".binder").exists()  # either would hide the root's
    for name in ("start", "postBuild"):
        assert os.access(root / name, os.X_OK) and (root / name).read_bytes().startswith(b"#!/bin/bash\n")
    assert all(re.fullmatch(r"[a-z0-9.+-]+", line) for line in (root / "apt.txt").read_text().splitlines())
    exported = set(re.findall(r"^export (\w+) := (.*)$", (root / "Makefile").read_text(), re.MULTILINE))
    started = subprocess.run([root / "start", "env"], capture_output=True, text=True, check=True, env={"PATH": "/bin"})
    assert exported <= {tuple(line.split("=", 1)) for line in started.stdout.splitlines()} and len(exported) == 4


def test_the_version_is_the_packages():
    assert PROJECT["version"] == __version__


def test_the_makefile_lists_each_of_its_targets():
    makefile = (paths.ROOT / "Makefile").read_text()
    documented = set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert documented == set(phony.split()) - {"system"}
