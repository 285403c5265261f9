"""Does a run repeat on this machine, and does a killed one end with the same numbers?

python benchmarks/repeat.py --out results/benchmarks/repeat.json
python benchmarks/repeat.py --data DIR --profile cpu --set pretrain.steps=200 --out FILE.json
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gtgm.paths import ROOT, read_json, sha256, write_json
from gtgm.provenance import provenance

DATASET = "Task04_Hippocampus"
#: Both precisions, by what results call them.
PRECISIONS = ("no", "bf16")
#: Stages, and the file whose bytes are compared.
WEIGHTS = {"pretrain": "encoder.safetensors", "finetune": "segmenter.safetensors"}


def command(runs: Path, precision: str, options: argparse.Namespace) -> list[str]:
    """``gtgm finetune`` in a folder of its own, with checkpoints to be killed at."""
    settings = [f"{stage}.precision={precision}" for stage in WEIGHTS]
    settings += [f"{stage}.checkpoint_every=10" for stage in WEIGHTS] + options.set
    data = ["--data", options.data] if options.data else []
    return [
        *(sys.executable, "-m", "gtgm", "finetune", DATASET, "--profile", options.profile),
        *("--runs", str(runs), *data),
        *(part for setting in settings for part in ("--set", setting)),
    ]


def finish(call: list[str]) -> None:
    """Run to the end."""
    subprocess.run(call, cwd=ROOT, check=True, env=os.environ | {"TQDM_DISABLE": "1"})


def kill_at_checkpoint(call: list[str], runs: Path, stage: str) -> None:
    """Start, and kill the process once a stage has written a checkpoint."""
    process = subprocess.Popen(call, cwd=ROOT, env=os.environ | {"TQDM_DISABLE": "1"})
    while not list(runs.glob(f"*/{stage}/*/checkpoint.pt")):
        if process.poll() is not None:
            raise RuntimeError(f"{stage} ended before its first checkpoint")
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def outcome(runs: Path, stage: str) -> dict[str, Any]:
    """Scores of a stage, the last value of its loss, and the bytes of its weights."""
    (folder,) = {path.parent for path in runs.glob(f"*/{stage}/*/result.json")}
    result = read_json(folder / "result.json")
    numbers = {name: value for name, value in result["summary"].items() if value is not None}
    numbers["loss"] = result["curves"]["loss"][-1][1]
    return {"numbers": numbers, "sha256": sha256(folder / WEIGHTS[stage])}


def compared(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Whether weights have the same bytes, and how far the scores are apart."""
    differences = {
        name: abs(value - second["numbers"][name]) for name, value in first["numbers"].items()
    }
    return {"same_bytes": first["sha256"] == second["sha256"], "differences": differences}


def main() -> None:
    """Three runs per precision: twice undisturbed, and once killed in both stages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--data", default="", help="folder of real datasets (default: phantoms)")
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--set", action="append", default=[], metavar="STAGE.NAME=VALUE")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for precision in PRECISIONS:
        with tempfile.TemporaryDirectory() as temporary:
            first, again, killed = (Path(temporary) / name for name in ("a", "b", "c"))
            for runs in (first, again):
                finish(command(runs, precision, options))
            for stage in WEIGHTS:
                kill_at_checkpoint(command(killed, precision, options), killed, stage)
            finish(command(killed, precision, options))
            found[precision] = {
                stage: {
                    name: compared(outcome(first, stage), outcome(runs, stage))
                    for name, runs in (("repeated", again), ("killed_and_resumed", killed))
                }
                for stage in WEIGHTS
            }
    source = "real" if options.data else "phantom"
    about = {"dataset": DATASET, "source": source, "profile": options.profile}
    call = ["python", "benchmarks/repeat.py", f"--profile {options.profile}"]
    call += ["--data DIR"] * bool(options.data) + [f"--set {s}" for s in options.set]
    write_json(
        options.out,
        {**about, "command": " ".join(call), "found": found, **provenance()},
    )


if __name__ == "__main__":
    main()
