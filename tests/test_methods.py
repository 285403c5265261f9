"""Every method: against references, in the training loop, and in two processes as in one."""

from __future__ import annotations

import dataclasses
import math
import re
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.nn import functional as F

from gtgm import methods, pretrain
from gtgm.errors import SettingsError
from gtgm.losses import alignment_targets, vlp_loss, vr_loss
from gtgm.methods.barlow import Barlow
from gtgm.methods.gtgm import GTGM
from gtgm.methods.pcrlv2 import corrupt
from gtgm.methods.vlp import VLP
from gtgm.models.encoder import build_encoder
from gtgm.paths import ROOT
from gtgm.settings import PretrainSettings
from gtgm.text.tower import FrozenText

SIZES = {"features": [4, 8], "strides": [[2, 2, 2], [2, 2, 2]]}
SETTINGS = PretrainSettings(
    patch=(8, 8, 8), batch=8, width=8, embedding=6, sizes=SIZES, precision="no"
)
OBJECTIVES = {
    method.objective.__name__: method.objective
    for method in methods.METHODS.values()
    if method.objective is not None
}


def make(name: str, **options) -> nn.Module:
    torch.manual_seed(0)
    objective = OBJECTIVES[name]
    embeddings = torch.randn(5, 7)  # drawn for all, so that their encoders are equal
    text = FrozenText(embeddings) if issubclass(objective, GTGM | VLP) else None
    settings = dataclasses.replace(SETTINGS, options=options)
    return pretrain.make_objective(objective, build_encoder("unet", 1, **SIZES), settings, text)


CAPTIONS, ONE_CAPTION = [0, 1, 2, 3, 4, 0, 1, 2], [2] * 8


def batch(
    part: slice = slice(None), captions: list[int] = CAPTIONS
) -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(8, 1, 8, 8, 8, generator=generator)[part] for _ in range(2)]
    return views, torch.tensor(captions)[part]


