"""Tables: grouping, statistics, reported numbers, footnotes, the README."""

from __future__ import annotations

import dataclasses
import html.parser
import io
import math
import re
import statistics
from pathlib import Path

import pandas as pd
import pytest

from gtgm import paths
from gtgm.errors import ResultError, SettingsError
from gtgm.methods import METHODS
from gtgm.references import HEADING
from gtgm.reported import load_reported
from gtgm.results import Result, load_results
from gtgm.tables import BEGIN, END, build_table, readme_table, update_readme


def run(method: str, dice: float | None = None, **changes) -> Result:
    fields = {
        "stage": "finetune", "dataset": "Task04_Hippocampus", "source": "real", "method": method,
        "backbone": "unet", "protocol": "corrected", "profile": "cpu", "fraction": 0.01, "fold": 0,
        "draw": 0, "seed": 0, "n_train": 2, "n_test": 52, "summary": {"dice": dice},
        "command": "gtgm reproduce --tables mri",
    } | changes  # fmt: skip
    name = "-".join(
        str(fields[k]) for k in ("dataset", "method", "fraction", "draw", "seed", "fold")
    )
    return Result(id=fields.pop("id", name), **fields)


def rows_of(table, dataset: str, fraction: float) -> list[dict]:
    frame = table.frame
    return frame[(frame["dataset"] == dataset) & (frame["fraction"] == fraction)].to_dict("records")


def row_of(table, dataset: str, fraction: float, method: str) -> dict:
    (row,) = [row for row in rows_of(table, dataset, fraction) if row["method"] == method]
    return row


def hippocampus(results, method: str = "gtgm", fraction: float = 0.01) -> dict:
    return row_of(build_table("MRI", results), "Task04_Hippocampus", fraction, method)


@pytest.mark.parametrize(
    ("modality", "blocks", "fractions"), [("CT", 6, 3), ("MRI", 4, 3), ("EM", 3, 2)]
)
def test_every_dataset_of_the_paper_has_its_rows_without_any_result(
    modality, blocks, fractions
) -> None:
    table = build_table(modality, [])
    gtgm = table.frame[table.frame["method"] == "gtgm"]
    assert len(gtgm) == blocks * fractions and gtgm["dataset"].nunique() == blocks
    assert set(table.frame["source"]) == {"not run"} and not table.has_phantoms


def test_every_reported_number_of_a_compared_method_has_one_row() -> None:
    reported = load_reported()
    frames = [build_table(m, []).frame for m in ("CT", "MRI", "EM")]
    titles = {title for frame in frames for title in frame["title"]}
    assert set(reported["dataset"]) - {"all"} <= titles and len(titles) == 13
    names = {method.reported: name for name, method in METHODS.items() if method.reported}
    expected = sorted(
        (row["dataset"], row["fraction"], names[row["method"]], row["value"])
        for _, row in reported.iterrows()
        if row["method"] in names
    )
    shown = sorted(
        (row["title"], row["fraction"], row["method"], row["reported"])
        for frame in frames
        for row in frame.to_dict("records")
        if not math.isnan(row["reported"])
    )
    assert len(expected) == 54 and shown == expected


def test_means_spread_difference_and_gap_against_hand_computed_values() -> None:
    random, gtgm = [0.70, 0.80, 0.78], [0.75, 0.79, 0.83]
    results = [run("random", v, draw=d) for d, v in enumerate(random)]
    results += [run("gtgm", v, draw=d) for d, v in enumerate(gtgm)]
    first, second = hippocampus(results, "random"), hippocampus(results)
    assert first["measured"] == pytest.approx(76) and second["measured"] == pytest.approx(79)
    assert first["measured_sd"] == pytest.approx(100 * statistics.stdev(random))
    assert second["difference"] == pytest.approx(3) and math.isnan(first["difference"])
    assert second["difference_sd"] == pytest.approx(statistics.stdev([5, -1, 5]))
    assert second["reported"] == 53.41 and second["gap"] == pytest.approx(79 - 53.41)
    assert (second["draws"], second["seeds"], second["folds"]) == (3, 1, 1)
    lines = build_table("MRI", results).to_markdown().splitlines()
    (line,) = [line for line in lines if "79.0 ± 4.0" in line]
    assert "| GTGM |" in line and "+3.0 ± 3.5" in line and "53.41 [" in line
    assert "+25.6" in line and "2 / 52" in line and "3 × 1 × 1" in line


