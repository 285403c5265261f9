"""Settings, parameters and conditions that make no sense are refused by name, before any work."""

from __future__ import annotations

import string
from pathlib import Path

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtgm.batch.where import select
from gtgm.cli import _changes, main
from gtgm.errors import GTGMError, SettingsError
from gtgm.setting_checks import check_parameters
from gtgm.settings import STAGES, from_dict, preset
from gtgm.stages import Study

NAME = "Task04_Hippocampus"
#: STAGE.NAME=VALUE as it is typed after --set, and a word of the reason.
CHANGES = {
    "pretrain.steps=0": "steps",
    "pretrain.steps=-5": "steps",
    "pretrain.steps=many": "steps",
    "pretrain.steps=2.5": "steps",
    "pretrain.steps=1e3": "steps",
    "pretrain.steps=None": "steps",
    "pretrain.steps=True": "steps",
    "pretrain.steps=[5]": "steps",
    "pretrain.batch=1": "batch",
    "pretrain.lr=0": "lr",
    "pretrain.lr=-1e-3": "lr",
    "pretrain.lr=fast": "lr",
    "pretrain.lr=1e999": "lr",
    "pretrain.temperature=0": "temperature",
    "pretrain.temperature=-0.07": "temperature",
    "pretrain.weight_decay=-1": "weight_decay",
    "pretrain.weight_vr=-0.1": "weight_vr",
    "pretrain.patch=32": "patch",
    "pretrain.patch=(32, 32)": "patch",
    "pretrain.patch=(0, 32, 32)": "patch",
    "pretrain.patch=(-8, 32, 32)": "patch",
    "pretrain.patch=('a', 'b', 'c')": "patch",
    "pretrain.flip_axes=X": "flip_axes",
    "pretrain.flip_axes=WW": "flip_axes",
    "pretrain.flip_axes=['W']": "flip_axes",
    "pretrain.precision=fp4": "precision",
    "pretrain.schedule=linear": "schedule",
    "pretrain.volumes=cloud": "volumes",
    "pretrain.held_out=0": "held_out",
    "pretrain.held_out=0.9": "held_out",
    "pretrain.workers=-1": "workers",
    "pretrain.chunk=-1": "chunk",
    "pretrain.text_layers=-1": "text_layers",
    "pretrain.operations=-1": "operations",
    "pretrain.checkpoint_every=0": "checkpoint_every",
    "pretrain.sizes=3": "sizes",
    "pretrain.stepz=5": "did you mean 'steps'",
    "finetune.steps=0": "steps",
    "finetune.batch=0": "batch",
    "finetune.lr=0": "lr",
    "finetune.ema=1": "ema",
    "finetune.ema=-0.1": "ema",
    "finetune.overlap=1.0": "overlap",
    "finetune.foreground=1.5": "foreground",
    "finetune.spacing=(1, 1)": "spacing",
    "finetune.spacing=(0, 1, 1)": "spacing",
    "finetune.tta_axes=Q": "tta_axes",
    "finetune.augmentation=wild": "augmentation",
    "finetune.windows=0": "windows",
    "finetune.rotate=-5": "rotate",
    "finetune.decoder_first=1": "decoder_first",
    "text.cases=-1": "cases",
    "text.captioner_steps=0": "captioner_steps",
    "text.image_size=0": "image_size",
    "text.axes=Z": "axes",
    "text.grid_step=(8, 8)": "grid_step",
    "text.captioner=3": "captioner",
    "neurons.steps=0": "steps",
    "neurons.loss=hinge": "loss",
    "neurons.optimiser=sgdx": "optimiser",
    "neurons.offsets=[[0, 0, 0]]": "offset",
    "neurons.postprocessing=['magic']": "postprocessing",
    "neurons.patch=(8, 8)": "patch",
    "neurons.learning_rate=0": "learning_rate",
    "neurons.ema=1": "ema",
    "neurons.boundary=-1": "boundary",
    "training.steps=5": "unknown stage",
    "steps=5": "cannot be read",
    "pretrain.steps": "cannot be read",
    "=5": "cannot be read",
    "": "cannot be read",
    "pretrain.=5": "unknown setting",
    "pretrain.__class__=5": "unknown setting",
    "pretrain.steps=__import__('os').getcwd()": "steps",
}