def test_the_registry_has_the_methods_of_the_paper_and_the_controls():
    assert list(methods.METHODS)[0] == "random"
    reported = {m.reported for m in methods.METHODS.values()} - {""}
    assert reported == {"Random Init", "BYOL", "PCRLv2", "GTGM"}
    assert len({m.color for m in methods.METHODS.values()}) == len(methods.METHODS)
    assert all(name == m.name for name, m in methods.METHODS.items())
    with pytest.raises(SettingsError, match="unknown method 'moco'"):
        methods.get("moco")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_reach_the_encoder_and_swapped_views_change_nothing(name):
    exact = {"boxes": 0, "noise": 0.0} if name == "PCRLv2" else {}
    model = make(name, **exact)
    views, captions = batch()
    losses = model(views, captions)
    losses["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoder.parameters())
    swapped = make(name, **exact)(views[::-1], captions)
    for key, value in losses.items():
        assert swapped[key].item() == pytest.approx(value.item(), rel=1e-4), key


def test_gtgm_is_the_weighted_sum_of_its_two_losses():
    views, captions = batch()
    losses = make("GTGM")(views, captions)
    assert losses["loss"].item() == pytest.approx(
        (losses["vlp"] + SETTINGS.weight_vr * losses["vr"]).item()
    )
    model = make("GTGM")
    images = [model.tower(view) for view in views]
    text = model.embed_captions(captions)
    targets = alignment_targets(captions)
    expected = sum(vlp_loss(i, text, 0.07, targets) for i in images) / 2
    assert losses["vlp"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert losses["vr"].item() == pytest.approx(vr_loss(*images).item(), rel=1e-4)
    assert make("VLP")(views, captions)["loss"].item() == pytest.approx(expected.item(), rel=1e-4)
    alone = make("Barlow")(views, captions)
    assert alone["loss"] == alone["vr"]
    assert alone["vr"].item() == pytest.approx(losses["vr"].item(), rel=1e-4)


@pytest.mark.parametrize(("clip_sum", "terms"), [(False, 1), (True, 4)])
@pytest.mark.parametrize("name", ["GTGM", "VLP"])
def test_one_caption_for_the_whole_batch_teaches_nothing(name, clip_sum, terms):
    views, captions = batch(captions=ONE_CAPTION)
    model = make(name)
    model.settings = dataclasses.replace(model.settings, clip_sum=clip_sum)
    vlp = model(views, captions)["vlp"]
    assert vlp.item() == pytest.approx(terms * math.log(len(captions)), rel=1e-6)
    vlp.backward()
    # Zeros, not None: DistributedDataParallel waits for the gradient of every weight.
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("length", [1, 7])
def test_one_caption_leaves_the_visual_loss_whatever_the_words_are(length):
    views, captions = batch()
    encoder = make("GTGM").encoder
    text = FrozenText(torch.randn(1, length))
    model = pretrain.make_objective(GTGM, encoder, SETTINGS, text)
    model.tower.load_state_dict(make("GTGM").tower.state_dict())
    model(views, torch.zeros_like(captions))["loss"].backward()
    alone = make("Barlow")
    (SETTINGS.weight_vr * alone(views, captions)["loss"]).backward()
    for mine, other in zip(model.encoder.parameters(), alone.encoder.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_byol_is_the_squared_distance_to_what_the_copy_sees():
    views, captions = batch()
    model = make("BYOL")
    with torch.no_grad():
        online = [F.normalize(model.predictor(model.tower(v)), dim=1) for v in views]
        target = [F.normalize(model.target(v), dim=1) for v in views]
    expected = sum((online[i] - target[1 - i]).square().sum(1).mean().item() for i in range(2))
    assert make("BYOL")(views, captions)["loss"].item() == pytest.approx(expected, rel=1e-4)


def test_byols_copy_follows_by_its_momentum_and_has_no_gradient():
    model = make("BYOL", momentum=0.9)
    with torch.no_grad():
        for parameter in model.tower.parameters():
            parameter.add_(1.0)
    before = [p.clone() for p in model.target.parameters()]
    model.after_step(0.0)
    for old, new in zip(before, model.target.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.1)
        assert not new.requires_grad
    model.after_step(1.0)  # the momentum has risen to 1: nothing moves
    for old, new in zip(before, model.target.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.1)


def test_simsiam_is_the_mean_of_both_negative_cosines():
    views, captions = batch()
    model = make("SimSiam")
    with torch.no_grad():
        z = [model.tower(v) for v in views]
        p = [model.predictor(x) for x in z]
    cosine = [
        np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(x, y, strict=True)])
        for x, y in ((p[0].numpy(), z[1].numpy()), (p[1].numpy(), z[0].numpy()))
    ]
    found = make("SimSiam")(views, captions)["loss"].item()
    assert found == pytest.approx(-np.mean(cosine), rel=1e-4)


def test_pcrlv2_restores_the_view_at_every_scale():
    views, captions = batch()
    model = make("PCRLv2", boxes=0, noise=0.0)
    with torch.no_grad():
        levels = model.pyramid(torch.cat(views))
        errors = []
        for level, restore in zip(levels, model.restore, strict=True):
            step = 8 // level.shape[2]
            # Resizing to 1/step reads the two voxels in the middle of each block.
            inner = slice(step // 2 - 1, None, step), slice(step // 2, None, step)
            corners = [torch.cat(views)[:, :, z, y, x] for z in inner for y in inner for x in inner]
            wanted = torch.stack(corners).mean(0)
            errors.append((restore(level) - wanted).square().mean().item())
        losses = make("PCRLv2", boxes=0, noise=0.0)(views, captions)
    sizes = [tuple(level.shape[2:]) for level in levels]
    assert sizes == [(2, 2, 2), (4, 4, 4)]
    assert losses["restoration"].item() == pytest.approx(np.mean(errors), rel=1e-4)
    assert -1 <= losses["comparison"].item() <= 1


def test_corruption_paints_boxes_and_leaves_the_rest():
    torch.manual_seed(0)
    views = torch.ones(3, 1, 16, 16, 16)
    painted = (corrupt(views, 1, 0.0) != 1).float().mean((1, 2, 3, 4))
    assert ((painted >= 1 / 8**3) & (painted <= (6 / 16) ** 3)).all()
    assert torch.equal(corrupt(views, 0, 0.0), views)
    assert (views == 1).all()
    assert corrupt(torch.zeros(2, 1, 32, 32, 32), 0, 0.5).std().item() == pytest.approx(
        0.5, rel=0.05
    )


def test_raw_features_of_barlow_leave_no_untrained_head():
    settings = dataclasses.replace(SETTINGS, projected_vr=False)
    model = pretrain.make_objective(Barlow, build_encoder("unet", 1, **SIZES), settings, None)
    model(*batch())["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())


def test_unknown_options_are_refused_with_the_known_ones():
    with pytest.raises(SettingsError, match="momentun.*momentum"):
        make("BYOL", momentun=0.9)
    with pytest.raises(SettingsError, match="no option"):
        make("GTGM", momentum=0.9)


#: Objectives, and the captions of the batch that two processes share. Half of those of the last
#: one are equal: what one process sees alone must not decide.
JOINT = [
    *((name, CAPTIONS) for name in OBJECTIVES),
    ("GTGM", ONE_CAPTION),
    ("VLP", ONE_CAPTION),
    ("GTGM", [2, 2, 2, 2, 0, 1, 2, 3]),
]


def joint_step(
    name: str, captions: list[int], rank: int
) -> tuple[str, float, dict[str, np.ndarray]]:
    """Name of an objective, its loss, and its gradients of a batch that two processes share."""
    exact = {"boxes": 0, "noise": 0.0} if name == "PCRLv2" else {}
    model = nn.parallel.DistributedDataParallel(make(name, **exact))
    loss = model(*batch(slice(4 * rank, 4 * rank + 4), captions))["loss"]
    loss.backward()
    mean = loss.detach().clone()
    torch.distributed.all_reduce(mean)
    gradients = {
        n: p.grad.numpy().copy() for n, p in model.module.named_parameters() if p.requires_grad
    }
    return name, mean.item() / 2, gradients


def worker(rank: int, port: int, queue: mp.Queue) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    for name, captions in JOINT:
        found = joint_step(name, captions, rank)
        if rank == 0:
            queue.put(found)
    # No model may live on: one that holds the last reference to the group can wait for ever for a
    # thread of gloo that needs Python's lock (seen with torch 2.13).
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one_on_the_joined_batch(free_port):
    context = mp.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=worker, args=(r, free_port, queue)) for r in range(2)]
    for process in processes:
        process.start()
    found = [queue.get(timeout=300) for _ in JOINT]
    for process in processes:
        process.join(60)
        code = process.exitcode
        process.kill()
        assert code == 0
    assert [name for name, _, _ in found] == [name for name, _ in JOINT]
    for (name, captions), (_, mean, gradients) in zip(JOINT, found, strict=True):
        exact = {"boxes": 0, "noise": 0.0} if name == "PCRLv2" else {}
        model = make(name, **exact)
        loss = model(*batch(captions=captions))["loss"]
        loss.backward()
        assert mean == pytest.approx(loss.item(), rel=1e-4), name
        for key, gradient in gradients.items():
            expected = dict(model.named_parameters())[key].grad.numpy()
            np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4, err_msg=key)