def test_every_method_has_a_row_in_the_order_of_the_comparison() -> None:
    results = [run(name, 0.5 + i / 100) for i, name in enumerate(METHODS)]
    table = build_table("MRI", results[::-1])
    rows = rows_of(table, "Task04_Hippocampus", 0.01)
    assert [row["method"] for row in rows] == list(METHODS)
    differences = [row["difference"] for row in rows[1:]]
    assert differences == pytest.approx(list(range(1, len(METHODS))))
    shown = [cells[table.header().index("method")] for cells in table.rows()]
    assert {method.label for method in METHODS.values()} <= set(shown)


def test_reported_methods_that_were_not_run_stand_below_those_that_were() -> None:
    results = [run("random", 0.4, dataset="Task06_Lung"), run("barlow", 0.5, dataset="Task06_Lung")]
    rows = rows_of(build_table("CT", results), "Task06_Lung", 0.01)
    assert [row["method"] for row in rows] == ["random", "barlow", "byol", "pcrlv2", "gtgm"]
    assert [row["source"] for row in rows] == ["real"] * 2 + ["not run"] * 3
    assert rows[0]["gap"] == pytest.approx(40 - 41.67) and math.isnan(rows[1]["reported"])


def test_the_draw_is_the_unit_of_statistics() -> None:
    results = [run("gtgm", v, draw=d, seed=s)
               for d, s, v in [(0, 0, 0.5), (0, 1, 0.7), (1, 0, 0.8), (1, 1, 0.8)]]  # fmt: skip
    row = hippocampus(results)
    assert row["measured"] == pytest.approx(70)
    assert row["measured_sd"] == pytest.approx(statistics.stdev([60, 80]))
    one_draw = [run("gtgm", v, seed=s) for s, v in enumerate([0.5, 0.7])]
    assert hippocampus(one_draw)["measured_sd"] == pytest.approx(statistics.stdev([50, 70]))


def test_draws_of_different_folds_are_not_averaged_first() -> None:
    # Averaged by number, both draws would have 60 and no spread at all.
    cells = [(0, 0, 0.5), (1, 0, 0.7), (0, 1, 0.7), (1, 1, 0.5)]
    results = [run("gtgm", v, draw=d, fold=f) for d, f, v in cells]
    results += [run("random", v - 0.1, draw=d, fold=f) for d, f, v in cells]
    row = hippocampus(results)
    assert row["measured"] == pytest.approx(60)
    assert row["measured_sd"] == pytest.approx(statistics.stdev([50, 70, 70, 50]))
    assert row["difference"] == pytest.approx(10)
    assert row["difference_sd"] == pytest.approx(0, abs=1e-9)
    assert (row["runs"], row["draws"], row["folds"]) == (4, 2, 2)
    assert "| 2 × 1 × 2 |" in build_table("MRI", results).to_markdown()
    assert "| 3 of 2 × 1 × 2 |" in build_table("MRI", results[:3]).to_markdown()


def test_one_draw_in_several_folds_spreads_over_the_folds() -> None:
    results = [run("gtgm", v, fold=f) for f, v in enumerate([0.5, 0.7])]
    assert hippocampus(results)["measured_sd"] == pytest.approx(statistics.stdev([50, 70]))


def test_the_difference_uses_the_runs_that_both_methods_have() -> None:
    results = [run("random", 0.5, draw=0), run("random", 0.9, draw=1), run("random", 0.1, fold=1)]
    results += [run("gtgm", 0.6, draw=0), run("gtgm", 0.7, draw=2)]
    row = hippocampus(results)
    assert row["difference"] == pytest.approx(10) and row["pairs"] == 1
    assert "+10.0 (1 in common)" in build_table("MRI", results).to_markdown()


def test_phantoms_have_their_own_labelled_rows_and_no_gap() -> None:
    results = [run("gtgm", 0.9), run("gtgm", 0.2, source="phantom", id="p"),
               run("random", 0.1, source="phantom", id="q")]  # fmt: skip
    table = build_table("MRI", results)
    real, phantom = (
        {(row["source"], row["method"]): row for row in rows_of(table, "Task04_Hippocampus", 0.01)}[
            source, "gtgm"
        ]
        for source in ("real", "phantom")
    )
    assert real["measured"] == pytest.approx(90) and phantom["measured"] == pytest.approx(20)
    assert math.isnan(phantom["gap"]) and real["gap"] == pytest.approx(90 - 53.41)
    assert math.isnan(real["difference"]) and phantom["difference"] == pytest.approx(10)
    assert table.has_phantoms
    assert table.to_html().count("class='phantom'") == 2
    assert table.to_html().count("<mark>phantom</mark>") == 2
    assert "| phantom |" in table.to_markdown()
    assert any("marked phantom" in note for note in table.notes)
    assert not any("marked phantom" in note for note in build_table("MRI", results[:1]).notes)


