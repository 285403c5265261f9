"""Random initialisation: the baseline that every pretraining has to beat."""

from __future__ import annotations

from gtgm.methods.method import Method

METHOD = Method("random", "random initialisation", "#7F7F7F", None, reported="Random Init")
