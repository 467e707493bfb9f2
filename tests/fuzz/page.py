"""docs/reliability.md, made of the campaign's log."""

from __future__ import annotations

from duet import files, paths

PAGE = paths.ROOT / "docs" / "reliability.md"

_HEAD = """# Reliability: damaged files, kills, full disks

Made by `make fuzz` from `results/reliability.json`; do not edit it. The campaign goes on where its log stops, and a case can be repeated by its
number: `python -m tests.fuzz --format MIDI --case 1234` tells how each reader ends and where the damaged file lies.
`make test` tries the first 50 cases of each format, without those readers that engrave.

## Damaged files

Small whole files of each format are damaged, up to three ways at once: cut off anywhere, bits flipped, stretches overwritten, repeated, left out or
swapped, sizes and numbers that are not true, elements, keys, cells and members left out or repeated, other encodings, other formats under the name,
empty files, folders in place of files, files that may not be read, zip bombs, pictures of gigabytes, entities that multiply, nesting without end.
The project's readers then read them in a process that may take 3 GiB and 20 s. **Refused** is the project's own error: one line that names the file.
**Read** means that every reader came to an end with values that are numbers. Anything else is a fault: another error, a crash, a hang, a line too long.

"""  # noqa: E501
_STAGES = """
## Interruptions

Each stage is killed (SIGKILL, its workers too) at random moments, again and again before it is let to end; and started on a file system of a few
kilobytes to megabytes, at four sizes that are too small, and on one that cannot be written to. After each blow every file that is seen is compared
with that of an undisturbed run; in the end all of them are. **Survived** are kills after which both held.

"""  # noqa: E501


def text(log: dict) -> str:
    """The page."""
    rows = ["| format | tried | read | refused | faults found | fixed |", "|---|---:|---:|---:|---:|---:|"]
    lines, sums = [], [0] * 5
    for name, own in sorted(log["formats"].items()):
        fixed = sum(fault["fixed"] for fault in own["faults"])
        numbers = [own["tried"], own["read"], own["refused"], len(own["faults"]), fixed]
        rows.append(f"| {name} | " + " | ".join(f"{n:,}" for n in numbers) + " |")
        sums = [a + b for a, b in zip(sums, numbers, strict=True)]
        lines += [_fault(name, fault) for fault in own["faults"]]
    rows.append("| all | " + " | ".join(f"{n:,}" for n in sums) + " |")
    stages = ["| stage | kills | survived | full disks, identical | read-only, identical | faults found | fixed |",
              "|---|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    for name, own in sorted(log["interruptions"].items()):
        disks = [f"{own[k]['tried']}, {own[k]['identical']}" if "tried" in own[k] else own[k].get("skipped", "not yet")
                 for k in ("full", "read-only")]  # fmt: skip
        fixed = sum(fault["fixed"] for fault in own["faults"])
        cells = [name, own["kills"], own["survived"], *disks, len(own["faults"]), fixed]
        stages.append("| " + " | ".join(map(str, cells)) + " |")
        lines += [f"- {name}: {fault['what']}{_state(fault)}" for fault in own["faults"]]
    found = "\n## Faults found\n\n" + ("\n".join(lines) if lines else "None.") + "\n"
    return _HEAD + "\n".join(rows) + "\n" + _STAGES + "\n".join(stages) + "\n" + found


def _fault(name: str, fault: dict) -> str:
    cases = ", ".join(map(str, fault["cases"]))
    more = f" and {fault['count'] - len(fault['cases'])} more" if fault["count"] > len(fault["cases"]) else ""
    return f"- {name}: `{fault['what']}` (cases {cases}{more}){_state(fault)}"


def _state(fault: dict) -> str:
    return "; fixed" if fault["fixed"] else "; **open**"


def write(log: dict) -> None:
    files.write_text(PAGE, text(log))