def test_the_method_of_the_readme_is_one_file_and_one_line(tmp_path):
    """In a copy of the package, since methods are found when it is imported."""
    shutil.copytree(ROOT / "gtgm", tmp_path / "gtgm", ignore=shutil.ignore_patterns("__pycache__"))
    part = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8").split("- **A method**", 1)[1]
    snippet = textwrap.dedent(re.search(r"```python\n(.*?)```", part, re.S).group(1))
    package = tmp_path / "gtgm" / "methods"
    (package / "mine.py").write_text(snippet, encoding="utf-8")
    registry = (package / "__init__.py").read_text(encoding="utf-8")
    line = re.search(r"The line, `(Method\(.*?\),)`", part).group(1)
    (package / "__init__.py").write_text(
        registry.replace("_ALL = (\n", f"_ALL = (\n    {line}\n"), encoding="utf-8"
    )
    code = (
        "import torch; from gtgm.methods import get; from gtgm.pretrain import make_objective\n"
        "from gtgm.models.encoder import build_encoder\n"
        "from gtgm.settings import PretrainSettings\n"
        "settings = PretrainSettings(width=8, embedding=6, options={'strength': 2.0})\n"
        "model = make_objective(get('mine').objective, build_encoder('unet'), settings, None)\n"
        "views = [torch.randn(4, 1, 16, 16, 16)] * 2\n"
        "print(float(model(views, torch.zeros(4, dtype=int))['loss']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == 0  # two equal views
