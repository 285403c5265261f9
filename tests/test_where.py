"""Selection of runs by an expression."""

from __future__ import annotations

import itertools

import pytest

from gtgm.batch.run import Run
from gtgm.batch.units import Unit
from gtgm.batch.where import parse, restrict, select
from gtgm.errors import SettingsError

RUNS = [
    Run(dataset, method, fraction, draw, fold, pool=(dataset,))
    for dataset in ("Task02_Heart", "Task04_Hippocampus")
    for method in ("random", "gtgm", "gtgm-none")
    for fraction in (0.01, 0.1, 1.0)
    for draw in (0, 1)
    for fold in (0, 1)
]


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("dataset=Task02_Heart", lambda r: r.dataset == "Task02_Heart"),
        ("method != 'random'", lambda r: r.method != "random"),
        ("method == gtgm-none", lambda r: r.method == "gtgm-none"),
        ("fraction<=0.1", lambda r: r.fraction in (0.01, 0.1)),
        ("fraction = 10%", lambda r: r.fraction == 0.1),
        ("fraction > 10%", lambda r: r.fraction == 1.0),
        ("fraction >= 1% and fraction < .1", lambda r: r.fraction == 0.01),
        ("fraction in (1%, 1.0)", lambda r: r.fraction != 0.1),
        ('method in (random, "gtgm-none")', lambda r: r.method != "gtgm"),
        ("method not in (random)", lambda r: r.method != "random"),
        ("not fold=1", lambda r: r.fold == 0),
        (
            "fold=0 or draw=1 and method=gtgm",
            lambda r: r.fold == 0 or (r.draw == 1 and r.method == "gtgm"),
        ),
        (
            "(fold=0 or draw=1) and method=gtgm",
            lambda r: (r.fold == 0 or r.draw == 1) and r.method == "gtgm",
        ),
        ("not (fold=0 or draw=1)", lambda r: r.fold == 1 and r.draw == 0),
        ("not fold=0 and draw=1", lambda r: r.fold == 1 and r.draw == 1),
        ("FOLD=0 AND Draw=1", lambda r: r.fold == 0 and r.draw == 1),
        ("seed=0 and profile=demo and backbone=unet and protocol=corrected", lambda r: True),
    ],
)
def test_an_expression_selects_what_it_says(expression, holds):
    assert select(RUNS, expression) == [run for run in RUNS if holds(run)]


def test_nothing_written_selects_everything():
    assert select(RUNS, "") == select(RUNS, "  ") == RUNS


@pytest.mark.parametrize("pair", itertools.product(["fold=0", "draw=1"], ["method=gtgm", "fold=1"]))
def test_the_laws_of_de_morgan(pair):
    a, b = pair
    for one, other in ((f"not ({a} and {b})", f"not {a} or not {b}"),
                       (f"not ({a} or {b})", f"not {a} and not {b}")):  # fmt: skip
        first, second = parse(one), parse(other)
        assert [first(run) for run in RUNS] == [second(run) for run in RUNS]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("datset=Task02_Heart", ["'datset'", "character 1 ", "did you mean 'dataset'"]),
        ("fold=0 and metod=gtgm", ["'metod'", "character 12", "did you mean 'method'"]),
        ("dataset=Task4_Hippocampus", ["character 9", "did you mean 'Task04_Hippocampus'"]),
        ("dataset=task04", ["'task04'", "did you mean 'Task04_Hippocampus'"]),
        ("method=gtgm-nothing", ["a method: random", "'gtgm-none'"]),
        ("dataset<Task02_Heart", ["'<'", "character 8", "= !="]),
        ("fraction=ten", ["'ten'", "0.1 or 10%"]),
        ("fold=10%", ["'10%'", "whole number"]),
        ("fold", ["the end", "character 5", "<="]),
        ("fold=", ["the end", "a value of 'fold'"]),
        ("(fold=0", ["the end", "')'"]),
        ("fold=0)", ["')'", "character 7", "'and', 'or'"]),
        ("fold=0 fold=1", ["'fold'", "character 8"]),
        ("fold in 0", ["'0'", "'(' after 'in'"]),
        ("fold in (0 1)", ["'1'", "',' or ')'"]),
        ("fold not 0", ["'0'", "'in'"]),
        ("fold=0 and", ["the end", "a name"]),
        ("fold=0 & draw=1", ["'&'", "character 8"]),
        ("fold=0 and !draw", ["'!draw'", "character 12"]),
        ("'fold'=0", ["'fold'", "character 1"]),
    ],
)
def test_what_cannot_be_read_is_pointed_at(expression, words):
    with pytest.raises(SettingsError) as caught:
        parse(expression)
    message = str(caught.value)
    assert message.startswith("--where: ")
    assert all(word in message for word in words), message


def test_an_expression_that_selects_nothing_says_what_there_is():
    with pytest.raises(SettingsError, match=r"none of 72 runs.*draw: 0, 1.*"):
        select(RUNS, "draw=7")
    with pytest.raises(SettingsError, match="fraction: 0.01, 0.1, 1"):
        select(RUNS, "fraction=50%")


def test_a_batch_is_restricted_to_selected_runs_their_needs_and_their_tables():
    def unit(name: str, *needs: str, runs=(), notebook="03_x.ipynb") -> Unit:
        return Unit(name, notebook, {}, needs, runs=tuple(runs))

    heart, hippocampus = ([r for r in RUNS if r.dataset == d]
                          for d in ("Task02_Heart", "Task04_Hippocampus"))  # fmt: skip
    units = [
        unit("quick"),
        unit("text"),
        unit("encoder", "text"),
        unit("heart", "encoder", runs=heart),
        unit("hippo", runs=hippocampus),
        unit("table", "heart", "hippo", notebook="table_mri.ipynb"),
        unit("other", "hippo", notebook="table_ct.ipynb"),
    ]
    names = [u.name for u in restrict(units, "dataset=Task02_Heart and draw=0")]
    assert names == ["text", "encoder", "heart", "table"]
    assert restrict(units, "dataset=Task02_Heart")[-1].needs == ("heart",)
    assert restrict(units, "") == units
    with pytest.raises(SettingsError, match="selects none"):
        restrict(units, "draw=9")
