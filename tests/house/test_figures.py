"""Figures in the documents agree with the tables that they come from.

Values are read from the tables, so that measuring anew changes no test: what a failure names is the sentence, or the
cell, that no longer says what the table does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import exp, log
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PERFORMANCE = (ROOT / "docs/performance.md").read_text()

BENCH, MEASURED = re.split(r"^<!-- table: (?:begin|end) -->$", PERFORMANCE, flags=re.M)[1:]
ARENA = MEASURED.split("\n## Against the peers\n")[1].split("\n#### What the kernel leaves\n")[0]
FLOOR = MEASURED.split("\n#### What the kernel leaves\n")[1]
TLS_FLOOR = MEASURED.split("\n### TLS and its floor\n")[1].split("\n### ")[0]

#: Which section has the rows of a group, where that is not called as the group is.
SECTIONS = {
    "process": "Processes",
    "files": "Files",
    "client": "Clients",
    "tcp_echo": "Echoes by protocols",
    "tcp_streams": "Streams",
    "tcp_other": "Buffered protocols and sockets",
    "unix_udp": "Unix sockets and datagrams",
    "tls": "TLS",
    "conns": "Connections",
    "http": "HTTP and WebSockets",
}

NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
PARTS = "half third quarter fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
VERSIONED = re.compile(r"(uvloop|rloop|rsloop|zuvloop) (\d[\d.]*\d)")


@dataclass
class Table:
    heading: str
    columns: list[str]
    rows: list[list[str]]


def tables(text: str) -> list[Table]:
    found: list[Table] = []
    heading, table = "", None
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.strip("# ")
        if not line.startswith("|"):
            table = None
        elif table is None:
            table = Table(heading, cells(line), [])
            found.append(table)
        elif not set(line) <= set("|-: "):
            table.rows.append(cells(line))
    return found


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def figure(cell: str) -> float | None:
    """What a cell says; None where there is no figure."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\*?", cell)
    return float(match[1]) if match else None


def mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return exp(sum(map(log, known)) / len(known)) if known else None


def agree(said: float | None, found: float | None) -> bool:
    """As well as means of rounded figures can."""
    if said is None or found is None:
        return said is found
    return abs(said - found) <= 0.006 + 0.004 * found


def ratios(cell: str) -> tuple[float | None, ...]:
    """CPU and wall time; memory has one figure."""
    return tuple(figure(part.strip()) for part in cell.split("/"))


GROUPS = tables(ARENA)[0]
DETAILS = {
    table.heading: table
    for table in tables(ARENA)
    if table.columns[0] == "workload" and len(table.columns) == 8
}
ROWS = {row[0]: row for table in DETAILS.values() for row in table.rows}
IMPLEMENTATIONS = GROUPS.columns[2:]


def group_of(name: str) -> float:
    """How many times less CPU time than asyncio's a group takes with us."""
    (row,) = [row for row in GROUPS.rows if row[0] == f"{name} (cpu)"]
    return figure(row[GROUPS.columns.index("ioxide")])


def rows_of(pattern: str) -> list[float]:
    """The same of all workloads with such a name."""
    found = [ratios(row[-2])[0] for name, row in ROWS.items() if re.fullmatch(pattern, name)]
    assert found, pattern
    return found


def required() -> dict[str, str]:
    """The versions of the peers that are measured."""
    return dict(re.findall(r"^(\w+)==(\S+)$", (ROOT / "requirements/bench.txt").read_text(), re.M))


# The lines above the tables


def test_the_line_above_the_table_of_make_bench_says_what_was_measured():
    line = BENCH.strip().splitlines()[0]
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d, commit [0-9a-f]{7,40}, CPython 3\.\d+\.\d+ \(.+\), \d+ CPUs \(.+\), "
        r"Linux \d+\.\d+; ioxide, .+; medians of \d+ interleaved runs\.",
        line,
    )
    assert dict(VERSIONED.findall(line)) == required()


def test_the_lines_above_the_other_tables_say_what_was_measured():
    words = " ".join(ARENA.split("\n|")[0].split())
    assert re.match(
        r"CPython 3\.\d+\.\d+ \(.+?\), Linux \d+\.\d+, .+?, commit [0-9a-f]{7,40},", words
    )
    versions = dict(VERSIONED.findall(words))
    assert versions.keys() == required().keys()
    assert all(required()[peer].startswith(version) for peer, version in versions.items())


def test_commits_are_well_formed():
    named = re.findall(r"\b[Cc]ommits?\b[^.;]*?\b([0-9a-f]{6,})\b", PERFORMANCE)
    assert named
    assert all(7 <= len(commit) <= 40 for commit in named)


# The tables by themselves


@pytest.mark.parametrize("table", tables(BENCH), ids=lambda table: table.heading)
def test_a_group_of_make_bench_is_the_mean_of_its_rows(table):
    groups: dict[str, tuple[list[str], list[list[str]]]] = {}
    for name, *values in table.rows:
        bold = [value.strip("*") for value in values]
        if name.startswith("**"):
            group = groups[name] = (bold[1:], [])
        else:
            group[1].append(bold[1:])
    assert groups
    for name, (said, rows) in groups.items():
        for column, implementation in enumerate(table.columns[2:]):
            values = [figure(row[column]) for row in rows]
            # One that cannot do everything is not compared.
            found = None if None in values else mean(values)
            assert agree(figure(said[column]), found), (name, implementation, found)


