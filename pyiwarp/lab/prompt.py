"""The prompt: its names, its greeting, and how its lines are run, typed or from elsewhere."""

from __future__ import annotations

import ast
import code
from textwrap import fill
from typing import Any, Final

from pyiwarp.codes import AtomicOpcode, Opcode, QueueNumber, Rtr
from pyiwarp.errors import UsageError
from pyiwarp.lab.exercises import EXERCISES, Exercise, Rules, Verdict, rules
from pyiwarp.lab.laboratory import Lab
from pyiwarp.lab.shown import Happened
from pyiwarp.verbs import (
    Access,
    CompareSwap,
    FetchAdd,
    Immediate,
    LocalInvalidate,
    Read,
    Recv,
    RemoteRegion,
    Send,
    Write,
)

__all__ = ["Prompt"]

_VERBS: Final = (
    *(Access, AtomicOpcode, CompareSwap, FetchAdd, Immediate, LocalInvalidate),
    *(Opcode, QueueNumber, Read, Recv, RemoteRegion, Rtr, Send, Write),
)

GREETING: Final = """\
lab.send(b"hello")           the raw peer sends a Send; also lab.write, lab.read
lab.say("00 17 41 43 ...")   it sends octets as they are; lab.frame(...) ULPDUs
peer.untagged(...)           a ULPDU by the fields of the RFC, right or wrong
lab.post(Send(inline=b"x"))  the endpoint's program posts a work request
endpoint.region              its memory; endpoint.state, endpoint.qp
_.fields                     each field of what was said last
rules("RFC 5041 §4.3")       requirements; rules("MSN") those with a word
start(markers=True)          another endpoint; help(start)"""


class Prompt:
    """The names that a learner has, and the laboratory behind them; with `exercise` one of `EXERCISES`.

    Raises `UsageError` if no exercise has this number.
    """

    def __init__(self, exercise: int | None = None) -> None:
        if exercise is not None and exercise not in EXERCISES:
            raise UsageError(f"there is no exercise {exercise}; they are 1 to {max(EXERCISES)}")
        self._exercise: Exercise | None = None if exercise is None else EXERCISES[exercise]
        self._number = exercise
        self.names: dict[str, Any] = {each.__name__: each for each in _VERBS}
        self.names |= {"start": self.start, "rules": self.rules, "answer": self.answer, "__name__": "__main__"}
        self.start()

    def start(self, **options: Any) -> Happened:
        """Begin anew: `lab`, `peer` and `endpoint` are new ones. Returns what startup has led to.

        `startup=False` leaves MPA startup to the raw peer, `initiator=True` makes the endpoint send the Request. The
        others are the endpoint's offer: `markers`, `crc`, `revision`, `ird`, `ord`, `rtr`, `private_data`.
        """
        if self._exercise is not None:
            options = {"startup": self._exercise.startup, "flaw": self._exercise.flaw()} | options
        lab = Lab(**options)
        self.names |= {"lab": lab, "peer": lab.peer, "endpoint": lab.endpoint}
        return lab.began

    def rules(self, words: str) -> Rules:
        """Requirements of a section, `RFC 5041 §4.3`, or those whose id or text has these words."""
        return rules(words)

    def answer(self, id: str) -> Verdict:
        """Whether the endpoint of the exercise breaks this requirement; raises `UsageError` without an exercise."""
        if self._exercise is None:
            raise UsageError("no exercise was begun: pyiwarp lab --exercise 1")
        return self._exercise.judge(id)

    @property
    def greeting(self) -> str:
        """What is printed before the first line is asked for."""
        if self._exercise is None:
            return f"A raw peer and a real endpoint, joined in memory.\n\n{GREETING}\n"
        task = fill(f"Exercise {self._number}: this endpoint breaks one rule. {self._exercise.task}", 79)
        return f"{task}\n\n{GREETING}\nanswer('DDP-5041-4.3-08')    which requirement it breaks\n"

    def run(self, text: str, name: str = "<lab>") -> None:
        """Run lines as if they were typed: the value of each expression is printed.

        Raises what they raise, and `SyntaxError`.
        """
        for statement in ast.parse(text, name).body:
            exec(compile(ast.Interactive([statement]), name, "single"), self.names)

    def interact(self) -> None:
        """Ask for lines until the user ends it: with IPython where it is installed, else with Python's own prompt."""
        try:
            from IPython import start_ipython
        except ImportError:
            _complete(self.names)
            code.interact(self.greeting, local=self.names, exitmsg="")
        else:
            print(self.greeting)
            start_ipython(argv=["--no-banner", "--no-confirm-exit"], user_ns=self.names)


def _complete(names: dict[str, Any]) -> None:
    """Let the Tab key complete names, where Python has readline."""
    try:
        import readline
    except ImportError:
        return
    from rlcompleter import Completer

    readline.set_completer(Completer(names).complete)
    readline.parse_and_bind("tab: complete")
