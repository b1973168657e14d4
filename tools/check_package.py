"""Build the wheel and the sdist, and use each as a reader of README.md would: in a fresh environment, away from here.

    python tools/check_package.py                   # both; ten minutes on two cores
    python tools/check_package.py wheel --python python3.12

Each is installed with the versions of constraints.txt and runs ``memaudit --version``, ``memaudit demo`` and ``memaudit
gate`` on the demo's report; the tests of the package's own files run from the unpacked sdist. The time of each step is
printed, and nothing is left behind. Needs the extra ``dev`` and a git checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
KINDS = {"wheel": "*.whl", "sdist": "*.tar.gz"}
UNKEPT = 'schema = 1\n[rules.unkept]\nkind = "accuracy"\nmargin = 2.0\ngroups = ["overall"]\n'  # no accuracy is 2
CLEAN = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


def main() -> None:
    """Build, look into both files, and use those that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="wheel|sdist", help="what to install; both by default")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the fresh environments")
    options = parser.parse_args()
    if unknown := set(options.kinds) - set(KINDS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(KINDS)}")
    with tempfile.TemporaryDirectory(prefix="memaudit-package-") as folder:
        built = build(Path(folder) / "dist")
        version = check_contents(built)
        for kind in options.kinds or KINDS:
            place = Path(folder) / kind
            place.mkdir()
            use(built[kind], place, options.python, version, with_tests=kind == "sdist")
    print("all well")


def build(out: Path) -> dict[str, Path]:
    """Build both files as ``make build`` does and check what an index would show of them."""
    run("build", [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)], cwd=ROOT)
    built = {kind: one(out, pattern) for kind, pattern in KINDS.items()}
    run("twine check", [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.values())], cwd=ROOT)
    return built


def check_contents(built: dict[str, Path]) -> str:
    """The sdist has every file of the checkout, the wheel the package and its license; both say one version."""
    listed = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = run("git ls-files", listed, cwd=ROOT).split("\0")
    tracked = {name for name in names if name and (ROOT / name).is_file()}
    with tarfile.open(built["sdist"]) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()} - {"PKG-INFO"}
    expect(packed == tracked, f"sdist and checkout differ in {sorted(packed ^ tracked)}")
    with zipfile.ZipFile(built["wheel"]) as archive:
        names = archive.namelist()
        (about,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(about))
    package = {name for name in tracked if name.startswith("lightning_memaudit/")}
    own = {name for name in names if ".dist-info/" not in name}
    expect(own == package, f"wheel and package differ in {sorted(own ^ package)}")
    expect(any(name.endswith(".dist-info/licenses/LICENSE") for name in names), "the wheel lacks its license")
    version = metadata["Version"]
    expect(f"-{version}.tar.gz" in built["sdist"].name, f"the sdist is not of version {version}")
    print(f"{'contents':24} {len(packed)} files in the sdist, {len(names)} in the wheel, version {version}", flush=True)
    return str(version)


def use(built: Path, place: Path, python: str, version: str, *, with_tests: bool) -> None:
    """Install one file into a fresh environment and run the demo and the gate."""
    print(f"--- {built.name}", flush=True)
    run("environment", [python, "-m", "venv", str(place / "venv")], cwd=place)
    binaries = place / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = [str(binaries / "python"), "-m", "pip", "install", "--quiet", "--constraint", str(CONSTRAINTS)]
    run("pip install torch", [*pip, "torch"], cwd=place)
    run("pip install package", [*pip, f"{built}[demo]"], cwd=place)
    memaudit = str(binaries / "memaudit")
    said = run("memaudit --version", [memaudit, "--version"], cwd=place).strip()
    expect(said == version, f"memaudit --version says {said}, the metadata {version}")
    run("memaudit demo", [memaudit, "demo", "--out", "demo", "--no-progress"], cwd=place)
    report = json.loads((place / "demo/report.json").read_text(encoding="utf-8"))
    expect(report["versions"]["lightning-memaudit"] == version, f"the report says {report['versions']}")
    for name in ("memorization", "impact", "long_tail"):
        expect(report[name]["status"] == "ok", f"{name}: {report[name].get('reason')}")
    policy = run("memaudit gate --init", [memaudit, "gate", "demo", "--init"], cwd=place)
    (place / "memaudit.toml").write_text(policy, encoding="utf-8")
    (place / "unkept.toml").write_text(UNKEPT, encoding="utf-8")
    run("memaudit gate", [memaudit, "gate", "demo"], cwd=place)
    run("memaudit gate, unkept", [memaudit, "gate", "demo", "--policy", "unkept.toml"], cwd=place, code=1)
    if with_tests:
        run("pip install pytest", [*pip, "pytest", "pytest-timeout"], cwd=place)
        with tarfile.open(built) as archive:
            archive.extractall(place, filter="data")
        source = place / built.name.removesuffix(".tar.gz")
        tests = ["-p", "no:cacheprovider", "-q", "tests/test_packaging.py", "tests/test_architecture.py"]
        run("tests from the sdist", [str(binaries / "python"), "-m", "pytest", *tests], cwd=source)


def run(name: str, command: Sequence[str], *, cwd: Path, code: int = 0) -> str:
    """Run a command, print how long it took, and return what it wrote to standard output."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=CLEAN, capture_output=True, text=True, encoding="utf-8")
    print(f"{name:24} {time.perf_counter() - start:6.1f} s", flush=True)
    expect(
        done.returncode == code,
        f"{' '.join(command)}\nended with {done.returncode}, not {code}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}",
    )
    return done.stdout


def one(folder: Path, pattern: str) -> Path:
    """The only file of this pattern."""
    (path,) = folder.glob(pattern)
    return path


def expect(holds: bool, otherwise: str) -> None:
    """End with a message unless something holds."""
    if not holds:
        raise SystemExit(otherwise)


if __name__ == "__main__":
    main()
