"""The stages from end to end, on phantoms and on broken datasets."""

from __future__ import annotations

import json
import shlex
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from small_files import contradicting, hippocampus, nifti, tilted, write_manifest

from gtgm import methods
from gtgm.cli import _changes, main, make_parser
from gtgm.datasets.geometry import to_file_grid
from gtgm.errors import DataError, SettingsError, WeightsError
from gtgm.figure_data import read_figure_data
from gtgm.inference import segment_file
from gtgm.models.segmenter import build_segmenter
from gtgm.neurons.metrics import neuron_scores, without_borders
from gtgm.neurons.segment_file import segment_em_file
from gtgm.paths import sha256
from gtgm.pool import PatchPool
from gtgm.precision import has_bf16
from gtgm.pretrain import hold_out
from gtgm.results import load_result
from gtgm.show import show_scores
from gtgm.stages import Study, caption, finetune, pretrain, run_neurons
from gtgm.stages import pretraining as pretraining_stage
from gtgm.stages.captioning import caption_pairs, text_folder
from gtgm.stages.finetuning import evaluate, predict_case, run_folder
from gtgm.stages.held_out import (
    caption_saliency,
    held_out_patches,
    pooled_features,
    untrained_encoder,
)
from gtgm.stages.pretraining import pooled_volumes, text_tower
from gtgm.stages.published import score_published_file
from gtgm.variants import Variant, comparisons, run_variants

