"""The page of findings: verdicts follow from the numbers, and nothing is invented."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from study_results import DATASET, draws, run, study

from gtgm import paths, words
from gtgm.errors import ResultError
from gtgm.findings import findings_page, write_findings
from gtgm.findings.answers import QUESTIONS, best_pretraining
from gtgm.findings.neurons import neuron_lines
from gtgm.findings.nnunet import load_nnunet, nnunet_lines
from gtgm.findings.withdrawn import SINCE, WITHDRAWN
from gtgm.methods import METHODS
from gtgm.reported import load_reported
from gtgm.results import load_results
from gtgm.statistics import Comparison, compare_all, correct, paired

REPORTED = load_reported()


def page(results) -> str:
    return findings_page(list(results), REPORTED)


def section(text: str, title: str) -> str:
    return re.split(r"^## ", text.split(f"## {title}\n", 1)[1], flags=re.M)[0]


def answer(text: str, question: str) -> str:
    """Verdict on a question."""
    return re.search(rf"\*\*{re.escape(question)} (.*?)\.\*\*", text).group(1)


def test_the_best_pretraining_is_chosen_on_fold_0_alone() -> None:
    results = [*draws("random", [0.9] * 2), *draws("byol", [0.7, 0.8]), *draws("gtgm", [0.74, 0.8])]
    lure = draws("byol", [0.95] * 5, fold=1) + draws("byol", [0.95], fraction=0.1)
    assert best_pretraining(results + lure) == "gtgm"
    assert best_pretraining(lure) is None
    ties = draws("gtgm", [0.8]) + draws("byol", [0.8])
    assert best_pretraining(ties) == "byol"  # the first in the order of tables


def test_clear_gains_are_shown_and_targets_met() -> None:
    text = page(study(gain=3))
    assert answer(text, "Does pretraining help at all?") == "Shown"
    assert answer(text, "Does L_VR help?") == "Shown"
    assert answer(text, "Does GTGM beat a strong method without text?") == "The opposite is shown"
    assert "PCRLv2 has the highest mean on fold 0" in text
    targets = section(text, "Targets")
    assert targets.count("| yes |") == 5 and "**no**" not in targets


def test_without_gains_nothing_is_shown_and_targets_are_missed() -> None:
    text = page(study(gain=0))
    assert answer(text, "Does pretraining help at all?") == "Not shown"
    verdicts = {answer(text, question) for question, *_ in QUESTIONS}
    assert verdicts == {"Not shown"}
    low = [run(r.method, r.summary["dice"] - 0.1, fold=r.fold, draw=r.draw, fraction=r.fraction,
               n_train=r.n_train) for r in study(gain=0)]  # fmt: skip
    assert section(page(low), "Targets").count("**no**") == 5


def test_every_number_of_the_main_table_is_that_of_the_statistics() -> None:
    results = study()
    text = section(page(results), "All methods with 1 % of the labels")
    rows = {cells[0]: cells for line in text.splitlines() if line.startswith("| ")
            if (cells := [c.strip() for c in line.strip("|").split("|")])}  # fmt: skip
    overall = compare_all(results, DATASET, 0.01)
    for c in overall:
        cells = rows[METHODS[c.method].label]
        folds = [paired(results, c.method, dataset=DATASET, fraction=0.01, fold=f) for f in (0, 1)]
        assert [cells[2], cells[4], cells[5]] == [words.difference(x) for x in (*folds, c)]
        assert cells[1].startswith(f"{100 * folds[0].mean_method:.1f} ± ")
        assert cells[3].startswith(f"{100 * folds[1].mean_method:.1f} ± ")
        assert cells[6:] == [words.p_value(c.p_corrected), words.signed(c.effect)]
    assert "Not measured: GTGM, BLIP and BioBERT." in text


def test_questions_are_corrected_as_one_family() -> None:
    results = study()
    family = correct(
        [paired(results, m, o, dataset=DATASET, fraction=0.01) for _, m, o, _ in QUESTIONS]
    )
    text = section(page(results), "In short")
    for (question, *_), found in zip(QUESTIONS, family, strict=True):
        line = next(line for line in text.splitlines() if question in line)
        assert line.endswith(f"p = {words.p_value(found.p_corrected)}.")
    assert f"corrected for the {len(QUESTIONS)} questions" in text


def test_one_fold_confirms_nothing_and_leaves_targets_open() -> None:
    text = page(study(gain=3, folds=(0,)))
    assert answer(text, "Does pretraining help at all?") == "Not confirmed: one fold only"
    assert answer(text, "Does text help?") == "Not confirmed: one fold only"
    assert section(text, "Targets").count("open") == 5


def test_what_is_missing_is_said_to_be_missing() -> None:
    text = page([])
    verdicts = {answer(text, question) for question, *_ in QUESTIONS}
    assert verdicts == {"Not measured", "Withdrawn, not yet run again"}
    for title in ("All methods with 1 % of the labels", "More labels", "Labels saved",
                  "One choice at a time", "Neurons"):  # fmt: skip
        assert section(text, title).strip().startswith("Not measured")
    assert "nan" not in text.lower() and "None" not in text and "figures/" not in text


def test_what_was_withdrawn_is_missing_until_it_is_run_again() -> None:
    old = [r for r in load_results([paths.MEASURED]) if r.method in WITHDRAWN]
    assert not [r.id for r in old if (r.started or "") < SINCE]
    question = "Must the text differ between patches?"
    without = [r for r in study() if r.method not in WITHDRAWN]
    text = page(without)
    assert answer(text, question) == "Withdrawn, not yet run again"
    labels = "; ".join(METHODS[name].label for name in WITHDRAWN)
    assert f"Withdrawn, not yet run again: {labels}." in text
    assert "Run again since: none." in section(text, "Withdrawn")
    again = page(without + draws("gtgm-none", [0.8] * 5, started="2026-12-01T10:00:00+00:00"))
    assert "Run again since: gtgm-none." in section(again, "Withdrawn")
    assert answer(again, question) == "Not confirmed: one fold only"


def test_beside_a_null_stands_which_gains_are_excluded() -> None:
    results = study(gain=0)
    found = {c.method: c for c in compare_all(results, DATASET, 0.01)}
    text = section(page(results), "In short")
    most = max(found.values(), key=lambda c: c.high)
    assert f"gains above {words.excluded_above(found['gtgm'])} points for GTGM (10 pairs)" in text
    assert f"above {words.excluded_above(most)} points for every method" in text
    assert f"({METHODS[most.method].label} has the highest end)" in text
    assert "What is excluded" not in page(draws("random", [0.8]) + draws("gtgm", [0.8]))


def test_a_changed_choice_is_compared_with_the_same_draws_without_it() -> None:
    changes = {"finetune": {"released_window": True}}
    changed = draws("gtgm", [0.70, 0.74, 0.66], settings={"changes": changes})
    results = [*draws("gtgm", [0.80, 0.82, 0.78]), *changed]
    text = section(page(results), "One choice at a time")
    expected = words.difference(
        Comparison(
            "", "", ((0, 0), (0, 1), (0, 2)), ((0.80, 0.70), (0.82, 0.74), (0.78, 0.66)), 0, None
        )
    )
    assert (
        f"| row 3: CT window for every modality | default | 3 | 80.00 | 70.00 | {expected} |"
        in text
    )
    assert "on CT nothing changes" in text and "1 of 1 intervals leave out zero" in text
    assert "row 2" not in text and "choices-Task04_Hippocampus.png" in text


def test_more_labels_say_where_the_pairs_are_too_few() -> None:
    text = section(page(study()), "More labels")
    assert "8 of these 8 comparisons **cannot be decided: too few pairs**" in text
    assert "0.5 with 2 pairs" in text
    many = [run(m, 0.8 + 0.001 * draw * (m == "gtgm"), draw=draw, fraction=0.1)
            for m in ("random", "gtgm") for draw in range(8)]  # fmt: skip
    assert "cannot be decided" not in section(page(many), "More labels")


def test_the_reported_gain_is_recomputed_from_the_reported_numbers() -> None:
    cells = REPORTED[(REPORTED["modality"] == "CT") & (REPORTED["fraction"] == 0.01)]
    means = cells.groupby("method")["value"].mean()
    text = section(page(study()), "Beside the paper's claim")
    assert f"{means['GTGM'] - means['Random Init']:+.2f} points at 1 %" in text
    assert "no random initialisation is reported" in text
    assert "lies below it at 1 %, below it at 10 % and" in text
    assert "The baseline here is above the reported method" in text
    weak = page(draws("random", [0.3, 0.4]) + draws("gtgm", [0.5, 0.61]))
    assert "is not above the reported method" in section(weak, "Beside the paper's claim")


def test_the_released_protocol_stands_beside_the_reported_number() -> None:
    results, title = study(), "Beside the paper's claim"
    assert "as_released" not in section(findings_page(results, REPORTED), title)
    settings = {"steps": 700, "batch": 2, "lr": 0.005, "schedule": "constant"}
    released = [
        run("gtgm", dice, draw=draw, protocol="as_released", settings=settings,
            summary={"dice": dice, "dice_with_background": dice + 0.16})
        for draw, dice in enumerate((0.50, 0.62, 0.50))
    ]  # fmt: skip
    longer = {"changes": {"pretrain": {"steps": 9}}}
    encoder = run("gtgm", None, stage="pretrain", protocol="as_released", fraction=None,
                  settings={**settings, "steps": 350})  # fmt: skip
    other = replace(encoder, settings={**settings, **longer})
    text = section(findings_page([*results, *released, other, encoder], REPORTED), title)
    assert "reaches 70.0 % here with 1 % of the labels (66.0, 66.0 and 78.0 by draw)" in text
    assert "averages the background in; reported are 53.4 %" in text and "54.0" not in text
    assert "rows 2, 3, 5, 6, 7, 10 and 14 of" in text
    assert "pretrained for 350 steps of 2 patches" in text
    assert "fine-tuned for 700 steps of 2 patches at the learning rate 0.005 (constant)" in text


def test_the_baseline_stands_beside_the_reported_number_by_both_ways_to_count() -> None:
    results = [run("random", 0.81, summary={"dice": 0.81, "dice_with_background": 0.87})]
    text = section(page(results), "Beside the paper's claim")
    assert "+27.6 points at 1 % (by the foreground mean)" in text
    assert "+33.6 points at 1 % (by the released code's metric" in text


def nnunet(dice: float, seconds: float, **changes) -> dict:
    return {
        "dataset": DATASET, "source": "real", "fraction": 0.01, "fold": 0, "draw": 0, "seed": 0,
        "n_train": 2, "summary": {"dice": dice}, "steps": 64, "own_steps": 250000,
        "used": {"train": {"seconds": seconds}}, "versions": {"nnunetv2": "2.8.1"},
        "device": "cpu", "threads": 1,
    } | changes  # fmt: skip


def test_nnunet_stands_beside_the_run_of_the_same_cases(tmp_path) -> None:
    for name, report in (
        ("nnunet_long", nnunet(0.5, 1800)),
        ("nnunet_short", nnunet(0.0, 180)),
        ("nnunet_other", nnunet(0.9, 60, draw=77)),
        ("nnunet_phantom", nnunet(0.9, 60, source="phantom")),
        ("em_blockwise", {"something": "else"}),
    ):
        paths.write_json(tmp_path / f"{name}.json", report)
    reports = load_nnunet(tmp_path)
    assert [r["used"]["train"]["seconds"] for r in reports] == [60, 60, 180, 1800]
    lines = "\n".join(nnunet_lines(draws("random", (0.80, 0.9), wall_seconds=120.0), reports))
    rows = [line for line in lines.splitlines() if line.startswith("| 1 %")]
    assert len(rows) == 3 and "draw 77" in rows[0] and rows[0].endswith("| – | – |")
    assert "[3.0](benchmarks/nnunet_short.json)" in rows[1]
    assert rows[1].endswith("| 0.0 | 2.0 | 80.0 |") and rows[2].endswith("| 50.0 | 2.0 | 80.0 |")
    assert "not measured" in nnunet_lines([], [])[0].lower()
    (tmp_path / "nnunet_cut.json").write_text('{"summary": {}}')
    with pytest.raises(ResultError, match="nnunet_cut.json: cannot be read"):
        load_nnunet(tmp_path)


def neurons(method: str, draw: int, waterz: float, multicut: float):
    metrics = [{"case": "FIB25", "class": name, "metric": "voi_sum", "value": value}
               for name, value in (("waterz", waterz), ("multicut", multicut))]  # fmt: skip
    return run(method, None, stage="neurons", dataset="FIB25", draw=draw, fraction=0.1,
               metrics=metrics)  # fmt: skip


def test_neurons_are_compared_per_post_processing_and_lower_is_better() -> None:
    values = [(1.9, 1.8, 1.5, 1.6), (1.8, 1.7, 1.6, 1.5), (2.0, 1.8, 1.4, 1.7)]
    results = []
    for draw, (a, b, c, d) in enumerate(values):
        results += [neurons("random", draw, a, c), neurons("gtgm", draw, b, d)]
    text = "\n".join(neuron_lines(results))
    assert "| FIB-25 | 10 % | waterz | 3 | 1.900 | 1.767 | −0.133 [−0.277, +0.010] | 0.5 | " in text
    assert "lower in 1 of 2 comparisons" in text and "0.25 with 3 pairs" in text
    assert text.count("cannot be decided: too few pairs |") == 2
    assert "FIB-25: 108 at 10 %" in text
    published = run("published", None, stage="neurons", dataset="FIB25", fraction=None)
    assert neuron_lines([*results, published]) == neuron_lines(results)


@pytest.mark.parametrize(("sign", "expected"), [(1, "shown"), (-1, "the opposite is shown")])
def test_many_clear_repetitions_of_neurons_are_shown(sign, expected) -> None:
    results = [
        neurons(method, draw, 1.5 + 0.01 * draw - sign * gain, 1.4)
        for draw in range(10)
        for method, gain in (("random", 0), ("gtgm", 0.2 + 0.001 * draw))
    ]
    rows = [line for line in "\n".join(neuron_lines(results)).splitlines() if "| 10 |" in line]
    assert [row.rpartition(" | ")[2] for row in rows] == [f"{expected} |", "not shown |"]


def test_different_settings_and_uncommitted_code_are_named() -> None:
    odd = run("gtgm", 0.8, settings={"steps": 900}, commit="fedcba9876543210-dirty")
    text = section(page([run("random", 0.8, settings={"steps": 600}), odd]), "What was run")
    assert "not the same for all: steps" in text and "`fedcba9876` with changes" in text
    assert "the same for all runs" in page(study())


def test_the_order_of_results_does_not_matter_and_the_file_is_the_page(tmp_path: Path) -> None:
    results = study()
    shuffled = random.Random(0).sample(results, len(results))
    text = write_findings(shuffled, REPORTED, tmp_path / "README.md").read_text(encoding="utf-8")
    assert text == page(results) and text.endswith("\n")


def test_tables_have_as_many_cells_in_every_row() -> None:
    for lines in re.findall(r"(?:^\|.*\n)+", page(study()), flags=re.M):
        assert len({line.count("|") for line in lines.splitlines()}) == 1


@pytest.mark.parametrize("page", ["README.md", "docs/*.md", "notebooks/*.ipynb", "results/*.md"])
def test_withdrawn_sentences_stand_nowhere_else(page) -> None:
    pages = sorted(paths.ROOT.glob(page))
    assert pages
    for path in pages:
        text = re.sub(r"## Withdrawn\n.*?\n## ", "", path.read_text(encoding="utf-8"), flags=re.S)
        for words_of in ("hint of the opposite", "everything at once", "really does", "lower VOI",
                         "every departure of the released code at once"):  # fmt: skip
            assert words_of not in text, path


def test_the_published_page_is_in_step_with_the_published_results() -> None:
    published = paths.RESULTS / "README.md"
    if not published.is_file():
        pytest.skip("no page of findings has been published")
    text = published.read_text(encoding="utf-8")
    benchmarks = load_nnunet(paths.RESULTS / "benchmarks")
    expected = findings_page(load_results([paths.MEASURED]), REPORTED, benchmarks)
    assert text == expected, "run gtgm.findings.write_findings"
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (published.parent / link).exists(), link
