"""Tables: grouping, statistics, reported numbers, footnotes, the README."""

from __future__ import annotations

import html.parser
import math
import statistics
from pathlib import Path

import pytest

from gtgm import paths
from gtgm.errors import ResultError, SettingsError
from gtgm.results import Result, load_results
from gtgm.tables import BEGIN, END, build_table, load_reported, readme_table, update_readme


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


def row_of(table, dataset: str, fraction: float) -> dict:
    rows = table.frame[(table.frame["dataset"] == dataset) & (table.frame["fraction"] == fraction)]
    assert len(rows) == 1
    return rows.iloc[0].to_dict()


@pytest.mark.parametrize(
    ("modality", "blocks", "rows"), [("CT", 6, 18), ("MRI", 4, 12), ("EM", 3, 6)]
)
def test_every_dataset_of_the_paper_has_its_rows_without_any_result(modality, blocks, rows) -> None:
    table = build_table(modality, [])
    assert len(table.frame) == rows and table.frame["dataset"].nunique() == blocks
    assert set(table.frame["source"]) == {"not run"} and not table.has_phantoms


def test_the_thirteen_reported_columns_are_complete() -> None:
    reported = load_reported()
    titles = {t for m in ("CT", "MRI", "EM") for t in build_table(m, []).frame["title"]}
    assert set(reported["dataset"]) - {"all"} <= titles and len(titles) == 13


def test_means_spread_gain_and_gap_against_hand_computed_values() -> None:
    random, gtgm = [0.70, 0.80, 0.78], [0.75, 0.79, 0.83]
    results = [run("random", v, draw=d) for d, v in enumerate(random)]
    results += [run("gtgm", v, draw=d) for d, v in enumerate(gtgm)]
    row = row_of(build_table("MRI", results), "Task04_Hippocampus", 0.01)
    assert row["random"] == pytest.approx(76) and row["gtgm"] == pytest.approx(79)
    assert row["random_sd"] == pytest.approx(100 * statistics.stdev(random))
    assert row["gain"] == pytest.approx(3)
    assert row["gain_sd"] == pytest.approx(statistics.stdev([5, -1, 5]))
    assert row["reported_gtgm"] == 53.41 and row["gap"] == pytest.approx(79 - 53.41)
    assert (row["draws"], row["seeds"], row["folds"]) == (3, 1, 1)
    shown = build_table("MRI", results).to_markdown()
    assert "79.0 ± 4.0" in shown and "+25.6" in shown and "2 / 52" in shown


def test_the_draw_is_the_unit_of_statistics() -> None:
    results = [run("gtgm", v, draw=d, seed=s)
               for d, s, v in [(0, 0, 0.5), (0, 1, 0.7), (1, 0, 0.8), (1, 1, 0.8)]]  # fmt: skip
    row = row_of(build_table("MRI", results), "Task04_Hippocampus", 0.01)
    assert row["gtgm"] == pytest.approx(70)
    assert row["gtgm_sd"] == pytest.approx(statistics.stdev([60, 80]))
    one_draw = [run("gtgm", v, seed=s) for s, v in enumerate([0.5, 0.7])]
    row = row_of(build_table("MRI", one_draw), "Task04_Hippocampus", 0.01)
    assert row["gtgm_sd"] == pytest.approx(statistics.stdev([50, 70]))


def test_gain_uses_the_draws_that_both_methods_have() -> None:
    results = [run("random", 0.5, draw=0), run("random", 0.9, draw=1), run("gtgm", 0.6, draw=0)]
    assert row_of(build_table("MRI", results), "Task04_Hippocampus", 0.01)["gain"] == pytest.approx(
        10
    )


def test_phantoms_have_their_own_labelled_rows_and_no_gap() -> None:
    results = [run("gtgm", 0.9), run("gtgm", 0.2, source="phantom", id="p")]
    table = build_table("MRI", results)
    rows = table.frame[
        (table.frame["dataset"] == "Task04_Hippocampus") & (table.frame["fraction"] == 0.01)
    ]
    by_source = rows.set_index("source")
    assert by_source.loc["real", "gtgm"] == pytest.approx(90)
    assert by_source.loc["phantom", "gtgm"] == pytest.approx(20)
    assert math.isnan(by_source.loc["phantom", "gap"]) and not math.isnan(
        by_source.loc["real", "gap"]
    )
    assert table.has_phantoms
    assert table.to_html().count("class='phantom'") == 1
    assert "| phantom |" in table.to_markdown()


