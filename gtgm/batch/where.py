"""Selection of runs: ``dataset=Task04_Hippocampus and fraction<=10%``."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from gtgm.batch.run import Run
from gtgm.batch.units import Unit
from gtgm.datasets import registry
from gtgm.errors import SettingsError
from gtgm.methods import METHODS
from gtgm.settings import BACKBONES, PROFILES, PROTOCOLS

Predicate = Callable[[Run], bool]


#: Names whose values are words, with the function that lists them.
WORDS: dict[str, Callable[[], Sequence[str]]] = {
    "dataset": registry.names,
    "method": lambda: list(METHODS),
    "backbone": lambda: BACKBONES,
    "protocol": lambda: PROTOCOLS,
    "profile": lambda: PROFILES,
}
NUMBERS = ("fraction", "fold", "draw", "seed")
NAMES = (*WORDS, *NUMBERS)

_COMPARE = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TOKEN = re.compile(
    r"""\s*(?: (?P<text>'[^']*'|"[^"]*") | (?P<sign><=|>=|!=|==|[=<>(),])
           | (?P<word>[^\s'"=<>!(),]+) )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class _Token:
    kind: str  # text, sign, word or end
    value: str
    place: int  # counted from 1

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.value)


def select(runs: Iterable[Run], expression: str) -> list[Run]:
    """The runs for which an expression holds; all of them for an empty one.

    ``name op value`` with ``= != < <= > >=``, ``name in (a, b)`` and ``name not in (a, b)``, joined
    by ``and``, ``or``, ``not`` and parentheses; ``not`` binds strongest, then ``and``. Values may
    be quoted, and a fraction may be in per cent.

    Raises:
        SettingsError: the expression cannot be read (it says where), or selects nothing.
    """
    runs = list(runs)
    if not expression.strip():
        return runs
    holds = parse(expression)
    chosen = [run for run in runs if holds(run)]
    if not chosen:
        values = {n: list(dict.fromkeys(getattr(run, n) for run in runs)) for n in NAMES}
        named = {n: v for n, v in values.items() if n in expression.lower()}
        listed = "; ".join(f"{n}: {', '.join(map(_shown, v))}" for n, v in named.items())
        raise SettingsError(
            f"{expression!r} selects none of {len(runs)} runs",
            where="--where",
            expected=f"values that occur together ({listed})",
        )
    return chosen


def restrict(units: Iterable[Unit], expression: str) -> list[Unit]:
    """Units that hold a selected run, what they need, and the tables that show them.

    Args:
        units: of one batch.
        expression: see :func:`select`; empty for all.

    Raises:
        SettingsError: see :func:`select`.
    """
    units = {unit.name: unit for unit in units}
    if not expression.strip():
        return list(units.values())
    chosen = set(select((run for unit in units.values() for run in unit.runs), expression))
    wanted, waiting = set(), [n for n, unit in units.items() if chosen.intersection(unit.runs)]
    while waiting:
        name = waiting.pop()
        wanted.add(name)
        waiting += [need for need in units[name].needs if need not in wanted]
    kept = []
    for name, unit in units.items():
        needs = tuple(need for need in unit.needs if need in wanted)
        if name in wanted or (unit.rule == "table" and needs):
            kept.append(replace(unit, needs=needs))
    return kept


def parse(expression: str) -> Predicate:
    """The condition that an expression states, see :func:`select`.

    Raises:
        SettingsError: a word is unknown or stands in a wrong place; the message says which one,
            where, and what would fit.
    """
    return _Parser(expression).read()


class _Parser:
    """Recursive descent; one method per level of binding."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.tokens = self._split()
        self.next = 0

    def read(self) -> Predicate:
        holds = self._any()
        if self._now.kind != "end":
            self._fail("'and', 'or' or the end")
        return holds

    @property
    def _now(self) -> _Token:
        return self.tokens[self.next]

    def _split(self) -> list[_Token]:
        tokens, at, text = [], 0, self.expression.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                rest = text[at:].lstrip()
                token = _Token("word", rest, len(text) - len(rest) + 1)
                self._fail("a name, a value or a sign", token)
            kind = match.lastgroup
            value = match[kind].strip("'\"") if kind == "text" else match[kind]
            tokens.append(_Token(kind, "=" if value == "==" else value, match.start(kind) + 1))
            at = match.end()
        return [*tokens, _Token("end", "", len(text) + 1)]

    def _any(self) -> Predicate:
        parts = [self._all()]
        while self._take("or"):
            parts.append(self._all())
        return lambda run: any(part(run) for part in parts)

    def _all(self) -> Predicate:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return lambda run: all(part(run) for part in parts)

    def _one(self) -> Predicate:
        if self._take("not"):
            inner = self._one()
            return lambda run: not inner(run)
        if self._take("("):
            inner = self._any()
            if not self._take(")"):
                self._fail("')'")
            return inner
        return self._comparison()

    def _comparison(self) -> Predicate:
        token = self._now
        if token.kind != "word" or token.value.lower() not in NAMES:
            self._fail(f"a name: {', '.join(NAMES)}", choices=NAMES)
        self.next += 1
        name, turned = token.value.lower(), self._take("not")
        if self._take("in"):
            values = self._list(name)
            return lambda run: turned != any(_equal(getattr(run, name), v) for v in values)
        signs = list(_COMPARE) if name in NUMBERS else ["=", "!="]
        if turned or self._now.kind != "sign" or self._now.value not in signs:
            self._fail("'in'" if turned else f"{' '.join(signs)} or 'in' after {name!r}")
        sign = self._now.value
        self.next += 1
        value = self._value(name)
        if sign in ("=", "!="):
            return lambda run: (sign == "=") == _equal(getattr(run, name), value)
        # 10 % must not be above 0.1 for the sake of a last digit.
        return lambda run: (
            "=" in sign
            if _equal(getattr(run, name), value)
            else _COMPARE[sign](getattr(run, name), value)
        )

    def _list(self, name: str) -> list[str | float]:
        if not self._take("("):
            self._fail("'(' after 'in'")
        values = [self._value(name)]
        while self._take(","):
            values.append(self._value(name))
        if not self._take(")"):
            self._fail("',' or ')'")
        return values

    def _value(self, name: str) -> str | float:
        token = self._now
        if token.kind not in ("word", "text"):
            self._fail(f"a value of {name!r}")
        if name in WORDS:
            known = list(WORDS[name]())
            if token.value not in known:
                self._fail(f"a {name}: {', '.join(known)}", choices=known)
            self.next += 1
            return token.value
        number = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(%?)", token.value)
        if not number or (number[2] and name != "fraction"):
            self._fail("a share such as 0.1 or 10%" if name == "fraction" else "a whole number")
        self.next += 1
        return float(number[1]) / (100 if number[2] else 1)

    def _take(self, value: str) -> bool:
        """Pass over a keyword or sign if it comes next; quoted text is neither."""
        found = self._now.kind != "text" and self._now.value.lower() == value
        self.next += found
        return found

    def _fail(
        self, expected: str, token: _Token | None = None, choices: Sequence[str] = ()
    ) -> NoReturn:
        token = token or self._now
        begun = [c for c in choices if token.value and c.lower().startswith(token.value.lower())]
        close = begun or difflib.get_close_matches(token.value, choices, 1)
        raise SettingsError(
            f"cannot be read at {token} (character {token.place} of {self.expression!r})",
            where="--where",
            expected=expected,
            fix=f"did you mean {close[0]!r}" if close else None,
        )


def _equal(found: str | float, wanted: str | float) -> bool:
    if isinstance(wanted, str):
        return found == wanted
    return math.isclose(found, wanted, rel_tol=1e-9)


def _shown(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"
