"""The stages of GTGM, as notebooks and the command line call them.

Each call does its work once, leaves it in the study's folder, and reads it from there afterwards.
"""

from gtgm.stages.captioning import caption
from gtgm.stages.finetuning import finetune
from gtgm.stages.neurons import run_neurons
from gtgm.stages.pretraining import pretrain
from gtgm.stages.study import Study

__all__ = ["Study", "caption", "finetune", "pretrain", "run_neurons"]