def test_protocols_and_backbones_never_share_a_row() -> None:
    results = [run("gtgm", 0.9), run("gtgm", 0.1, protocol="as_released", id="r"),
               run("gtgm", 0.5, backbone="swin", id="s")]  # fmt: skip
    results.append(run("gtgm", 0.3, source="phantom", id="p"))
    frame = build_table("MRI", results[::-1]).frame
    # real before phantom, corrected before as_released
    assert list(frame["measured"].dropna()) == pytest.approx([50, 90, 10, 30])


def test_what_is_as_released_is_beside_the_reported_number_by_the_released_metric() -> None:
    both = {"dice": 0.5, "dice_with_background": 0.66}
    results = [run("gtgm", summary=both, protocol="as_released", id="r"), run("gtgm", summary=both)]
    table = build_table("MRI", results)
    rows = [row for row in rows_of(table, "Task04_Hippocampus", 0.01) if row["method"] == "gtgm"]
    assert [row["measured"] for row in rows] == pytest.approx([50, 50])
    assert [row["gap"] for row in rows] == pytest.approx([50 - 53.41, 66 - 53.41])
    assert any("gap of the protocol as_released is by that metric" in note for note in table.notes)
    (row,) = [r for r in rows_of(build_table("MRI", [run("gtgm", 0.5, protocol="as_released")]),
                                 "Task04_Hippocampus", 0.01) if r["method"] == "gtgm"]  # fmt: skip
    assert math.isnan(row["gap"])


def test_an_older_run_of_the_same_cell_is_named_not_averaged() -> None:
    results = [run("gtgm", 0.1, id="old", started="2024-01-01T00:00:00"),
               run("gtgm", 0.9, id="new", started="2025-01-01T00:00:00")]  # fmt: skip
    table = build_table("MRI", results)
    row = row_of(table, "Task04_Hippocampus", 0.01, "gtgm")
    assert row["measured"] == pytest.approx(90) and row["runs"] == 1
    assert any("left out: old" in note for note in table.footnotes())


def test_looking_does_not_count() -> None:
    assert math.isnan(hippocampus([run("gtgm", 0.9, profile="tiny")])["measured"])


def test_what_the_source_lacks_is_told_from_what_it_could_not_have() -> None:
    results = [run(name, 0.5, dataset="Task10_Colon") for name in ("random", "simsiam", "gtgm")]
    table = build_table("CT", results)
    reported = table.header().index("reported")
    shown = {
        cells[table.header().index("method")]: cells[reported]
        for cells in table.rows()
        if cells[:2] == ["MSD Colon", "1 %"]
    }
    labels = {name: METHODS[name].label for name in ("random", "simsiam", "gtgm")}
    assert shown == {
        labels["random"]: "not reported", labels["simsiam"]: "–", labels["gtgm"]: "not reported"
    }  # fmt: skip


def test_notes_of_reported_cells_are_footnotes_of_those_cells() -> None:
    table = build_table("CT", [])
    reported = table.header().index("reported")
    cells = {(row[0], row[1], row[2]): row[reported] for row in table.rows()}
    footnotes = table.footnotes()
    gtgm = METHODS["gtgm"].label

    def notes_of(cell: str) -> list[str]:
        marks = re.findall(r"\[(\d+)\]", cell)
        return [next(n for n in footnotes if n.startswith(f"[{mark}]")) for mark in marks]

    liver = notes_of(cells["MSD Liver", "100 %", gtgm])
    assert any("stands in two columns of the source" in note for note in liver)
    assert any("MSD Liver and MSD Pancreas have the same" in note for note in liver)
    assert liver == notes_of(cells["MSD Pancreas", "100 %", gtgm])
    (lung,) = notes_of(cells["MSD Lung", "1 %", gtgm])
    assert "cannot come from the released code" in lung and "63 cases" in lung
    assert notes_of(cells["MSD Liver", "1 %", gtgm]) == []
    assert any("assumed" in note for note in build_table("MRI", []).footnotes())