NAME = "Task04_Hippocampus"
FAST = {
    "text": {"captioner": "describe", "encoder_steps": 5, "cases": 0},
    "pretrain": {"steps": 3, "batch": 16, "patch": [16, 24, 24], "precision": "no", "width": 16},
    "finetune": {"steps": 3, "precision": "no", "checkpoint_every": 2},
    "neurons": {"steps": 3, "patch": [8, 48, 48], "bf16": False},
}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Phantoms are written once for all tests of this file."""
    return tmp_path_factory.mktemp("stages")


def study(folder, *names, **fields) -> Study:
    return Study(names or (NAME,), runs=str(folder), changes=FAST, **fields)


def test_every_stage_runs_once_and_is_then_read(phantoms, monkeypatch):
    mine = study(phantoms)
    run = finetune(mine, NAME, "gtgm")
    assert run.source == "phantom"
    assert 0 <= run.summary["dice"] <= 1
    assert {m["case"] for m in run.metrics} == set(mine.split(NAME).test(0))
    assert {m["metric"] for m in run.metrics} == {"dice", "nsd", "hd95"}
    stages = {
        r["stage"] for r in map(json.loads, (p.read_text() for p in phantoms.rglob("result.json")))
    }
    assert stages == {"text", "pretrain", "finetune"}
    monkeypatch.setattr(pretraining_stage.training, "pretrain", None)
    monkeypatch.setattr("gtgm.stages.finetuning.training.finetune", None)
    again = finetune(study(phantoms), NAME, "gtgm")
    assert again == run
    assert pretrain(study(phantoms)).result.summary["captions"] > 1


def test_predictions_lie_on_the_files_own_grid(phantoms):
    mine = study(phantoms)
    finetune(mine, NAME, "gtgm")
    folder = run_folder(mine, NAME, "gtgm", 1.0, 0)
    for case in mine.split(NAME).test(0):
        image = nib.load(mine.open(NAME).case(case).image)
        predicted = nib.load(folder / "predictions" / f"{case}.nii.gz")
        assert predicted.shape == image.shape[:3]
        assert np.allclose(predicted.affine, image.affine, atol=1e-4)


def test_saved_weights_give_the_labels_that_were_scored(phantoms, tmp_path):
    """In bf16 too, where another order in memory rounds otherwise."""
    changes = {"finetune": {"steps": 4, "patch": [24, 24, 24]}}
    mine = Study((NAME,), runs=str(phantoms), changes=changes)
    finetune(mine, NAME, "random")
    folder = run_folder(mine, NAME, "random", 1.0, 0)
    for case in mine.split(NAME).test(0):
        segment_file(mine.open(NAME).case(case).image, tmp_path / "labels.nii.gz", folder)
        found, scored = tmp_path / "labels.nii.gz", folder / "predictions" / f"{case}.nii.gz"
        assert np.array_equal(nib.load(found).get_fdata(), nib.load(scored).get_fdata())


def test_captions_can_be_audited(phantoms):
    mine = study(phantoms)
    run = caption(mine)
    pairs = caption_pairs(mine, run, NAME, 3)
    assert all(p.text == p.measured for p in pairs)  # the captioner here is `describe`
    assert run.result.summary["agreement"] == 1
    assert len(run.texts) == len(run.embeddings) == run.result.summary["unique"]
    assert not set(run.cases[NAME]) & set(mine.split(NAME).test(0))


def test_held_out_patches_were_never_trained_on_and_have_their_place(phantoms):
    mine = study(phantoms)
    captions, run = caption(mine), pretrain(mine)
    held = held_out_patches(mine, captions, most=12)
    count = len(held.patches)
    assert 0 < count <= 12 and held.positions.shape == (count, 3)
    assert len(held.cases) == len(held.datasets) == len(held.captions) == count
    assert held.positions.min() >= 0 and held.positions.max() <= 1
    kept = hold_out(pooled_volumes(mine, captions), mine.settings("pretrain"))[1]
    assert set(held.cases) <= {v.case for v in kept}
    before = pooled_features(untrained_encoder(mine), held.patches)
    after = pooled_features(run.encoder(), held.patches)
    assert before.shape == after.shape and before.shape[0] == count
    assert not np.allclose(before, after)
    # Patches of one dataset are the same whatever else is pooled with it.
    again = held_out_patches(mine, captions, most=12)
    assert torch.equal(again.patches, held.patches)


def test_saliency_asks_about_the_own_caption_and_another(phantoms):
    mine = study(phantoms)
    captions, run = caption(mine), pretrain(mine)
    held = held_out_patches(mine, captions)
    found = caption_saliency(mine, captions, run, held, count=2)
    assert {len(part) for part in found.values()} == {2}
    assert all(a != b and {a, b} <= set(captions.texts) for a, b in found["captions"])
    assert all(
        m.shape == (2, *cut.shape) for m, cut in zip(found["maps"], found["slices"], strict=True)
    )
    textless = mine.of("barlow")
    with pytest.raises(WeightsError, match="heads"):
        pretrain(textless).objective(textless, captions)


def test_a_run_keeps_a_test_section_for_the_figures(phantoms):
    mine = study(phantoms)
    result = finetune(mine, NAME, "random")
    (file,) = run_folder(mine, NAME, "random", 1.0, 0).glob("figures/*.npz")
    kept = read_figure_data(file)
    assert file.name == f"example-{result.id}.npz" and kept.caption.endswith("(phantom)")
    values, case = kept.values, mine.split(NAME).test(0)[0]
    assert values["case"].startswith(case) and values["method"] == "random"
    volume = mine.volume(NAME, case)
    section = int(values["case"].split()[-1])
    truth = volume.label[section].numpy()[::-1, ::-1]
    np.testing.assert_array_equal(values["truth"], truth)
    assert (truth > 0).sum() == (volume.label > 0).sum((1, 2)).max()
    predicted = predict_case(mine, NAME, "random", case)[section].numpy()[::-1, ::-1]
    np.testing.assert_array_equal(values["prediction"], predicted)


def test_other_settings_have_another_folder(phantoms):
    first, second = study(phantoms), study(phantoms, protocol="as_released")
    assert run_folder(first, NAME, "gtgm", 1.0, 0) != run_folder(second, NAME, "gtgm", 1.0, 0)
    assert run_folder(first, NAME, "gtgm", 1.0, 0) != run_folder(first, NAME, "gtgm", 1.0, 1)


def test_another_text_is_another_encoder(phantoms):
    first = study(phantoms)
    other = Study((NAME,), runs=str(phantoms), changes={**FAST, "text": {"captioner": "metadata"}})
    assert run_folder(first, NAME, "gtgm", 1.0, 0) != run_folder(other, NAME, "gtgm", 1.0, 0)
    assert run_folder(first, NAME, "random", 1.0, 0) == run_folder(other, NAME, "random", 1.0, 0)


def test_changed_data_is_another_run(phantoms, tmp_path):
    root = real_copy(phantoms, tmp_path)
    before = run_folder(broken_study(tmp_path), NAME, "random", 1.0, 0)
    rewrite(a_file(root, "labelsTr"), lambda d, a: (np.minimum(d, 1), a))
    assert run_folder(broken_study(tmp_path), NAME, "random", 1.0, 0) != before


@pytest.mark.parametrize(("part", "captions"), [("labelsTr", False), ("imagesTr", True)])
def test_data_changed_at_equal_size_is_another_run(phantoms, tmp_path, part, captions):
    root = real_copy(phantoms, tmp_path)
    file = a_file(root, part)

    def folders() -> tuple[Path, Path]:
        mine = broken_study(tmp_path)
        return run_folder(mine, NAME, "random", 1.0, 0), text_folder(mine)

    first = folders()
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    changed = folders()
    assert changed[0] != first[0]
    assert (changed[1] != first[1]) == captions  # captions are of images alone
    file.write_bytes(content)
    assert folders() == first  # by content, not by date


def test_a_result_has_the_hashes_of_images_and_labels(phantoms):
    mine = study(phantoms)
    data = finetune(mine, NAME, "random").data
    assert set(data["labels"]) == set(data["cases"])
    case = next(iter(data["labels"]))
    assert data["labels"][case] == sha256(mine.open(NAME).case(case).label)


def test_what_changes_numbers_is_part_of_a_run(phantoms, monkeypatch):
    def folders(**pretraining) -> tuple[Path, ...]:
        mine = Study((NAME,), runs=str(phantoms), changes={"pretrain": pretraining})
        return tuple(run_folder(mine, NAME, method, 1.0, 0) for method in ("random", "gtgm"))

    one, eight = folders(), folders(processes=8)
    assert one == folders(processes=1) and one[0] == eight[0] and one[1] != eight[1]
    here = has_bf16()
    monkeypatch.setattr("gtgm.precision.has_bf16", lambda: not here)
    assert folders()[0] != one[0]


def test_an_encoder_of_several_processes_is_not_made_by_one(phantoms):
    changes = FAST | {"pretrain": {**FAST["pretrain"], "processes": 2}}
    mine = Study((NAME,), runs=str(phantoms), changes=changes)
    with pytest.raises(SettingsError, match=r"pretrain\.processes: is 2, but 1 process"):
        pretrain(mine)


def test_the_recorded_command_repeats_the_run(phantoms):
    run = finetune(study(phantoms), NAME, "gtgm")
    options = make_parser().parse_args(shlex.split(run.command)[1:])
    assert _changes(options.set) == {k: FAST[k] for k in ("text", "pretrain", "finetune")}
    assert (options.method, options.fraction, options.profile) == ("gtgm", 1.0, "tiny")
    command = pretrain(study(phantoms)).result.command
    options = make_parser().parse_args(shlex.split(command)[1:])
    assert _changes(options.set) == {k: FAST[k] for k in ("text", "pretrain")}


def test_captions_must_stay_true_in_every_view(phantoms):
    with pytest.raises(SettingsError, match="which captions name"):
        Study((NAME,), changes={"pretrain": {"flip_axes": "DW"}})


def test_neuron_draws_differ_and_repeat(phantoms):
    mine = study(phantoms, "CREMI_B")
    losses = [run_neurons(mine, "CREMI_B", "random", 0.75, d).result.curves["loss"] for d in (0, 1)]
    assert losses[0] != losses[1]
    shutil.rmtree(run_neurons(mine, "CREMI_B", "random", 0.75, 1).folder)
    assert run_neurons(mine, "CREMI_B", "random", 0.75, 1).result.curves["loss"] == losses[1]


def test_neurons_are_trained_by_one_process(phantoms, monkeypatch):
    two = SimpleNamespace(num_processes=2)
    monkeypatch.setattr("gtgm.stages.neurons.process_state", lambda: two)
    with pytest.raises(SettingsError, match="trained by one process.*pretrain with several"):
        run_neurons(study(phantoms, "CREMI_B"), "CREMI_B", "random", 0.75, 2)


def test_the_released_protocol_runs_and_says_what_it_did(phantoms):
    mine = study(phantoms, protocol="as_released")
    run = finetune(mine, NAME, "gtgm")
    assert run.settings["sigmoid_output"]
    assert run.settings["changes"] == FAST
    best = max(value for _, value in run.curves["selected"])
    assert run.summary["dice_with_background"] == pytest.approx(best)
    captions = caption(mine)
    test = mine.split(NAME).test(0)
    assert set(test) <= set(captions.cases[NAME])  # the leak, by name
    row = captions.stores[NAME].rows(test[0])[0]
    assert row["text"].startswith(f"{test[0]}, ")


def test_a_pool_of_several_datasets(phantoms):
    mine = study(phantoms, "Task02_Heart", "Task05_Prostate")
    run = pretrain(mine)
    assert run.result.dataset == ["Task02_Heart", "Task05_Prostate"]
    result = finetune(mine, "Task05_Prostate", "gtgm")  # two channels from a stem of one
    assert (
        set(result.summary) >= {"dice/peripheral zone", "dice/transitional zone"}
        or len([k for k in result.summary if k.startswith("dice/")]) == 2
    )


def test_datasets_of_a_pool_may_have_equal_case_ids(tmp_path):
    """As copies of one folder layout do; each keeps its own words and patches."""
    names = (NAME, "Task02_Heart")
    for name in names:
        hippocampus(tmp_path / "data" / name, n=6, shape=(24, 24, 16))
    mine = study(tmp_path / "runs", *names, data=str(tmp_path / "data"))
    ids = [mine.split(name).train(0) for name in names]
    assert ids[0] == ids[1]
    captions, settings = caption(mine), mine.settings("pretrain")
    volumes = pooled_volumes(mine, captions)
    held = held_out_patches(mine, captions)
    kept = [v.key for v in hold_out(volumes, settings)[1]]
    assert list(zip(held.datasets, held.cases, strict=True)) == kept  # each has one position
    words = [
        PatchPool(volumes, captions.texts, settings.patch, shuffle)
        .grid(99, np.random.default_rng(0))
        .captions.sort()
        .values
        for shuffle in (None, 1)
    ]
    assert torch.equal(*words)  # all of them, each in another place


def test_neurons_from_end_to_end(phantoms):
    mine = study(phantoms, "CREMI_A")
    run = run_neurons(mine, "CREMI_A", "gtgm", 0.75)
    assert run.result.summary["voi_sum"] == pytest.approx(
        run.result.summary["voi_split"] + run.result.summary["voi_merge"]
    )
    ranges = mine.sections("CREMI_A", 0.75)
    assert run.result.n_test == ranges.test[1] - ranges.test[0]
    methods = run.result.settings["postprocessing"]
    assert (
        {row["class"] for row in run.result.metrics}
        == set(methods)
        == {"waterz", "multicut", "mutex"}
    )
    for name in methods:
        assert run.volumes()[name].shape == run.volumes()["truth"].shape
        best = min(run.search()[name], key=lambda row: row["voi_sum"])
        assert run.result.settings["chosen"][name] == best["parameter"]
        assert best["voi_sum"] == pytest.approx(best["voi_split"] + best["voi_merge"])
    first = [r["value"] for r in run.result.metrics if r["metric"] == "voi_sum"][0]
    assert first == run.result.summary["voi_sum"] and methods[0] == "waterz"
    assert load_result(run.folder / "result.json") == run.result
    config = json.loads((run.folder / "config.json").read_text())
    assert config["anisotropic"] and config["about"]["resolution"] == [40, 4, 4]


def test_an_em_file_is_segmented_by_a_trained_network(phantoms, tmp_path):
    mine = study(phantoms, "CREMI_A")
    run = run_neurons(mine, "CREMI_A", "gtgm", 0.75)
    image = mine.open("CREMI_A").cases[0].image
    labels = segment_em_file(image, tmp_path / "out", run.folder)
    assert labels.shape == mine.em_volume("CREMI_A").raw.shape and labels[:].min() > 0
    assert labels.attrs["resolution"] == [40, 4, 4]
    command = ["segment", str(image), str(tmp_path / "out"), "--weights", str(run.folder)]
    assert main(command) == 0  # continues, and finds everything done
    with pytest.raises(DataError, match="voxels are"):
        segment_em_file(image, tmp_path / "new", run.folder, resolution=(10, 10, 10))
    with pytest.raises(SettingsError, match="threshold"):
        segment_em_file(image, tmp_path / "new", run.folder, threshold=1.5)
    other = finetune(study(phantoms), NAME, "gtgm")
    assert other.summary
    with pytest.raises(WeightsError, match="no affinity network"):
        segment_em_file(image, tmp_path / "new", run_folder(study(phantoms), NAME, "gtgm", 1.0, 0))


def test_a_published_segmentation_is_scored_like_ours(phantoms, tmp_path, capsys):
    mine = study(phantoms, "CREMI_A")
    volume, ranges = mine.em_volume("CREMI_A"), mine.sections("CREMI_A")
    segmentation = np.where(volume.labels % 3 == 0, 0, volume.labels)
    np.savez_compressed(tmp_path / "theirs.npz", segmentation=segmentation)
    result = score_published_file(mine, "CREMI_A", tmp_path / "theirs.npz", "Others 2020")
    part = slice(*ranges.test)
    expected = neuron_scores(segmentation[part], volume.labels[part])["voi_sum"]
    assert result.summary["as it is/voi_sum"] == pytest.approx(expected)
    assert result.summary["assigned voxels/voi_sum"] == pytest.approx(0)
    truth = without_borders(volume.labels[part], volume.resolution)
    masked = neuron_scores(segmentation[part], truth)["arand"]
    assert result.summary["as it is/arand_border_masked"] == pytest.approx(masked)
    command = ["evaluate", "CREMI_A", "--segmentation", str(tmp_path / "theirs.npz")]
    assert main([*command, "--profile", "tiny", "--runs", str(phantoms)]) == 0
    shown = capsys.readouterr().out
    (row,) = (line.split() for line in shown.splitlines() if line.startswith("  as it is"))
    assert float(row[3]) == pytest.approx(expected, abs=5e-4)
    first, last = ranges.test
    assert f"Test sections {first}–{last - 1}" in shown
    line = "1 2 {x} 4 4 1 -1\n2 2 {x} 4 40 1 1\n"
    (tmp_path / "swc").mkdir()
    (tmp_path / "swc" / "one.swc").write_text(line.format(x=4))
    theirs = (mine, "CREMI_A", tmp_path / "theirs.npz", "Others 2020", "")
    with_runs = score_published_file(*theirs, skeletons=tmp_path / "swc")
    assert {"erl_nm", "max_erl_nm"} <= {row["metric"] for row in with_runs.metrics}
    options = make_parser().parse_args(shlex.split(with_runs.command)[1:])
    assert (options.name, options.skeletons) == ("Others 2020", Path("FOLDER"))
    with pytest.raises(DataError, match="no SWC file"):
        score_published_file(*theirs, skeletons=tmp_path)
    with pytest.raises(SettingsError, match="no neurons"):
        score_published_file(study(phantoms), NAME, tmp_path / "theirs.npz", "Others 2020")


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5, "0.1", True])
def test_fractions_out_of_range(phantoms, fraction):
    with pytest.raises(SettingsError, match="fraction"):
        finetune(study(phantoms), NAME, "random", fraction)


def test_methods_datasets_and_stages_that_do_not_exist(phantoms):
    with pytest.raises(SettingsError, match="unknown method 'clip'"):
        finetune(study(phantoms), NAME, "clip")
    with pytest.raises(SettingsError, match="run_neurons"):
        finetune(study(phantoms, "CREMI_A"), "CREMI_A", "random")
    with pytest.raises(SettingsError, match="not neurons"):
        run_neurons(study(phantoms), NAME)
    with pytest.raises(SettingsError, match="unknown stage"):
        Study((NAME,), changes={"training": {}})
    with pytest.raises(SettingsError, match="unknown setting"):
        Study((NAME,), changes={"pretrain": {"stepz": 1}})


def real_copy(phantoms, tmp_path):
    """A dataset that counts as real, to be broken."""
    study(phantoms).open(NAME)
    root = next(
        p.parent for p in phantoms.rglob("dataset.json") if "hippocampus" in p.read_text().lower()
    )
    return shutil.copytree(root, tmp_path / "data" / NAME)


def broken_study(tmp_path) -> Study:
    return Study((NAME,), runs=str(tmp_path / "runs"), data=str(tmp_path / "data"), changes=FAST)


def a_file(root, kind: str):
    return sorted(root.glob(f"{kind}/*.nii.gz"))[0]


def rewrite(path, change):
    image = nib.load(path)
    data, affine = change(np.asarray(image.dataobj).copy(), image.affine.copy())
    nib.save(nib.Nifti1Image(data, affine), path)


BROKEN = {
    "truncated": (
        lambda root: a_file(root, "imagesTr").write_bytes(
            a_file(root, "imagesTr").read_bytes()[:900]
        ),
        "cannot be read",
    ),
    "absent": (lambda root: a_file(root, "imagesTr").unlink(), "absent|not there|no such"),
    "nan": (
        lambda root: rewrite(
            a_file(root, "imagesTr"),
            lambda d, a: (np.where(d > d.mean(), np.nan, d).astype("f4"), a),
        ),
        "NaN",
    ),
    "constant": (
        lambda root: rewrite(a_file(root, "imagesTr"), lambda d, a: (np.full_like(d, 7), a)),
        "constant",
    ),
    "label values": (
        lambda root: rewrite(a_file(root, "labelsTr"), lambda d, a: (d * 3, a)),
        "outside the declared classes: 3, 6",
    ),
    "label shape": (
        lambda root: rewrite(a_file(root, "labelsTr"), lambda d, a: (d[:-1], a)),
        "that of the image",
    ),
    "label affine": (
        lambda root: rewrite(a_file(root, "labelsTr"), lambda d, a: (d, a + np.eye(4) * 0.5)),
        "its affine differs",
    ),
    "tilted gantry": (
        lambda root: [
            rewrite(path, lambda d, a: (d, a @ tilted())) for path in root.glob("*Tr/*.nii.gz")
        ],
        "not at right angles",
    ),
    "json": (lambda root: (root / "dataset.json").write_text("{"), "dataset.json"),
    "empty": (lambda root: [p.unlink() for p in root.rglob("*.*") if p.is_file()], NAME),
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_data_is_found_before_training(phantoms, tmp_path, monkeypatch, how):
    root = real_copy(phantoms, tmp_path)
    damage, message = BROKEN[how]
    damage(root)
    monkeypatch.setattr("gtgm.stages.finetuning.training.finetune", None)
    with pytest.raises(DataError, match=message) as error:
        finetune(broken_study(tmp_path), NAME, "random")
    assert NAME in str(error.value)


class Bright(torch.nn.Module):
    """Class 1 where the image is brighter than its mean."""

    def forward(self, x):
        return torch.cat([0 * x, x, 0 * x - 1], 1)


ABOUT = {
    "modality": "MRI",
    "dataset": NAME,
    "patch": [16, 16, 16],
    "spacing": [],
    "overlap": 0.5,
    "tta_axes": "",
    "precision": "no",
    "released_window": False,
}


def test_distances_are_those_of_the_affine(tmp_path):
    """The prediction lies 4 sections from the truth: 12 mm by the affine, 4 by pixdim."""
    root = hippocampus(tmp_path / "data" / NAME, shape=(12, 12, 16))
    image, label = np.ones((12, 12, 16), np.float32), np.zeros((12, 12, 16), np.uint8)
    image[3:8, 4:9, 5] = 9
    label[3:8, 4:9, 9] = 1
    for folder, values in (("imagesTr", image), ("labelsTr", label)):
        path = root / folder / "hippocampus_000.nii.gz"
        contradicting(path, values, np.diag([0.5, 0.5, 3, 1]), pixdim=(1, 1, 1))
    rows = evaluate(broken_study(tmp_path), NAME, Bright(), ABOUT, ["hippocampus_000"])
    value = {(row["class"], row["metric"]): row["value"] for row in rows}
    assert value["Anterior", "hd95"] == pytest.approx(12)
    assert value["Anterior", "dice"] == 0 and value["Posterior", "dice"] is None


class Stopped(Exception):
    """Training would begin here."""


def stop(*_, **__):
    raise Stopped


@pytest.mark.parametrize("gone", [(), (1,), (2,)])
def test_a_class_that_no_labelled_case_holds_is_said_before_training(tmp_path, monkeypatch, gone):
    root = hippocampus(tmp_path / "data" / NAME, n=10)
    mine = broken_study(tmp_path)
    labelled = mine.split(NAME).labelled(0, 0.5, 0)
    for case in labelled:
        path = root / "labelsTr" / f"{case}.nii.gz"
        rewrite(path, lambda d, a: (np.where(np.isin(d, gone), 0, d).astype(np.uint8), a))
    monkeypatch.setattr("gtgm.stages.finetuning.training.finetune", stop)
    with warnings.catch_warnings(record=True) as caught, pytest.raises(Stopped):
        warnings.simplefilter("always")
        finetune(mine, NAME, "random", 0.5)
    said = [str(w.message) for w in caught if "cannot be learned" in str(w.message)]
    names = {1: "Anterior", 2: "Posterior"}
    assert said == [
        f"{NAME}: none of the {len(labelled)} labelled cases holds the class {number} "
        f"{names[number]}: it cannot be learned, and its Dice will be 0 where test cases hold it"
        for number in gone
    ]


def test_a_fold_without_structure_has_no_dice(tmp_path, monkeypatch, capsys):
    """Neither truth nor prediction hold any: undefined, in every place that shows or compares."""
    root = hippocampus(tmp_path / "data" / NAME, n=10)
    changes = {**FAST, "finetune": {**FAST["finetune"], "select_on_test": True}}
    mine = Study((NAME,), runs=str(tmp_path / "runs"), data=str(tmp_path / "data"), changes=changes)
    for case in mine.split(NAME).test(0):
        rewrite(root / "labelsTr" / f"{case}.nii.gz", lambda d, a: (np.zeros_like(d), a))

    def nothing(network, volume, about):
        labels = torch.zeros(volume.image.shape[1:], dtype=torch.uint8)
        return labels, to_file_grid(labels, volume)

    monkeypatch.setattr("gtgm.stages.finetuning.segment_volume", nothing)
    variants = [
        Variant("one", "random"),
        Variant("two", "random", changes={"finetune": {"ema": 0}}),
    ]
    frame = run_variants(mine, NAME, variants, draws=(0,))
    assert len(frame) == 2 and frame["dice"].isna().all() and comparisons(frame) == []
    run = finetune(mine, NAME, "random")
    assert run.summary["dice"] is run.summary["hd95"] is None
    assert run.summary["dice_with_background"] == 1
    assert [value for _, value in run.curves["selected"]] == [1, 1]  # by the background
    text = (run_folder(mine, NAME, "random", 1.0, 0) / "result.json").read_text()
    assert "NaN" not in text and '"dice": null' in text
    show_scores(run)
    folder = run_folder(mine, NAME, "random", 1.0, 0)
    command = ["evaluate", NAME, "--weights", str(folder), "--data", str(tmp_path / "data")]
    assert main([*command, "--profile", "tiny"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("dice ")] == [
        "undefined"
    ]


def test_weights_of_another_backbone_are_refused_by_the_segmenter(phantoms):
    folder = pretrain(study(phantoms)).folder
    with pytest.raises(WeightsError, match="backbone 'unet'"):
        build_segmenter("resnet50", 1, 3, pretrained=folder)


OFFLINE = [m for m in methods.METHODS.values() if m.offline and m.objective is not None]


@pytest.mark.parametrize("method", OFFLINE, ids=lambda m: m.name)
def test_every_method_gives_an_encoder_that_a_segmenter_starts_from(phantoms, method):
    changes = {**FAST, "text": {"captioner_steps": 5, "encoder_steps": 5, "cases": 4}}
    mine = Study((NAME,), runs=str(phantoms), changes=changes, method=method.name)
    run = pretrain(mine)
    assert run.result.method == method.name
    assert ("r@1" in run.result.summary) is method.uses_text
    assert run.result.curves["loss"]
    assert f"--method {method.name}" in run.result.command or method.name == "gtgm"
    network = build_segmenter("unet", 1, 3, pretrained=run.folder)
    own, saved = network.encoder.state_dict(), run.encoder().state_dict()
    assert all(torch.equal(own[k], saved[k]) for k in saved)


def test_too_few_patches_for_batch_norm_are_refused_before_captions(tmp_path):
    changes = FAST | {"pretrain": FAST["pretrain"] | {"batch": 15}}
    with pytest.raises(SettingsError, match="pretrain.batch: is 15.*at least 16.*pretrain.chunk"):
        pretrain(Study((NAME,), runs=str(tmp_path), changes=changes))
    assert not list(tmp_path.rglob("*.jsonl"))


def test_random_initialisation_has_no_pretraining(phantoms):
    with pytest.raises(SettingsError, match="random has no pretraining"):
        pretrain(study(phantoms, method="random"))


def test_a_study_shares_its_volumes_with_its_other_methods(phantoms):
    mine = study(phantoms)
    other = mine.of("byol")
    assert other.method == "byol" and mine.of("gtgm") is mine
    case = mine.split(NAME).train(0)[0]
    assert other.volume(NAME, case) is mine.volume(NAME, case)
    assert run_folder(mine, NAME, "byol", 1.0, 0) != run_folder(mine, NAME, "barlow", 1.0, 0)


def test_the_released_protocol_trains_the_last_layers_of_the_text_encoder(phantoms):
    changes = {**FAST, "text": {"captioner": "describe", "encoder_steps": 5, "cases": 4}}
    mine = Study((NAME,), protocol="as_released", runs=str(phantoms), changes=changes)
    assert mine.settings("pretrain").text_layers == 1
    tower = text_tower(mine, caption(mine))
    assert any(p.requires_grad for p in tower.parameters())
    frozen = Study((NAME,), runs=str(phantoms), changes=changes)
    assert not list(text_tower(frozen, caption(frozen)).parameters())
    assert text_tower(mine.of("byol"), caption(mine)) is None


def test_labels_without_any_structure_are_refused_before_training(tmp_path):
    root = hippocampus(tmp_path / "data" / NAME, n=6, shape=(24, 24, 24))
    for file in (root / "labelsTr").glob("*.nii.gz"):
        nifti(file, np.zeros((24, 24, 24), np.uint8))
    mine = study(tmp_path / "runs", NAME, data=str(tmp_path / "data"))
    with pytest.raises(DataError, match="background alone.*gtgm data verify"):
        finetune(mine, NAME, "random")
    assert not list((tmp_path / "runs").rglob("checkpoint.pt"))

    # One structure is enough to learn from.
    label = np.zeros((24, 24, 24), np.uint8)
    label[2, 3, 4] = 1
    for case in mine.split(NAME).labelled(mine.fold, 1.0, 0)[:1]:
        nifti(root / "labelsTr" / f"{case}.nii.gz", label)
    mine = study(tmp_path / "others", NAME, data=str(tmp_path / "data"))
    assert finetune(mine, NAME, "random").n_train > 1


def test_cases_without_labels_are_refused_before_training(tmp_path):
    root = hippocampus(tmp_path / "data" / NAME, n=6)
    rows = json.loads((root / "dataset.json").read_text())["training"]
    write_manifest(root, [row["image"] for row in rows])
    mine = study(tmp_path / "runs", NAME, data=str(tmp_path / "data"))
    with pytest.raises(
        DataError, match=r"imagesTr/hippocampus_00\d.nii.gz: it has no label.*verify"
    ):
        finetune(mine, NAME, "random")
    with pytest.raises(DataError, match="it has no label"):
        evaluate(mine, NAME, torch.nn.Identity(), {"spacing": ()}, ["hippocampus_000"])


def test_what_is_suspicious_about_cases_is_said_before_training(tmp_path):
    root = hippocampus(tmp_path / "data" / NAME, n=6, shape=(24, 24, 24))
    mine = study(tmp_path / "runs", NAME, data=str(tmp_path / "data"))
    first, second = mine.split(NAME).labelled(mine.fold, 1.0, 0)[:2]
    shutil.copy(*(root / "labelsTr" / f"{case}.nii.gz" for case in (first, second)))
    mine = study(tmp_path / "runs", NAME, data=str(tmp_path / "data"))
    with pytest.warns(UserWarning, match=f"{second}.nii.gz: its voxels are those of {first}"):
        finetune(mine, NAME, "random")


def test_other_names_of_classes_are_another_run(tmp_path):
    root = hippocampus(tmp_path / "data" / NAME, n=6)
    rows = json.loads((root / "dataset.json").read_text())["training"]

    def folder(first: str, second: str) -> Path:
        write_manifest(root, rows, labels={"0": "background", "1": first, "2": second})
        mine = study(tmp_path / "runs", NAME, data=str(tmp_path / "data"))
        return run_folder(mine, NAME, "random", 1.0, 0)

    before = folder("Anterior", "Posterior")
    assert folder("anterior", "posterior") == before != folder("Posterior", "Anterior")