@pytest.mark.parametrize("change", CHANGES)
def test_broken_changes(change, evidence):
    evidence("input", "setting", change.replace("|", "/") or "nothing")
    with pytest.raises(SettingsError, match=CHANGES[change]) as caught:
        Study((NAME,), changes=_changes([change]))
    assert caught.value.expected


STUDIES = {
    "no dataset": {"datasets": ()},
    "unknown dataset": {"datasets": ("Task99_Soul",)},
    "dataset with a path": {"datasets": ("../../etc",)},
    "unknown profile": {"profile": "huge"},
    "unknown protocol": {"protocol": "as_wished"},
    "unknown backbone": {"backbone": "vgg"},
    "unknown method": {"method": "magic"},
    "views that flip what captions name": {"changes": {"pretrain": {"flip_axes": "D"}}},
    "changes of a stage that is none": {"changes": {"dream": {}}},
}


@pytest.mark.parametrize("name", STUDIES)
def test_broken_studies(name, evidence):
    evidence("input", "study", name)
    with pytest.raises(SettingsError) as caught:
        Study(**{"datasets": (NAME,), **STUDIES[name]})
    assert caught.value.expected


CONDITIONS = [
    "", "   x", "dataset", "dataset=", "=5", "dataset==", "fold=a", "fold<", "fraction<=ten",
    "fraction<=5%%", "colour=red", "dataset=Task99_Soul", "(fold=0", "fold=0)", "fold=0 and",
    "or fold=0", "fold=0 fold=1", "not", "fold in 0", "fold in (0", "fold in ()", "fold in (0,)",
    "method in (random, magic)", "dataset<Task04_Hippocampus", "fold=0; import os", "fold='0",
    "fold=__import__('os')", "draw=1.5.2", "backbone=unet and ()",
]  # fmt: skip


@pytest.mark.parametrize("condition", CONDITIONS[1:])
def test_broken_conditions(condition, evidence):
    evidence("input", "condition of --where", condition)
    with pytest.raises(SettingsError, match="--where") as caught:
        select([], condition)
    assert caught.value.expected


