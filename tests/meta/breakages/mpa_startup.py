"""Breakages of MPA: the rules of startup (RFC 5044 sections 7.1 and 7.1.2 to 7.1.5)."""

from __future__ import annotations

from typing import Final

from tests.meta.breakages.mutation import Mutation, Replacement

MUTATIONS: Final = (
    Mutation(
        "an Initiator takes one octet behind the Reply",
        "startup",
        "STARTUP_HEADER_SIZE + (role is Role.RESPONDER))",
        "STARTUP_HEADER_SIZE + 1)",
        (
            "MPA-5044-7.1-01",
            "MPA-5044-7.1.2-10",
        ),
    ),
    Mutation(
        "an Initiator too waits for an FPDU before it speaks",
        "engine/sending",
        "self._mute = agreement.role is Role.RESPONDER",
        "self._mute = True",
        (
            "MPA-5044-7.1-02",
            "MPA-5044-7.1.2-15",
        ),
    ),
    Mutation(
        "an Initiator waits to be spoken to",
        "startup",
        "        out, self._out = self._out, []\n",
        (
            "        if self.role is Role.INITIATOR and not self._have:\n"
            "            return []\n"
            "        out, self._out = self._out, []\n"
        ),
        ("MPA-5044-7.1.2-01",),
    ),
    Mutation(
        "a Request carries no Private Data",
        "startup",
        "self._out.append(_frame(offer.revision, word, offer.private_data,",
        'self._out.append(_frame(offer.revision, word, b"",',
        ("MPA-5044-7.1.2-02",),
    ),
    Mutation(
        "a Request is taken before its Private Data has come",
        "startup",
        "        if self._have == self._size:\n            self._finish",
        "        if self._have >= STARTUP_HEADER_SIZE:\n            self._finish",
        (
            "MPA-5044-7.1.2-03",
            "MPA-5044-7.1.2-12",
        ),
    ),
    Mutation(
        "TCP stays open after a bad frame",
        "startup",
        "return self.state is StartupState.FAILED or (",
        "return (",
        (
            "MPA-5044-7.1.2-04",
            "MPA-5044-7.1.2-13",
            "MPA-5044-7.1.2-17",
            "MPA-5044-8-07",
        ),
    ),
    Mutation(
        "a bad frame is answered",
        "startup",
        "        self._out.clear()  # MPA",
        '        self._out.append(_frame(1, None, b"", reply=True, crc=True, rejected=True))  # MPA',
        (
            "MPA-5044-7.1.2-04",
            "MPA-5044-7.1.2-17",
        ),
    ),
    Mutation(
        "a rejecting Reply carries no Private Data",
        "startup",
        "_frame(request.revision, word, private_data, reply=True",
        '_frame(request.revision, word, b"", reply=True',
        ("MPA-5044-7.1.2-06",),
    ),
    Mutation(
        "TCP is closed at once after a rejection",
        "startup",
        "return self.state is StartupState.FAILED or (",
        "return self.state in (StartupState.FAILED, StartupState.REJECTED) or (",
        (
            "MPA-5044-7.1.2-07",
            "MPA-5044-7.1.2-14",
        ),
    ),
    Mutation(
        "an accepting Reply carries no Private Data",
        "startup",
        "_frame(request.revision, word, offer.private_data, reply=True",
        '_frame(request.revision, word, b"", reply=True',
        ("MPA-5044-7.1.2-09",),
    ),
    Mutation(
        "what comes right after the Reply is refused",
        "startup",
        "        self._move(StartupInput.ACCEPT)\n",
        "",
        ("MPA-5044-7.1.2-10",),
    ),
    Mutation(
        "octets behind the Request are overlooked",
        "startup",
        "        if self.state is StartupState.DECIDING:\n",
        "        if False:\n",
        ("MPA-5044-7.1.2-11",),
    ),
    Mutation(
        "an Initiator's first FPDU follows its Request at once",
        "startup",
        ("self._out.append(_frame(offer.revision, word, offer.private_data, markers=offer.markers, crc=offer.crc))"),
        (
            "self._out.append(_frame(offer.revision, word, offer.private_data, markers=offer.markers,"
            " crc=offer.crc))\n"
            '            self._out.append(bytes.fromhex("000EC140000000010000000000000000EBD34C5F"))'
        ),
        (
            "MPA-5044-7.1.2-11",
            "MPA-5044-7.1.2-12",
        ),
    ),
    Mutation(
        "an Initiator takes an accepting Reply for a rejecting one",
        "startup",
        "(StartupState.AWAIT_REPLY, StartupInput.ACCEPTING_REPLY): StartupState.ACCEPTED",
        "(StartupState.AWAIT_REPLY, StartupInput.ACCEPTING_REPLY): StartupState.REJECTED",
        (
            "MPA-5044-7.1.2-15",
            "MPA-5044-7.1.2-12",
        ),
    ),
    Mutation(
        "the Responder speaks first",
        "engine/sending",
        "self._mute = agreement.role is Role.RESPONDER",
        "self._mute = False",
        ("MPA-5044-7.1.2-16",),
    ),
    Mutation(
        "octets that are no good FPDU let the Responder speak",
        "engine/stream",
        "        self.deframer.received(nbytes)\n",
        "        self.deframer.received(nbytes)\n        self._mute = False\n",
        (
            "MPA-5044-7.1.2-16",
            "MPA2-6581-9.2-19",
        ),
    ),
    Mutation(
        "a Responder that was not spoken to sends a Terminate",
        "engine/stream",
        "        if not self._mute:  # wire",
        "        if True:  # wire",
        ("MPA-5044-7.1.2-16",),
        (
            Replacement(
                "engine/sending",
                "        if not self._mute:\n            self._fill(out)",
                "        if not self._mute or self._terminates:\n            self._fill(out)",
            ),
        ),
    ),
    Mutation(
        "small messages of a Responder do not wait for the first FPDU",
        "engine/sending",
        "self._messages or self._answers or self._mute)",
        "self._messages or self._answers)",
        ("MPA-5044-7.1.2-16",),
    ),
    Mutation(
        "no FPDU lets the Responder speak on the plain way",
        "engine/stream",
        "                self._mute = False  # one FPDU",
        "                # one FPDU",
        (
            "MPA-5044-7.1.2-16",
            "MPA2-6581-9.2-19",
        ),
    ),
    Mutation(
        "a Responder waits for the Request for ever",
        "startup",
        'return TimeLimit("the MPA Request", seconds)',
        "return None",
        (
            "MPA-5044-7.1.2-22",
            "MPA-5044-7.1.2-27",
        ),
    ),
    Mutation(
        "Private Data gets a buffer of 255 octets",
        "startup",
        "self._frame + bytes(pd_length)",
        "self._frame + bytes(min(pd_length, 255))",
        ("MPA-5044-7.1.2-24",),
    ),
    Mutation(
        "Private Data is all that the buffer holds",
        "startup",
        "bytes(self._frame[STARTUP_HEADER_SIZE : self._size])",
        "bytes(self._frame[STARTUP_HEADER_SIZE:])",
        (
            "MPA-5044-7.1.2-25",
            "MPA-5044-7.1.1-22",
        ),
    ),
    Mutation(
        "the Request is waited for for ever",
        "startup",
        'return TimeLimit("the MPA Request", seconds)',
        "return None",
        ("MPA-5044-7.1.2-27",),
    ),
    Mutation(
        "an Initiator waits for the Reply for ever",
        "startup",
        'return TimeLimit("the MPA Reply", seconds)',
        "return None",
        ("MPA-5044-7.1.2-27",),
    ),
    Mutation(
        "each octet of a Request begins the wait anew",
        "startup",
        'return TimeLimit("the MPA Request", seconds)',
        'return TimeLimit("the MPA Request", seconds, self._have)',
        ("MPA-5044-7.1.2-27",),
    ),
    Mutation(
        "each octet of a Reply begins the wait anew",
        "startup",
        'return TimeLimit("the MPA Reply", seconds)',
        'return TimeLimit("the MPA Reply", seconds, self._have)',
        ("MPA-5044-7.1.2-27",),
    ),
    Mutation(
        "a Responder waits for the first FPDU for ever",
        "queues/qp_pump",
        "if stream.muted and",
        "if False and",
        ("MPA-5044-7.1.2-28",),
    ),
    Mutation(
        "a Responder's limit on the wait for the first FPDU is lost",
        "startup",
        ("            first_fpdu_timeout=offer.first_fpdu_timeout,\n        )\n        return self.agreement, reply"),
        "        )\n        return self.agreement, reply",
        ("MPA-5044-7.1.2-28",),
    ),
    Mutation(
        "the end of a connection is waited for for ever",
        "queues/qp_pump",
        "        if self._ending and not self._over:\n            # each",
        "        if False:\n            # each",
        ("MPA-5044-7.1.2-28",),
    ),
    Mutation(
        "startup frames are padded",
        "wire",
        '"RFC 5044 §7.1.1") + frame.private_data',
        '"RFC 5044 §7.1.1") + frame.private_data + bytes(-len(frame.private_data) % 4)',
        ("MPA-5044-7.1-05",),
    ),
    Mutation(
        "a startup frame must not come in pieces",
        "startup",
        "            self._check_key_so_far()\n            return\n",
        (
            "            self._check_key_so_far()\n"
            "            if self._have < 16:\n"
            '                raise MalformedStartup("in pieces")\n'
            "            return\n"
        ),
        (
            "MPA-5044-7.1.5-03",
            "MPA-5044-7.1-01",
        ),
    ),
    Mutation(
        "a queue pair takes octets before it is connected",
        "queues/qp_pump",
        ('            raise WrongState(f"the queue pair was never connected: {self!r}")\n        return self._stream'),
        (
            "            from pyiwarp.mpa import Discarder\n"
            "\n"
            "            return Discarder(0)\n"
            "        return self._stream"
        ),
        ("MPA-5044-7.1-06",),
    ),
)

UNBROKEN: Final[dict[str, str]] = {}
