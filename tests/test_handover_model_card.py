"""Model cards: read as the Hub reads them, with the result's numbers, and they hide nothing."""

from __future__ import annotations

import dataclasses

import pytest
from handover_runs import CREMI, HIPPOCAMPUS, PROSTATE, finetuned, neurons, pretrained
from huggingface_hub import ModelCard

from gtgm.datasets import registry
from gtgm.handover.model_card import model_card
from gtgm.handover.terms import licence_note
from gtgm.models.encoder import read_config
from gtgm.results import load_result


def written(run, tmp_path, **fields):
    """The card of a run with other fields, as it is read from its file."""
    result = dataclasses.replace(load_result(run / "result.json"), **fields)
    card = model_card(result, read_config(run), "Open it.", "gtgm")
    path = tmp_path / "README.md"
    path.write_text(str(card), encoding="utf-8")
    return ModelCard.load(path), result


def test_the_metadata_is_the_run(tmp_path):
    card, result = written(finetuned(tmp_path / "run"), tmp_path)
    assert card.data.license == "cc-by-sa-4.0"
    assert card.data.library_name == "gtgm" and card.data.pipeline_tag == "image-segmentation"
    assert card.data.datasets == [HIPPOCAMPUS]
    assert {"mri", "gtgm", "unet"} <= set(card.data.tags) and "phantom-data" not in card.data.tags
    assert card.data.model_name == result.id
    found = {e.metric_name: (e.metric_type, e.metric_value) for e in card.data.eval_results}
    assert found == {"dice": ("dice", 0.5), "dice/anterior": ("dice", 0.5)}
    assert {e.dataset_type for e in card.data.eval_results} == {HIPPOCAMPUS}
    assert "fold 0" in card.data.eval_results[0].dataset_split


def test_the_table_holds_the_means_per_class(tmp_path):
    card, _ = written(finetuned(tmp_path / "run"), tmp_path)
    lines = card.text.splitlines()
    assert "| anterior | 0.5 |" in lines  # of 0.25 and 0.75
    assert "| posterior | 0.5 |" in lines  # of 0.5 alone: the other is undefined
    assert "| mean of the foreground | 0.5 |" in lines


def test_neurons_have_a_row_per_postprocessing(tmp_path):
    card, _ = written(neurons(tmp_path / "run"), tmp_path)
    found = {e.metric_name: (e.metric_type, e.metric_value) for e in card.data.eval_results}
    assert found == {"voi_sum": ("voi_sum", 1.5), "multicut/voi_sum": ("voi_sum", 2.5)}
    assert "| waterz | 1.5 |" in card.text and "test sections 48 to 59" in card.text
    # A licence that the Hub has no name for is named in a file.
    assert card.data.license == "other" and card.data.license_link == "LICENSE"
    assert registry.get(CREMI).licence in card.text


def test_an_encoder_has_retrieval_before_and_after_and_the_licence_of_its_pool(tmp_path):
    card, result = written(pretrained(tmp_path / "run"), tmp_path)
    assert card.data.pipeline_tag == "image-feature-extraction"
    assert card.data.datasets == [HIPPOCAMPUS, PROSTATE]
    assert card.data.license == "cc-by-sa-4.0"
    found = {e.metric_name: e.metric_value for e in card.data.eval_results}
    assert found == {"r@1": 0.25, "chance": 0.0625}
    assert "| r@1 | 0.125 | 0.25 |" in card.text
    mixed, _ = written(tmp_path / "run", tmp_path, dataset=[HIPPOCAMPUS, CREMI],
                       command=f"gtgm pretrain {HIPPOCAMPUS} {CREMI}")  # fmt: skip
    assert mixed.data.license == "other"


def test_the_pool_of_the_pretraining_counts_as_data(tmp_path):
    run = finetuned(tmp_path / "run")
    pool = f"gtgm finetune {HIPPOCAMPUS} --method gtgm --pool {PROSTATE} {CREMI} --fold 0"
    card, result = written(run, tmp_path, command=pool)
    assert card.data.datasets == [HIPPOCAMPUS, PROSTATE, CREMI]
    assert card.data.license == "other"
    note = licence_note(result)
    for name in (HIPPOCAMPUS, PROSTATE, CREMI):
        info = registry.get(name)
        assert info.licence in note and info.attribution in note and info.citation in note
    scratch, _ = written(run, tmp_path, command=pool, method="random")
    assert scratch.data.datasets == [HIPPOCAMPUS]  # which read no pool


@pytest.mark.parametrize("make", [finetuned, neurons, pretrained])
def test_phantoms_are_said_loudly(make, tmp_path):
    run = make(tmp_path / "run", source="phantom")
    command = load_result(run / "result.json").command.removesuffix(" --data DIR")
    card, result = written(run, tmp_path, command=command)
    assert "**Phantom data.**" in card.text and "**On phantoms.**" in card.text
    assert "has seen no real image" in card.text
    assert "phantom-data" in card.data.tags and card.data.datasets is None
    assert card.data.license == "apache-2.0"
    measured = card.data.eval_results[0]
    assert measured.dataset_type.startswith("phantom-") and "(phantom)" in measured.dataset_name
    assert "no real image" in licence_note(result) and "CC-BY" not in licence_note(result)


def test_a_pool_that_may_be_real_keeps_its_terms(tmp_path):
    """The result of a fine-tuning on phantoms does not say what the rest of its pool was."""
    run = finetuned(tmp_path / "run", source="phantom")
    pool = f"gtgm finetune {HIPPOCAMPUS} --method gtgm --pool {HIPPOCAMPUS} {PROSTATE}"
    card, result = written(run, tmp_path, command=pool)
    assert "**Phantom data.**" in card.text and "seen no real image" not in card.text
    assert card.data.license == "cc-by-sa-4.0" and PROSTATE in card.data.datasets
    assert "MSD Prostate" in licence_note(result) and "no real image" not in licence_note(result)
    # A pool that is real in part counts as phantom; its command asks for data.
    mixed = pretrained(tmp_path / "pretrain", source="phantom")
    card, _ = written(mixed, tmp_path)
    assert "seen no real image" not in card.text and card.data.license == "cc-by-sa-4.0"


def test_what_the_text_was_and_what_leaked(tmp_path):
    run = finetuned(tmp_path / "run")

    def text(settings=(), **changes):
        return written(run, tmp_path, settings={**dict(settings), "changes": changes})[0].text

    honest = text()
    assert "**Leak:**" not in honest and "**Not a medical device.**" in honest
    assert "small BLIP that this package trained" in honest
    assert "sentences that rules write" in text(text={"captioner": "describe"})
    assert "`someone/blip`" in text(text={"captioner": "someone/blip"})
    assert "given to another patch" in text(pretrain={"shuffle_captions": True})
    assert "also read the test cases" in text(pretrain={"include_test": True})
    assert "chosen on the test cases" in text({"select_on_test": True})
    barlow, _ = written(run, tmp_path, method="barlow")
    assert "text of the pretraining" not in barlow.text


def test_a_card_tells_how_to_repeat_judge_and_cite_the_run(tmp_path):
    card, result = written(finetuned(tmp_path / "run"), tmp_path)
    sections = ["How to use it", "Data", "Training", "Metrics", "Intended use and limits"]
    assert [line[3:] for line in card.text.splitlines() if line.startswith("## ")] == [
        *sections,
        "Citation",
    ]
    assert result.command in card.text and result.hardware["cpu"] in card.text
    assert "- steps: `7`" in card.text and "time: 12 s" in card.text
    assert "arXiv:2306.04811" in card.text and registry.get(HIPPOCAMPUS).citation in card.text