def test_methods_of_the_source_without_a_row_are_named() -> None:
    reported = load_reported()
    (note,) = [n for n in build_table("CT", []).notes if n.startswith("Reported numbers")]
    assert set(reported["source"]) == {note.partition(": ")[2].partition(". It")[0]}
    assert "also reports GTGM+," in note


def test_text_of_ones_own_is_said_for_the_modality_that_it_is_of() -> None:
    text = run("gtgm", stage="text", dataset=["Task02_Heart", "Task04_Hippocampus"])
    made = dataclasses.replace(text, settings={"captioner": "embedded"})
    blip = dataclasses.replace(text, settings={"captioner": "Salesforce/blip"})

    def said(modality: str, result: Result) -> bool:
        notes = build_table(modality, [result]).notes
        return any("rows with the settings cpu is this project's own" in note for note in notes)

    assert said("MRI", made) and not said("CT", made) and not said("MRI", blip)


def neurons(method: str, dataset: str, **scores: dict[str, float]) -> Result:
    """A run of neuron segmentation: scores by post-processing, the run's own first."""
    return run(
        method,
        dataset=dataset,
        stage="neurons",
        fraction=0.75,
        n_train=93,
        n_test=25,
        summary=next(iter(scores.values())),
        metrics=[
            {"case": dataset, "class": name, "metric": metric, "value": value}
            for name, values in scores.items()
            for metric, value in values.items()
        ],
    )


def test_em_has_a_row_for_each_post_processing_and_datasets_beyond_the_paper() -> None:
    worse = {"voi_sum": 1.0, "arand": 0.3, "voi_sum_border_masked": 0.9}
    better = {"voi_sum": 0.6, "arand": 0.2, "voi_sum_border_masked": 0.5}
    results = [
        neurons("random", "CREMI_A", waterz=worse, multicut=better),
        neurons("gtgm", "CREMI_A", waterz=better, multicut=better),
        neurons("gtgm", "FIB25", waterz={"voi_sum": 1.5}),
    ]
    table = build_table("EM", results)
    rows = rows_of(table, "CREMI_A", 0.75)
    assert [(row["post"], row["method"]) for row in rows] == [
        ("waterz", "random"), ("waterz", "gtgm"), ("multicut", "random"), ("multicut", "gtgm"),
    ]  # fmt: skip
    random, waterz, _, multicut = rows
    assert random["measured"] == pytest.approx(1.0) and waterz["difference"] == pytest.approx(-0.4)
    assert multicut["measured"] == pytest.approx(0.6)
    assert multicut["difference"] == pytest.approx(0)
    assert waterz["gap"] == pytest.approx(0.6 - 0.709)
    assert (random["arand"], random["border_masked"]) == (0.3, 0.9)
    markdown = table.to_markdown()
    assert "| 0.500 | 0.200 |" in markdown and "−0.400" in markdown
    assert row_of(table, "FIB25", 0.75, "gtgm")["measured"] == 1.5
    assert "FIB25" not in set(build_table("EM", []).frame["dataset"])


def published(**scores: tuple[float, float, float, float]) -> Result:
    """A published segmentation with VOI, ARAND, and both with border mask, by way of scoring."""
    names = ("voi_sum", "arand", "voi_sum_border_masked", "arand_border_masked")
    return run(
        "published",
        dataset="FIB25",
        stage="neurons",
        settings={"name": "FFN", "remark": "Trained elsewhere.", "sections": [140, 170]},
        metrics=[{"case": "FIB25", "class": way.replace("_", " "), "metric": metric, "value": value}
                 for way, values in scores.items()
                 for metric, value in zip(names, values, strict=True)],
    )  # fmt: skip