def test_protocols_and_backbones_never_share_a_row() -> None:
    results = [run("gtgm", 0.9), run("gtgm", 0.1, protocol="as_released", id="r"),
               run("gtgm", 0.5, backbone="swin", id="s")]  # fmt: skip
    frame = build_table("MRI", results).frame
    assert sorted(frame["gtgm"].dropna()) == pytest.approx([10, 50, 90])


def test_an_older_run_of_the_same_cell_is_named_not_averaged() -> None:
    results = [run("gtgm", 0.1, id="old", started="2024-01-01T00:00:00"),
               run("gtgm", 0.9, id="new", started="2025-01-01T00:00:00")]  # fmt: skip
    table = build_table("MRI", results)
    assert row_of(table, "Task04_Hippocampus", 0.01)["gtgm"] == pytest.approx(90)
    assert any("left out: old" in note for note in table.footnotes())


def test_datasets_without_reported_numbers_say_so() -> None:
    lines = build_table("CT", []).to_markdown().splitlines()
    colon = lines[next(i for i, line in enumerate(lines) if "MSD Colon" in line)]
    assert colon.count("not reported") == 2
    liver = next(line for line in lines if line.startswith("| MSD Liver"))
    assert "45.21" in liver and "52.46" in liver


def test_equal_reported_values_are_found_in_the_data() -> None:
    reported = load_reported()
    note = "MSD Liver and MSD Pancreas have the same reported value at 100% of the labels, 65.61"
    assert sum(note in n for n in build_table("CT", [], reported).footnotes()) == 1
    cells = (reported["dataset"] == "MSD Pancreas") & (reported["method"] == "GTGM")
    changed = reported.copy()
    changed.loc[cells & (changed["fraction"] == 1), "value"] = 65.0
    assert not any("same reported value" in n for n in build_table("CT", [], changed).footnotes())


def test_the_claimed_average_is_checked_against_the_cells() -> None:
    reported = load_reported()
    (note,) = [n for n in build_table("CT", [], reported).footnotes() if "claims" in n]
    gtgm = reported[(reported["modality"] == "CT") & (reported["method"] == "GTGM")]["value"]
    plus = reported[(reported["modality"] == "CT") & (reported["method"] == "GTGM+")]
    plus = plus[plus["dataset"] != "all"]["value"]
    assert (
        f"GTGM by {plus.mean() - gtgm.mean():.2f} points" in note and "none of these is it" in note
    )


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
    rows = table.frame[(table.frame["dataset"] == "CREMI_A") & (table.frame["fraction"] == 0.75)]
    assert list(rows["post"]) == ["waterz", "multicut"]
    waterz, multicut = rows.to_dict("records")
    assert waterz["random"] == pytest.approx(1.0) and waterz["gain"] == pytest.approx(-0.4)
    assert multicut["random"] == pytest.approx(0.6) and multicut["gain"] == pytest.approx(0)
    assert waterz["gap"] == pytest.approx(0.6 - 0.709)
    markdown = table.to_markdown()
    assert "0.300 / 0.200" in markdown and "0.900 / 0.500" in markdown and "−0.400" in markdown
    assert row_of(table, "FIB25", 0.75)["gtgm"] == 1.5
    assert "FIB25" not in set(build_table("EM", []).frame["dataset"])


def test_a_published_segmentation_stands_below_the_table() -> None:
    published = run(
        "published",
        dataset="FIB25",
        stage="neurons",
        settings={"name": "FFN", "remark": "Trained elsewhere.", "sections": [140, 170]},
        metrics=[{"case": "FIB25", "class": "as it is", "metric": "voi_sum", "value": 1.2821}],
    )
    notes = build_table("EM", [published]).notes
    (note,) = (n for n in notes if n.startswith("FFN"))
    assert "140–169 of FIB-25: as it is: 1.28. Trained elsewhere." in note


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


def test_the_readme_table_shows_real_rows_only(tmp_path: Path) -> None:
    results = [run("gtgm", 0.9), run("gtgm", 0.2, source="phantom", dataset="Task02_Heart")]
    text = readme_table(results)
    assert "MSD Hippocampus" in text and "Heart" not in text and "gtgm reproduce" in text
    assert "not run" not in text
    assert readme_table([]).startswith("Nothing has been measured")


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


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unknown modality"):
        build_table("PET", [])
    with pytest.raises(ResultError, match="no reported numbers"):
        load_reported(tmp_path / "absent.csv")
    (tmp_path / "short.csv").write_text("method,value\nGTGM,1\n")
    with pytest.raises(ResultError, match="lacks the columns"):
        load_reported(tmp_path / "short.csv")