@pytest.mark.parametrize("row", GROUPS.rows, ids=lambda row: row[0])
def test_a_group_is_the_mean_of_its_rows(row):
    name, kind = re.fullmatch(r"(\w+) \((cpu|wall|bytes)\)", row[0]).groups()
    details = DETAILS[SECTIONS.get(name, name)]
    place = 1 if kind == "wall" else 0
    for said, implementation in zip(row[2:], IMPLEMENTATIONS, strict=True):
        column = details.columns.index(implementation)
        values = [
            None if other[column] == "FAIL" else ratios(other[column])[place]
            for other in details.rows
        ]
        assert agree(figure(said), mean(values)), (implementation, mean(values))
        assert said.endswith("*") == (None in values and said != "-"), implementation


@pytest.mark.parametrize("name", ROWS)
def test_the_best_of_a_row_is_named(name):
    row = ROWS[name]
    best, value = row[-1].split()
    of_all = dict(zip(IMPLEMENTATIONS, (ratios(cell)[0] for cell in row[2:-1]), strict=True))
    assert of_all[best] == float(value) == max(v for v in of_all.values() if v is not None)


def test_parts_of_what_c_gets_are_those_of_the_columns():
    table = tables(FLOOR)[0]
    for _group, _rows, ours, c, part in table.rows:
        assert abs(float(ours) / float(c) - float(part.strip(" %")) / 100) < 0.01, _group


def test_what_tls_gains_follows_from_the_quickest_samples():
    measured, gained = tables(TLS_FLOOR)
    *rows, last = gained.rows
    for row, times_of in zip(rows, measured.rows, strict=True):
        assert row[0] == times_of[0]
        asyncio, ours, *servers = (float(cell.split(", ")[1]) for cell in times_of[1:])
        found = asyncio / min(servers), asyncio / ours, min(servers) / ours
        for said, value in zip(row[1:], found, strict=True):
            assert abs(float(said) - value) < 0.03, (row[0], value)
    for column in 1, 2, 3:
        average = mean([float(row[column]) for row in rows])
        assert abs(average - float(last[column])) < 0.01, gained.columns[column]


# Prose


def part(words: str) -> int:
    """2 for "half" and "a half", 8 for "an eighth"."""
    return PARTS.index(words.split()[-1]) + 2


def times(words: str) -> float:
    """1.5 for "one and a half", 3 for "three"."""
    number, _, half = words.partition(" and a ")
    return NUMBERS.index(number) + 1 + (0.5 if half else 0)


def is_part(words: str, values: list[float]) -> bool:
    return all(abs(value - part(words)) <= 0.5 for value in values)


def is_range(least: str, most: str, values: list[float]) -> bool:
    """To a half where one of them is said with a half, to one otherwise."""
    step = 0.5 if "half" in least + most else 1
    return (
        abs(min(values) - times(least)) <= step / 2 and abs(max(values) - times(most)) <= step / 2
    )


AMOUNT = rf"(?:{'|'.join(NUMBERS)})(?: and a half)?"
PART = rf"(?:an? )?(?:{'|'.join(PARTS)})"

#: What the README says, and the figures that it says it of.
CLAIMS = {
    rf"({PART}) of asyncio's time for tasks": lambda: [group_of("tasks")],
    rf"({PART}) for locks, queues and timers": lambda: [group_of("sync"), group_of("timers")],
    rf"({PART}) for callbacks": lambda: [group_of("callbacks")],
    rf"an idle task takes ({PART})(?: of)? the memory": lambda: rows_of("mem_idle_task"),
    rf"echoes of 1 KB come ({AMOUNT}) to ({AMOUNT}) times as quick as asyncio's": lambda: rows_of(
        "tcp_(proto|streams)_1k_.*"
    ),
    rf"over TLS ({AMOUNT}) to ({AMOUNT}) times": lambda: rows_of("tls_(proto|streams)_1k_.*"),
}


def speed() -> str:
    section = README.split("\n## Speed\n")[1].split("\n## ")[0]
    return " ".join(section.split())


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_the_readme_says_of_speed_is_in_the_tables(claim):
    match = re.search(claim, speed())
    assert match, "the README does not say this, or in other words"
    holds = is_part if len(match.groups()) == 1 else is_range
    assert holds(*match.groups(), CLAIMS[claim]()), f"{match[0]}: {CLAIMS[claim]()}"


def test_the_readme_says_no_figure_that_is_not_checked():
    rest = re.sub("|".join(re.sub(r"\((?!\?)", "(?:", claim) for claim in CLAIMS), "", speed())
    rest = rest.replace("CPython 3.14", "")
    assert re.findall(rf"\d+|\b{AMOUNT} times|\btwice|\b{PART}\b", rest) == []


def test_the_rows_in_which_another_is_first_are_named():
    (sentence,) = re.findall(
        r"^Another is first, by CPU time or bytes, in (.+?)\.$", ARENA, re.M | re.S
    )
    named = {
        (name, peer)
        for names, peer in re.findall(r"((?:`\w+`[, and\n]*)+)\((\w+)\)", sentence)
        for name in re.findall(r"`(\w+)`", names)
    }
    lost = {(name, row[-1].split()[0]) for name, row in ROWS.items() if "ioxide" not in row[-1]}
    assert named == lost
