"""Measures ioxide beside asyncio and every installed peer, and prints a table of ratios.

python benches/run.py [--impls a,b] [--scenarios glob,glob] [--reps N] [--write docs/performance.md]
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import scenarios

HERE = Path(__file__).resolve().parent
PEERS = ("uvloop", "rloop", "rsloop", "zuvloop")
LIMIT_S = 120
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"

#: scenario -> implementation -> the median of each figure, or the word that stands for it.
Results = dict[str, dict[str, Any]]


def installed(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if importlib.util.find_spec(name) is not None]


def run_once(implementation: str, name: str) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "child.py"), implementation, name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_S, check=False, cwd=HERE.parent
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no end after {LIMIT_S} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"failed": lines[-1]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(names: list[str], implementations: list[str], reps: int) -> Results:
    """Interleaved: each repetition goes once round the implementations, a process for each."""
    results: Results = {}
    for number, name in enumerate(names, 1):
        samples: dict[str, list[dict[str, Any]]] = {i: [] for i in implementations}
        for rep in range(reps):
            progress(f"{number}/{len(names)} {name}, repetition {rep + 1} of {reps}")
            # A different one begins each time, so that nobody always follows the same neighbour.
            for index in range(len(implementations)):
                implementation = implementations[(index + rep) % len(implementations)]
                samples[implementation].append(run_once(implementation, name))
        results[name] = {i: summed_up(s) for i, s in samples.items()}
    progress("")
    return results


def summed_up(samples: list[dict[str, Any]]) -> dict[str, Any]:
    for sample in samples:
        if "failed" in sample or "skipped" in sample:
            return sample
    if "bytes" in samples[0]:
        return {"bytes": statistics.median(s["bytes"] for s in samples)}
    return {
        kind: statistics.median(s[kind] / s["operations"] for s in samples)
        for kind in ("cpu", "wall")
    }


def progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
    elif text:
        sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def table(results: Results, implementations: list[str], kind: str) -> list[str]:
    """A Markdown table of one kind of figure: cpu, wall or bytes."""
    known = scenarios.load()
    unit = "bytes" if kind == "bytes" else "ns"
    others = [i for i in implementations if i != "asyncio"]
    lines = [
        f"| | asyncio, {unit} | " + " | ".join(others) + " |",
        "|---|--:|" + "--:|" * len(others),
    ]
    groups: dict[str, list[str]] = {}
    for name in results:
        if kind in results[name].get("asyncio", {}) or (
            kind == "cpu" and "skipped" in results[name].get("asyncio", {})
        ):
            groups.setdefault(known[name].group, []).append(name)
    for group, names in groups.items():
        cells = [geometric_mean(results, names, i, kind) for i in others]
        lines.append(f"| **{group}** | | " + " | ".join(f"**{c}**" for c in cells) + " |")
        for name in names:
            base = results[name]["asyncio"].get(kind)
            first = "-" if base is None else f"{base * (1 if kind == 'bytes' else 1e9):,.0f}"
            row = " | ".join(ratio_cell(results[name], i, kind) for i in others)
            lines.append(f"| {name.replace('_', ' ')} | {first} | {row} |")
    return lines


def ratio(row: dict[str, Any], implementation: str, kind: str) -> float | None:
    base, own = row["asyncio"].get(kind), row[implementation].get(kind)
    return None if base is None or not own else base / own


def ratio_cell(row: dict[str, Any], implementation: str, kind: str) -> str:
    if "failed" in row[implementation]:
        return "fails"
    value = ratio(row, implementation, kind)
    return "-" if value is None else f"{value:.2f}"


def geometric_mean(results: Results, names: list[str], implementation: str, kind: str) -> str:
    """Over the scenarios that asyncio and this implementation both have."""
    values = [ratio(results[name], implementation, kind) for name in names]
    logs = [math.log(v) for v in values if v is not None and v > 0]
    return f"{math.exp(sum(logs) / len(logs)):.2f}" if logs else "-"


def failures(results: Results) -> list[str]:
    return [
        f"- {name}, {implementation}: {outcome['failed']}"
        for name, row in results.items()
        for implementation, outcome in row.items()
        if "failed" in outcome
    ]


def machine() -> str:
    """Where and on what these figures were made."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return (
        f"{time.strftime('%Y-%m-%d')}, commit {commit()}, CPython {platform.python_version()} "
        f"({platform.python_compiler()}), {os.cpu_count()} CPUs ({model}), "
        f"{platform.system()} {platform.release()}"
    )


def commit() -> str:
    """The commit that is checked out, and whether files differ from it; without git as far as known."""
    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return (git("rev-parse", "--short", "HEAD") or "unknown") + (
            " with changes" if changed else ""
        )
    except FileNotFoundError:
        head = HERE.parent / ".git" / "HEAD"
        name = head.read_text().strip() if head.is_file() else ""
        if name.startswith("ref: "):
            ref = head.parent / name.removeprefix("ref: ")
            name = ref.read_text().strip() if ref.is_file() else ""
        return name[:7] or "unknown"


def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=HERE, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def versions(implementations: list[str]) -> str:
    from importlib.metadata import PackageNotFoundError, version

    said = []
    for name in implementations:
        if name != "asyncio":
            try:
                said.append(f"{name} {version(name)}")
            except PackageNotFoundError:
                said.append(name)
    return ", ".join(said)


def report(results: Results, implementations: list[str], heading: str) -> str:
    parts = [
        heading,
        "\n### CPU time: how many times less than asyncio\n",
        *table(results, implementations, "cpu"),
        "\n### Wall time: how many times less than asyncio\n",
        *table(results, implementations, "wall"),
        "\n### Memory: how many times less than asyncio\n",
        *table(results, implementations, "bytes"),
    ]
    failed = failures(results)
    if failed:
        parts += ["\n### Failures\n", *failed]
    return "\n".join(parts) + "\n"


def write(path: Path, text: str) -> None:
    """Put the report between the two marks of the document."""
    document = path.read_text(encoding="utf-8")
    head, _, rest = document.partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        raise SystemExit(f"{path} has no place for the table: {BEGIN} ... {END}")
    path.write_text(f"{head}{BEGIN}\n{text}{END}{tail}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="ioxide beside asyncio and its peers")
    parser.add_argument("--impls", help="asyncio, ioxide and the installed peers")
    parser.add_argument("--scenarios", default="*", help="names or globs, separated by commas")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into a document")
    options = parser.parse_args()
    wanted = options.impls.split(",") if options.impls else ["ioxide", *installed(PEERS)]
    implementations = ["asyncio", *(i for i in wanted if i != "asyncio")]
    globs = options.scenarios.split(",")
    names = [n for n in scenarios.load() if any(fnmatch.fnmatch(n, g) for g in globs)]
    # Before the measurement, which takes long: what is described is what is measured.
    heading = (
        f"{machine()}; {versions(implementations)}; medians of {options.reps} interleaved runs."
    )
    text = report(measure(names, implementations, options.reps), implementations, heading)
    print(text)
    if options.write:
        write(options.write, text)


if __name__ == "__main__":
    main()
