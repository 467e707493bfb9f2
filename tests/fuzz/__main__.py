"""``python -m tests.fuzz``: what `make fuzz` runs.  It goes on where it stopped."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.update({"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"})


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--format", action="append", help="only this one (may be repeated)")
    parser.add_argument("--cases", type=int, help="of each format (default: 2,000, of LilyPond 200)")
    parser.add_argument("--case", type=int, help="only this one, with its traceback; the damaged file is kept")
    parser.add_argument("--cheap", action="store_true", help="leave out the readers that engrave")
    parser.add_argument("--files-only", action="store_true", help="no kills and full disks")
    parser.add_argument(
        "--stage", action="append", help="no files, only kills and full disks in this stage (may be repeated)"
    )
    parser.add_argument("--kills", type=int, help="in each stage (default: 25, in the notebook 5)")
    parser.add_argument("--log", type=Path, help="default: results/reliability.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="duet-fuzz-home-") as home:
        os.environ["DUET_CACHE"], os.environ["DUET_RESULTS"] = f"{home}/cache", f"{home}/results"
        from . import campaign
        from .formats import FORMATS

        names = arguments.format or list(FORMATS)
        if arguments.case is not None:
            return campaign.show(names[0], arguments.case, not arguments.cheap)
        log = arguments.log or campaign.LOG
        if arguments.stage is None:
            content = campaign.campaign(names, arguments.cases, log, not arguments.cheap)
        else:
            content = campaign.read_log(log)
        if arguments.format is None and not arguments.files_only:
            from . import interruptions

            interruptions.campaign(log, content, arguments.stage or list(interruptions.STAGES), arguments.kills)
        return int(any(not f["fixed"] for part in ("formats", "interruptions") for own in content[part].values()
                       for f in own["faults"]))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
