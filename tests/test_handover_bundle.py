"""MONAI bundles: run by MONAI, with the labels of `gtgm segment` voxel for voxel."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from handover_runs import PROSTATE, finetuned, neurons, pretrained
from huggingface_hub import ModelCard
from monai.bundle.properties import MetaProperties
from monai.data import DataLoader, MetaTensor
from monai.transforms import LoadImaged, Orientationd

import gtgm
from gtgm.cli import main
from gtgm.errors import DataError, SettingsError, WeightsError
from gtgm.handover.bundle import COMMAND, export_bundle
from gtgm.handover.bundle_parts import LoadVolumed, VolumeReader, VolumeSegmenter, image_items
from gtgm.inference import segment_file
from gtgm.models.segmenter import load_segmenter
from gtgm.versions import PROJECT

TWO = {
    "dataset": PROSTATE,
    "channels": ["T2", "ADC"],
    "classes": ["peripheral zone", "transitional zone"],
}
CT = {"dataset": "Task09_Spleen", "modality": "CT", "channels": ["CT"], "classes": ["spleen"]}


def image(
    path, codes="RAS", channels=1, shape=(20, 18, 14), zooms=(1.0, 0.9, 1.6), turn=0.0, air=0
):
    """A NIfTI image with blobs, stored in an orientation, turned in space by some degrees; the
    first ``air`` sagittal sections are 0."""
    generator = np.random.default_rng(len(path.name))
    values = np.zeros((*shape, channels), np.float32)
    for _ in range(6):
        at = [int(generator.integers(2, n - 4)) for n in shape]
        values[at[0] : at[0] + 5, at[1] : at[1] + 5, at[2] : at[2] + 4] += 60
    values += generator.normal(50, 15, values.shape).astype(np.float32)
    values[:air] = 0
    angle = np.deg2rad(turn)
    affine = np.diag([*zooms, 1.0])
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]] @ np.diag(
        zooms[:2]
    )
    affine[:3, 3] = [3, -7, 11]
    made = nib.Nifti1Image(values if channels > 1 else values[..., 0], affine)
    made.set_sform(affine, 1)
    made.set_qform(affine, 1)
    to = nib.orientations.axcodes2ornt(codes)
    made = made.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(made.affine), to))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(made, path)
    return path


def run_bundle(folder, **given):
    monai.bundle.run(
        config_file=str(folder / "configs" / "inference.json"), bundle_root=str(folder), **given
    )


CASES = {
    "as it is": ({}, [{}]),
    "air": ({}, [{"air": 9, "codes": "LPS"}]),
    "orientations": ({}, [{"codes": "LPS"}, {"codes": "ASL"}, {"turn": 15.0}]),
    "another spacing": ({"spacing": [2.0, 1.3, 1.1]}, [{}, {"codes": "LPI"}, {"turn": 15.0}]),
    "smaller than the window": ({"patch": [32, 16, 24]}, [{"shape": (10, 20, 12)}]),
    "two channels": (TWO, [{"channels": 2}, {"channels": 2, "codes": "PIL"}]),
    "flips": ({"tta_axes": "DW", "overlap": 0.25}, [{}]),
    "CT, bf16": ({**CT, "precision": "bf16"}, [{}]),
    "released window": ({"released_window": True, "windows": 1}, [{}]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_labels_are_those_of_gtgm_segment(tmp_path, case):
    about, images = CASES[case]
    run = finetuned(tmp_path / "run", about)
    folder = export_bundle(run, tmp_path / "bundle")
    seen = set()
    for number, options in enumerate(images):
        image(tmp_path / "images" / f"scan{number}.nii.gz", **options)
    run_bundle(folder, dataset_dir=str(tmp_path / "images"), output_dir=str(tmp_path / "labels"))
    for path in sorted((tmp_path / "images").iterdir()):
        segment_file(path, tmp_path / "expected.nii.gz", run)
        expected = nib.load(tmp_path / "expected.nii.gz")
        labels = nib.load(tmp_path / "labels" / path.name)
        assert np.array_equal(np.asarray(labels.dataobj), np.asarray(expected.dataobj))
        assert labels.header == expected.header and np.array_equal(labels.affine, expected.affine)
        seen |= set(np.unique(np.asarray(labels.dataobj)))
    assert len(seen) > 1  # else anything would agree


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    return export_bundle(finetuned(folder / "run", TWO), folder / "bundle")


def test_a_bundle_has_monais_files_and_no_pickle(bundle):
    files = {f.relative_to(bundle).as_posix() for f in bundle.rglob("*") if f.is_file()}
    assert files == {
        "LICENSE",
        "SHA256SUMS",
        "configs/inference.json",
        "configs/metadata.json",
        "docs/README.md",
        "docs/data_license.txt",
        "models/config.json",
        "models/result.json",
        "models/segmenter.safetensors",
    }
    card = ModelCard.load(bundle / "docs" / "README.md")
    assert card.data.library_name == "monai" and COMMAND in card.text
    assert load_segmenter(bundle / "models")[1]["dataset"] == PROSTATE
    configuration = (bundle / "configs" / "inference.json").read_text()
    assert "/tmp" not in configuration and str(bundle.parent) not in configuration


def test_a_checkout_that_is_not_installed_exports_too(tmp_path, monkeypatch):
    version = importlib.metadata.version

    def of_others(name: str) -> str:
        if name == PROJECT:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("importlib.metadata.version", of_others)
    folder = export_bundle(finetuned(tmp_path / "run", TWO), tmp_path / "bundle")
    said = json.loads((folder / "configs" / "metadata.json").read_text())
    assert said["required_packages_version"][PROJECT] == gtgm.__version__


def test_the_metadata_says_what_monai_asks_for(bundle):
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    for name in ("schema", "version", "changelog", "monai_version", "pytorch_version",
                 "numpy_version", "required_packages_version", "task", "description", "authors",
                 "copyright", "network_data_format"):  # fmt: skip
        assert metadata[name], name
    assert metadata["version"] in metadata["changelog"]
    assert "gtgm-companion" in metadata["required_packages_version"]
    assert metadata["pytorch_version"] == torch.__version__.partition("+")[0]
    formats = metadata["network_data_format"]
    for part in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        assert {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range",
                "is_patch_data", "channel_def"} <= set(part)  # fmt: skip
        assert list(part["channel_def"]) == [str(i) for i in range(part["num_channels"])]
    assert formats["inputs"]["image"]["channel_def"] == {"0": "T2", "1": "ADC"}
    assert formats["outputs"]["pred"]["channel_def"]["2"] == "transitional zone"


def test_monai_finds_every_property_and_the_network_gives_what_the_metadata_says(bundle):
    files = {
        "config_file": str(bundle / "configs" / "inference.json"),
        "meta_file": str(bundle / "configs" / "metadata.json"),
    }
    workflow = monai.bundle.create_workflow(
        workflow_type="inference", bundle_root=str(bundle), **files
    )
    assert workflow.check_properties() == []
    assert all(getattr(workflow, name) for name in MetaProperties)
    assert isinstance(workflow.network_def, torch.nn.Module)
    monai.bundle.verify_net_in_out(net_id="network_def", device="cpu", **files)
    trained, _ = load_segmenter(bundle / "models")
    network = workflow.parser.get_parsed_content("network")
    assert not network.training
    for a, b in zip(network.parameters(), trained.parameters(), strict=True):
        assert torch.equal(a.cpu(), b)


def test_images_have_the_place_in_space_that_monai_gives_them(tmp_path):
    path = image(tmp_path / "scan.nii.gz", codes="PIL", turn=15.0)
    reader = VolumeReader("Task04_Hippocampus", ["MRI"])
    (ours,) = DataLoader([LoadVolumed("image", reader)({"image": path})], batch_size=1)
    monais = LoadImaged("image", ensure_channel_first=True)({"image": path})
    labels = (("L", "R"), ("P", "A"), ("I", "S"))
    monais = Orientationd("image", axcodes="SAR", labels=labels)(monais)["image"]
    assert isinstance(ours["image"], MetaTensor)
    assert torch.equal(ours["image"][0].as_tensor(), monais.as_tensor())
    assert torch.allclose(ours["image"].affine[0], monais.affine, atol=1e-5)
    # Resampled, the corner of the volume stays where it is.
    coarse = LoadVolumed("image", VolumeReader("Task04_Hippocampus", ["MRI"], [3.0, 2.0, 2.0]))
    resampled = coarse({"image": path})["image"]
    corner = torch.tensor([-0.5, -0.5, -0.5, 1.0], dtype=torch.float64)
    assert torch.allclose(resampled.affine @ corner, monais.affine @ corner, atol=1e-5)


def test_the_command_line_of_monai(bundle, tmp_path):
    if importlib.util.find_spec("fire") is None:
        pytest.skip("MONAI's command line needs fire")
    image(tmp_path / "images" / "scan.nii.gz", channels=2)
    command = COMMAND.replace("IMAGES", str(tmp_path / "images"))
    command = command.replace("LABELS", str(tmp_path / "labels"))
    python = [sys.executable, *command.split()[1:]]
    done = subprocess.run(python, cwd=bundle, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    segment_file(tmp_path / "images" / "scan.nii.gz", tmp_path / "one.nii.gz", bundle / "models")
    one, other = nib.load(tmp_path / "one.nii.gz"), nib.load(tmp_path / "labels" / "scan.nii.gz")
    assert np.array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))


def test_bad_images_are_refused_by_name(bundle, tmp_path, evidence):
    def refused(message: str, error=DataError, **given):
        with pytest.raises((error, RuntimeError)) as caught:
            run_bundle(bundle, output_dir=str(tmp_path / "out"), **given)
        chain, seen = caught.value, []
        while chain is not None:
            seen.append(str(chain))
            chain = chain.__cause__ or chain.__context__
        assert any(message in text for text in seen), seen

    evidence("input", "NIfTI", "a MONAI bundle gets an image with one channel for two")
    one = image(tmp_path / "one" / "scan.nii.gz")
    refused("2 channel(s): T2, ADC", datalist=[str(one)])
    evidence("input", "NIfTI", "a MONAI bundle gets two images of one name")
    two = image(tmp_path / "two" / "scan.nii.gz", channels=2)
    refused("occurs more than once", datalist=[str(two), str(one)])
    evidence("input", "NIfTI", "a MONAI bundle gets no image")
    (tmp_path / "macos").mkdir()
    (tmp_path / "macos" / "._scan.nii.gz").write_bytes(b"junk")
    refused("there is no NIfTI image", dataset_dir=str(tmp_path / "macos"))
    refused("there is no NIfTI image", dataset_dir=str(tmp_path / "nowhere"))
    assert not (tmp_path / "out").exists()
    before = two.read_bytes()
    with pytest.raises((DataError, RuntimeError)):
        run_bundle(bundle, datalist=[str(two)], output_dir=str(two.parent))
    assert two.read_bytes() == before


def test_what_cannot_be_a_bundle_is_refused(tmp_path):
    target = tmp_path / "bundle"
    with pytest.raises(WeightsError, match="holds an encoder"):
        export_bundle(pretrained(tmp_path / "pretrain"), target)
    with pytest.raises(WeightsError, match="no segmenter of classes"):
        export_bundle(neurons(tmp_path / "neurons"), target)
    code = finetuned(tmp_path / "run", {"classes": ["$print('run by MONAI')"]})
    with pytest.raises(DataError, match="would be read as an expression"):
        export_bundle(code, target)
    assert not target.exists()
    with pytest.raises(SettingsError, match="hide the GPU|device"):
        VolumeSegmenter([], torch.nn.Identity(), None, None, device="meta")


def test_items_and_the_command(tmp_path, capsys):
    assert image_items(["b/x.nii", "a/y.nii"]) == [{"image": "b/x.nii"}, {"image": "a/y.nii"}]
    run = finetuned(tmp_path / "run", source="phantom", command="gtgm finetune")
    assert main(["export", "bundle", str(run), "--to", str(tmp_path / "bundle")]) == 0
    assert COMMAND in capsys.readouterr().out
    assert not (tmp_path / "bundle" / "docs" / "data_license.txt").exists()
    assert main(["export", "bundle", str(run), "--to", str(tmp_path / "bundle")]) == 1
    assert "delete this one first" in capsys.readouterr().err
