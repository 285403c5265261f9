"""Results as the shell shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line starts without pandas
    from gtgm.results import Result


def show_scores(result: Result) -> None:
    """Identity and summary, a line for each score."""
    print(f"{result.id}  ({result.source} data, {result.wall_seconds:.0f} s)")
    for name, value in result.summary.items():
        if value is not None:
            print(f"  {name:<28} {value:.4f}")


def show_neurons(result: Result) -> None:
    """A row for each post-processing, or for each way of scoring a published segmentation."""
    first, last = _test_sections(result)
    print(
        f"{result.id}  ({result.source} data, {result.wall_seconds:.0f} s)\n"
        f"Test sections {first}–{last - 1}; VOI in bits; lower is better in every column.\n"
        "*: without what lies within 25 nm of a boundary between neurons."
    )
    columns = ("voi_sum", "voi_split", "voi_merge", "arand", "voi_sum_border_masked",
               "arand_border_masked")  # fmt: skip
    titles = ("VOI", "split", "merge", "ARAND", "VOI*", "ARAND*")
    print(f"  {'':<24}" + "".join(f"{title:>8}" for title in titles))
    for name in dict.fromkeys(row["class"] for row in result.metrics):
        scores = {row["metric"]: row["value"] for row in result.metrics if row["class"] == name}
        cells = "".join(f"{scores[c]:8.3f}" if c in scores else f"{'':8}" for c in columns)
        chosen = result.settings.get("chosen", {}).get(name)
        note = f"  (parameter from validation sections: {chosen:g})" if chosen is not None else ""
        print(f"  {name:<24}{cells}{note}")


def _test_sections(result: Result) -> tuple[int, int]:
    sections = result.settings["sections"]
    return tuple(sections["test"] if isinstance(sections, dict) else sections)