COMMANDS = {
    "a fraction of zero": ("finetune", NAME, "--fraction", "0"),
    "a fraction above one": ("finetune", NAME, "--fraction", "10"),
    "a fold that is none": ("finetune", NAME, "--fold", "7"),
    "a negative draw": ("finetune", NAME, "--draw", "-1"),
    "a data folder that is none": ("finetune", NAME, "--data", "/no/such/folder"),
    "pretraining of no method": ("pretrain", NAME, "--method", "random"),
    "weights that are none": ("evaluate", NAME, "--weights", "/no/such/folder"),
    "an image that is none": ("segment", "/no/scan.nii.gz", "out.nii.gz", "--weights", "/no"),
    "a folder of results that is none": ("publish", "/no/such/run"),
    "weights of a run that is none": ("export", "weights", "/no/run", "--to", "x"),
    "a table that is none": ("reproduce", "--tables", "pet", "--dry-run"),
    "no job": ("reproduce", "--jobs", "0", "--dry-run"),
    "a cluster that is none": ("reproduce", "--cluster", "/no/profile", "--dry-run"),
    "a download of nothing": ("data", "get", "Task99_Soul"),
    "verification of nothing": ("data", "verify", "Task99_Soul"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_broken_commands(name, tmp_path, monkeypatch, capsys, evidence):
    evidence("input", "command", name)
    monkeypatch.chdir(tmp_path)
    runs = ["--runs", str(tmp_path / "runs")] if COMMANDS[name][0] == "finetune" else []
    assert main([*COMMANDS[name], *runs]) == 1
    error = capsys.readouterr().err.replace("\r", "\n")
    (line,) = [part for part in error.split("\n") if part.startswith("gtgm: ")]
    assert "Traceback" not in error and ("Expected" in line or "What to do" in line)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(string.printable, max_size=8)
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("stage", STAGES)
@settings(max_examples=300)
@given(data=st.data())
def test_whatever_a_setting_is_given_is_taken_or_refused(stage, data):
    """No other error, and what is taken can be given again."""
    defaults = preset(stage)
    name = data.draw(st.sampled_from(sorted(vars(defaults))))
    value = data.draw(ANYTHING)
    try:
        taken = from_dict(STAGES[stage], {name: value})
    except GTGMError as error:
        assert name in str(error)
    else:
        assert from_dict(STAGES[stage], vars(taken)) == taken or value != value


@settings(max_examples=500)
@given(
    condition=st.lists(
        st.sampled_from(
            ["fold", "dataset", "method", "fraction", "=", "!=", "<", "<=", "in", "not", "and",
             "or", "(", ")", ",", "0", "10%", "gtgm", NAME, "'", "\\", "é", "\n"]
        ),
        max_size=9,
    )
)  # fmt: skip
def test_whatever_stands_after_where_is_taken_or_refused(condition):
    try:
        select([], " ".join(condition))
    except SettingsError as error:
        assert "--where" in str(error)


def test_no_path_of_a_setting_is_followed(tmp_path: Path):
    """A name that leads elsewhere is no dataset, whatever lies there."""
    (tmp_path / "Task04_Hippocampus").mkdir()
    with pytest.raises(SettingsError, match="no dataset"):
        Study((f"../{tmp_path.name}/Task04_Hippocampus",))


def cells(notebook: Path) -> tuple[str, list[str]]:
    """The parameters of a notebook, and the cells with code behind them."""
    every = [c for c in nbformat.read(notebook, 4).cells if c.cell_type == "code"]
    first = next(i for i, c in enumerate(every) if "parameters" in c.metadata.get("tags", []))
    return every[first].source, [c.source for c in every[first + 1 :]]


def many_valued() -> list:
    """Every list and dictionary among the parameters of every notebook."""
    found = []
    for path in sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb")):
        exec(cells(path)[0], values := {})
        found += [
            pytest.param(path, name, id=f"{path.stem}-{name}")
            for name, value in values.items()
            if name != "__builtins__" and isinstance(value, list | dict)
        ]
    return found


@pytest.mark.parametrize(("notebook", "name"), many_valued())
def test_notebooks_refuse_a_parameter_of_another_type_at_once(notebook, name):
    parameters, (first, *_) = cells(notebook)
    kind = "dictionary" if name == "changes" else "list"
    for value, said in ((0, "a number"), ("[0.1]", r"the text '\[0.1\]'")):
        exec(parameters, namespace := {})
        namespace[name] = value
        code = "\n".join(line for line in first.splitlines() if not line.startswith("%"))
        with pytest.raises(
            SettingsError, match=f"`{name}` is {said}.*a {kind} such as .*-y '{name}"
        ):
            exec(code, namespace)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fractions": ["0.1"]}, r"`fractions` holds the text '0.1'\. Expected: .* \[0.1\]"),
        ({"draws": [True]}, "`draws` holds True"),
        ({"methods": [["gtgm"]]}, "`methods` holds a list"),
        ({"rows": {2: 3}}, "`rows` is a dictionary"),
        ({"changes": {"pretrain": 5}}, "`changes` holds a number.*{'pretrain': {'steps': 100}}"),
        ({"pool": None}, "`pool` is None"),
    ],
)
def test_what_is_in_a_list_or_dictionary_is_looked_at_too(given, message):
    with pytest.raises(SettingsError, match=message):
        check_parameters(**given)


def test_right_parameters_pass_and_a_study_looks_at_its_own():
    check_parameters(pool=[], fractions=[0.1, 1], draws=[2, [0, 3]], changes={}, rows=(2,))
    for wrong in ({"datasets": 5}, {"datasets": (NAME,), "changes": {"pretrain": 5}}):
        with pytest.raises(SettingsError, match="a number"):
            Study(**wrong)
