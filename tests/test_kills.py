"""Whatever a stage is doing when it is killed, the next start ends as if nothing had happened."""

from __future__ import annotations

import shutil
import signal

import kills
import pytest

POINTS = {
    "phantoms": {
        "while the cases are written": "call nibabel save 5",
        "while the EM volume is written": "write *.hdf 1 half",
    },
    "preprocessing": {
        "while the second volume is stored": "write image.npy 2 half",
        "between a volume and its record": "write stored.json 2 begun",
        "after a volume is stored": "write stored.json 3 named",
    },
    "captioning": {
        "while the captioner is trained": "call torch.nn.utils clip_grad_norm_ 3",
        "between weights and record of the captioner": "write training.json 1 begun",
        "while the captions of a case are written": "write *.jsonl 2 half",
        "after the captions of a case": "write *.jsonl 3 named",
        "while the text encoder is trained": "call gtgm.text.encoder make_schedule 1",
        "while the embeddings are written": "write embeddings.safetensors 1 half",
        "before the result": "write result.json 1 begun",
    },
    "pretraining": {
        "in the second step": "call gtgm.pretrain make_view 6",
        "while the first checkpoint is written": "write checkpoint.pt 1 half",
        "after the first checkpoint": "write checkpoint.pt 1 named",
        "between two checkpoints": "call gtgm.pretrain make_view 8",
        "while the encoder is written": "write encoder.safetensors 1 half",
        "between encoder and heads": "write heads.safetensors 1 begun",
        "while the result is written": "write result.json 1 half",
    },
    "fine-tuning": {
        "in the second step": "call gtgm.finetune _draw 2",
        "while the first checkpoint is written": "write checkpoint.pt 1 half",
        "between two checkpoints": "call gtgm.finetune _draw 4",
        "after the second checkpoint": "write checkpoint.pt 2 named",
    },
    "evaluation": {
        "before the first case": "call gtgm.stages.finetuning segment_volume 1",
        "while a prediction is written": "write *.nii.gz 2 half",
        "while the segmenter is written": "write segmenter.safetensors 1 half",
        "between segmenter and settings": "write config.json 1 begun",
        "while the example is kept": "write example-*.npz 1 half",
        "before the result": "write result.json 1 begun",
    },
    "neurons": {
        "between two checkpoints": "call gtgm.neurons.training draw_batch 4",
        "while affinities are predicted": "call gtgm.stages.neurons predict_affinities 2",
        "while the threshold is chosen": "call gtgm.neurons.postprocess choose 1",
        "while the volumes are written": "write test_sections.safetensors 1 half",
        "before the result": "write result.json 1 begun",
    },
}
#: What the next start must not do again: a trap that would kill it, too.
NOT_AGAIN = {
    ("captioning", "after the captions of a case"): "write *.jsonl 4 begun",
    ("pretraining", "after the first checkpoint"): "call gtgm.pretrain make_view 11",
    ("pretraining", "between two checkpoints"): "call gtgm.pretrain make_view 11",
    ("pretraining", "while the encoder is written"): "call gtgm.pretrain make_view 3",
    ("pretraining", "while the result is written"): "call gtgm.pretrain make_view 3",
    ("fine-tuning", "between two checkpoints"): "call gtgm.finetune _draw 5",
    ("fine-tuning", "after the second checkpoint"): "call gtgm.finetune _draw 3",
    ("evaluation", "before the first case"): "call gtgm.finetune _draw 1",
    ("evaluation", "while a prediction is written"): "call gtgm.finetune _draw 1",
    ("evaluation", "before the result"): "call gtgm.finetune _draw 1",
    ("neurons", "between two checkpoints"): "call gtgm.neurons.training draw_batch 5",
    ("neurons", "while affinities are predicted"): "call gtgm.neurons.training draw_batch 1",
    ("neurons", "while the volumes are written"): "call gtgm.neurons.training draw_batch 1",
    ("neurons", "before the result"): "call gtgm.neurons.training draw_batch 1",
}
ALL = [(stage, name) for stage, points in POINTS.items() for name in points]


@pytest.mark.parametrize(("stage", "name"), ALL, ids=[f"{s}: {n}" for s, n in ALL])
def test_a_killed_stage_ends_as_if_it_had_not_been_killed(whole, stage, name, tmp_path, evidence):
    evidence("kill", stage, name)
    wanted, before, runs = whole(stage), kills.BEFORE.get(stage), tmp_path / "runs"
    if before:
        shutil.copytree(whole(before), runs)
    assert kills.run(stage, runs, POINTS[stage][name]) == -signal.SIGKILL
    assert kills.run(stage, runs, NOT_AGAIN.get((stage, name), "")) == 0
    assert kills.outputs(runs) == kills.outputs(wanted)


def test_a_stage_survives_one_kill_after_another(whole, tmp_path, evidence):
    evidence("kill", "fine-tuning", "four times in one run")
    runs = tmp_path / "runs"
    shutil.copytree(whole("pretraining"), runs)
    for point in (
        "call gtgm.finetune _draw 4",
        "write checkpoint.pt 1 half",
        "write checkpoint.pt 1 named",
        "write *.nii.gz 1 half",
    ):
        assert kills.run("fine-tuning", runs, point) == -signal.SIGKILL
    assert kills.run("fine-tuning", runs) == 0
    assert kills.outputs(runs) == kills.outputs(whole("fine-tuning"))