def test_a_published_segmentation_stands_below_the_table_by_every_metric() -> None:
    theirs = published(as_it_is=(1.28, 0.07, 0.47, 0.03), nearest_segment=(1.2, 0.06, 0.39, 0.02))
    ours = {"voi_sum": 1.1, "arand": 0.14, "voi_sum_border_masked": 0.42,
            "arand_border_masked": 0.03}  # fmt: skip
    worse = {metric: value + 1 for metric, value in ours.items()}
    results = [neurons("random", "FIB25", waterz=ours, multicut=worse), theirs]
    table = build_table("EM", results)
    (note,) = (n for n in table.notes if n.startswith("FFN"))
    assert "140–169 of FIB-25, lower is better: as it is: VOI 1.280, ARAND 0.070, " in note
    assert "border-masked VOI 0.390, border-masked ARAND 0.020. " in note
    for told in ("1.100 in VOI, better than 1.280 and 1.200",
                 "0.140 in ARAND, worse than 0.070 and 0.060",
                 "0.420 in border-masked VOI, between 0.470 and 0.390",
                 "0.030 in border-masked ARAND, equal to one of 0.030 and 0.020"):  # fmt: skip
        assert told in note
    assert note.endswith("Trained elsewhere.") and note in readme_table(results)
    markdown = table.to_markdown()
    assert "| 0.420 | 0.140 | 0.030 |" in markdown and "| border-masked ARAND |" in markdown
    (alone,) = (n for n in build_table("EM", [theirs]).notes if n.startswith("FFN"))
    assert "lowest value" not in alone


def test_the_readme_says_of_the_published_neurons_what_each_metric_says() -> None:
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    said = re.search(r"By plain VOI those of 100 % are .*? that one is better than ours", text)
    assert said and "adapted Rand and with CREMI's border mask" in said.group()
    for name, place in (("VOI", "better"), ("ARAND", "worse"), ("border-masked VOI", "worse"),
                        ("border-masked ARAND", "worse")):  # fmt: skip
        assert re.search(rf"\d in {name}, {place} than", text)


def test_em_rows_say_how_much_only_pretraining_reads() -> None:
    notes = build_table("EM", [neurons("gtgm", "CREMI_A", waterz={"voi_sum": 1.5})]).notes
    (note,) = (n for n in notes if n.startswith("Sections that pretraining reads"))
    assert "CREMI A: 81 at 10 % and 0 at 75 %" in note and "a null is by construction" in note
    only_random = [neurons("random", "FIB25", waterz={"voi_sum": 1.5})]
    assert "Sections that pretraining reads" not in readme_table(only_random)


def test_html_is_balanced_and_escaped() -> None:
    table = build_table("MRI", [run("gtgm", 0.9, command="x < y && <script>")])

    class Balance(html.parser.HTMLParser):
        open: list[str] = []

        def handle_starttag(self, tag, attrs):
            self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    parser = Balance()
    parser.feed(table.to_html())
    assert parser.open == [] and "<script>" not in table.to_html()
    assert table.to_html().count("<tr") == 1 + len(table.frame)


def test_every_markdown_row_has_every_column() -> None:
    table = build_table("MRI", [run("gtgm", 0.9, command="a | b")])
    lines = [line for line in table.to_markdown().splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in lines} == {len(table.header()) + 1}


def test_csv_has_the_plain_values_of_every_row() -> None:
    table = build_table("MRI", [run("gtgm", 0.8765), run("random", 0.9, draw=1)])
    read = pd.read_csv(io.StringIO(table.to_csv()))
    assert list(read.columns) == list(table.frame.columns) and len(read) == len(table.frame)
    measured = read.set_index("method")["measured"].dropna()
    assert measured["gtgm"] == pytest.approx(87.65) and measured["random"] == pytest.approx(90)
    assert read.loc[read["method"] == "gtgm", "ids"].str.len().max() > 0


def test_latex_is_complete_escaped_and_free_of_characters_it_does_not_know() -> None:
    table = build_table("MRI", [run("random", 0.9), run("gtgm", 0.8), run("gtgm", 0.7, draw=1)])
    text = table.to_latex()
    body = text.split("endlastfoot")[1].split("\\end{longtable}")[0]
    assert body.count("\\\\") == len(table.frame)
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    assert not set("−±×≤") & set("".join(lines)) and "$\\pm$" in text and "1 \\%" in text
    assert "gtgm reproduce" not in text and table.footnotes()[0] in text


def test_a_table_is_written_in_three_formats(tmp_path: Path) -> None:
    table = build_table("EM", [])
    files = table.write(tmp_path / "new" / "v1.2")
    assert [f.name for f in files] == ["v1.2.md", "v1.2.csv", "v1.2.tex"]
    assert files[0].read_text(encoding="utf-8").startswith("| dataset |")


