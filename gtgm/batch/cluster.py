"""Where a batch runs: this machine, SLURM or Kubernetes, as a Snakemake profile says."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import yaml

from gtgm import paths
from gtgm.errors import SettingsError

PROFILES = paths.WORKFLOW / "profiles"


@dataclass(frozen=True)
class Profile:
    """A Snakemake profile: its folder and the executor that it names."""

    folder: Path
    executor: str

    @property
    def local(self) -> bool:
        """Whether units are executed on this machine."""
        return self.executor == "local"


def find_profile(cluster: str | Path) -> Profile:
    """The profile of that name in ``workflow/profiles``, or in a folder.

    Raises:
        SettingsError: there is none, or a plugin that it needs is not installed.
    """
    known = sorted(path.name for path in PROFILES.iterdir() if path.is_dir())
    folder = PROFILES / str(cluster) if str(cluster) in known else Path(cluster).resolve()
    file = folder / "config.yaml"
    if not file.is_file():
        raise SettingsError(
            f"there is no such profile {str(cluster)!r}",
            where="cluster",
            expected=f"one of {', '.join(known)}, or a folder with a config.yaml",
        )
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        values = None
    if not isinstance(values, dict):
        raise SettingsError(
            "is no Snakemake profile", where=file, expected="YAML with an executor and resources"
        )
    executor = values.get("executor", "local")
    plugins = [f"snakemake-executor-plugin-{executor}"] if executor != "local" else []
    if "default-storage-provider" in values:
        plugins.append(f"snakemake-storage-plugin-{values['default-storage-provider']}")
    for plugin in plugins:
        if importlib.util.find_spec(plugin.replace("-", "_")) is None:
            raise SettingsError(
                f"the package {plugin} is not installed",
                where=file,
                fix="install this package with its extra 'cluster'",
            )
    return Profile(folder, executor)