def test_the_readme_table_shows_real_rows_only() -> None:
    results = [run("gtgm", 0.9), run("gtgm", 0.2, source="phantom", dataset="Task02_Heart")]
    text = readme_table(results)
    assert "MSD Hippocampus" in text and "Heart" not in text
    assert "not run" not in text and "phantom" not in text
    assert readme_table([]).startswith("Nothing has been measured")


def test_the_readme_table_leaves_out_runs_with_one_choice_changed() -> None:
    changed = {"changes": {"finetune": {"sigmoid_output": True}}}
    others = [
        run("gtgm", 0.1, settings=changed, id="changed"),
        run("gtgm", 0.2, protocol="as_released", id="released"),
    ]
    assert readme_table([run("gtgm", 0.9), *others]) == readme_table([run("gtgm", 0.9)])
    longer = {"changes": {"neurons": {"steps": 2000}}}
    assert "FIB-25" in readme_table(
        [neurons("random", "FIB25", waterz={"voi_sum": 1.5}, settings=longer)]
    )


def test_the_readme_table_says_once_what_all_rows_share() -> None:
    def header(results: list[Result]) -> tuple[str, str]:
        lines = readme_table(results).splitlines()
        return lines[0], next(line for line in lines if line.startswith("| dataset"))

    same = [run("random", 0.8), run("gtgm", 0.9)]
    title, columns = header(same)
    assert title.endswith("(real data; corrected, unet, cpu)**")
    assert "setting" not in columns and "data |" not in columns and "command" not in columns
    assert "gtgm reproduce" not in readme_table(same)
    title, columns = header([*same, run("gtgm", 0.1, profile="paper", id="r")])
    assert title.endswith("(real data)**") and "| setting |" in columns
    neuron = neurons("gtgm", "FIB25", waterz={"voi_sum": 1.5})
    title, columns = header([neuron])
    assert title.endswith("; not reported)**") and "reported" not in columns
    assert "gap" not in columns and "| post-processing | method |" in columns


def test_the_readme_has_reference_systems_on_its_datasets_in_a_collapsed_block() -> None:
    text = readme_table([run("gtgm", 0.9)])
    block = text.split("<details>\n<summary>")[1]
    assert block.startswith(f"{HEADING}</summary>\n\n|") and "\n\n</details>" in block
    rows = [line for line in block.splitlines() if line.startswith("| MSD")]
    assert rows and all("MSD Hippocampus" in row for row in rows)
    assert HEADING not in readme_table([neurons("gtgm", "FIB25", waterz={"voi_sum": 1.5})])


def test_update_readme_changes_only_what_is_between_the_markers(tmp_path: Path) -> None:
    readme, measured = tmp_path / "README.md", tmp_path / "measured"
    readme.write_text(f"# Top\n{BEGIN}\noutdated\n{END}\nbottom\n")
    paths.write_json(measured / "a.json", run("gtgm", 0.9).to_dict())
    assert update_readme(readme, measured) and not update_readme(readme, measured)
    text = readme.read_text()
    assert text.startswith(f"# Top\n{BEGIN}\n**MRI") and text.endswith(f"{END}\nbottom\n")
    assert "outdated" not in text
    readme.write_text("no markers")
    with pytest.raises(ResultError, match="markers"):
        update_readme(readme, measured)


def test_the_readme_of_this_project_is_in_step_with_the_published_results() -> None:
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.split(BEGIN)[1].split(END)[0].strip()
    assert shown == readme_table(load_results([paths.MEASURED])), "run gtgm.tables.update_readme()"


def test_bad_requests_are_refused() -> None:
    with pytest.raises(SettingsError, match="unknown modality"):
        build_table("PET", [])
    with pytest.raises(SettingsError, match="unknown method 'gtgm2'"):
        build_table("MRI", [run("gtgm2", 0.5)])


def test_runs_with_changed_settings_have_rows_of_their_own():
    changed = {"changes": {"finetune": {"steps": 50}}}
    results = [run("gtgm", 0.8), run("gtgm", 0.7, id="short", settings=changed)]
    rows = [
        row
        for row in rows_of(build_table("MRI", results), "Task04_Hippocampus", 0.01)
        if row["method"] == "gtgm"
    ]
    assert {(row["measured"], row["setting"]) for row in rows} == {
        (80.0, "corrected, unet, cpu"),
        (70.0, "corrected, unet, cpu, finetune.steps=50"),
    }
