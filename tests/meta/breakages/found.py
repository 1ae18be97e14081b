"""Breakages that were found by reading, of which most break no rule of an RFC; each with a test that notices it."""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.meta.breakages.mutation import Mutation

__all__ = ["FOUND", "Found"]


class Found(NamedTuple):
    """One breakage, as a `Mutation` has it, and the test."""

    name: str
    module: str
    old: str
    new: str
    test: str

    @property
    def mutation(self) -> Mutation:
        """As the trials take it."""
        return Mutation(self.name, self.module, self.old, self.new, ())


FOUND: Final = (
    Found(
        "small messages pass the capture by",
        "drivers/asyncio_driver",
        (
            "            or self._tap is not None\n"
            "            or transport is None\n"
            "            or transport.is_closing()\n"
            "        ):\n"
            "            return NOT_NOW\n"
            "        self._written += 1\n"
            "        self._burst = True\n"
            "        transport.write(octets)\n"
        ),
        (
            "            or transport is None\n"
            "            or transport.is_closing()\n"
            "        ):\n"
            "            return NOT_NOW\n"
            "        self._written += 1\n"
            "        self._burst = True\n"
            "        transport.write(octets)\n"
        ),
        "tests/unit/test_asyncio_driver.py::test_who_looks_at_the_octets_sees_small_messages_as_batches_and_the_end",
    ),
    Found(
        "a pipe that does not wait is left so",
        "capture",
        "            os.set_blocking(path, True)",
        "            pass",
        "tests/unit/test_capture.py::test_a_pipe_that_does_not_wait_does_so_from_now_on",
    ),
    Found(
        "the state after a failed put is said to be known",
        "cli/transfers",
        '"whether the server stored it is not known" if client.committed else',
        '"the server has stored nothing" if client.committed else',
        "tests/unit/test_cli_transfers.py::test_what_is_said_of_a_transfer_that_failed",
    ),
    Found(
        "a polled listener offers an Initiator that has left",
        "cm/polling_cm",
        (
            "            if self._reception.take(request):  # else its Initiator has left\n"
            "                return request\n"
            "        return None"
        ),
        ("            return request\n        return None"),
        "tests/integration/test_late_requests.py::test_an_initiator_that_has_left_a_polled_listener_is_not_offered",
    ),
    Found(
        "the program's own on_ended is forgotten",
        "cm/identifiers",
        ("            before()\n            self._on_ended()"),
        "            self._on_ended()",
        "tests/integration/test_cm_corners.py::test_a_program_that_looks_for_the_end_itself_is_told_too",
    ),
    Found(
        "a case that takes too long is an error",
        "conformance/runner",
        'verdict=Verdict.FAILED, expected="an end"',
        'verdict=Verdict.ERROR, expected="an end"',
        "tests/conformance/test_runner.py::test_a_case_that_does_not_end_has_failed",
    ),
    Found(
        "a stopped run that has not begun runs",
        "conformance/runner",
        ("        if self._stopped:\n            self._work.cancel()\n        try"),
        "        try",
        "tests/conformance/test_runner.py::test_a_run_that_is_stopped_before_it_begins_runs_nothing",
    ),
    Found(
        "what a case has not looked at is not judged",
        "conformance/runner",
        "            bench.judge_rest()\n",
        "",
        "tests/conformance/test_runner.py::test_what_a_case_has_not_looked_at_is_judged_at_its_end",
    ),
    Found(
        "more is waited for from a queue that overflowed",
        "blocking",
        "len(cq) >= count or cq.overflowed, timeout",
        "len(cq) >= count, timeout",
        "tests/unit/test_cq.py::test_nobody_waits_for_more_from_a_queue_that_overflowed",
    ),
    Found(
        "InvalidMo tells MO and MSN the other way round",
        "ddp",
        "raise InvalidMo(self.qn, header.msn, header.mo, self.size)",
        "raise InvalidMo(self.qn, header.mo, header.msn, self.size)",
        "tests/unit/test_ddp.py::test_what_lies_outside_its_buffer_is_named",
    ),
    Found(
        "a provided buffer keeps the size of the last one",
        "ddp",
        ("        self._buffer = buffer\n        self.size = sum(map(len, buffer))\n\n    def open"),
        ("        self._buffer = buffer\n\n    def open"),
        "tests/unit/test_ddp.py::test_a_provided_buffer_is_measured_as_one_that_is_taken",
    ),
    Found(
        "a forked child is not told that its connection is its parent's",
        "drivers/asyncio_driver",
        "            if self._left_behind and not self.pump.output_ended:",
        "            if False:",
        "tests/unit/test_asyncio_driver.py::test_in_a_forked_child_nothing_is_written_and_the_program_is_told",
    ),
    Found(
        "an abort in a forked child ends the parent's connection",
        "drivers/polling_driver",
        ("        if self.left_behind:\n            return\n        self.reset_at_end()"),
        "        self.reset_at_end()",
        "tests/unit/test_polling_driver.py::test_an_abort_in_a_forked_child_does_nothing",
    ),
    Found(
        "the capture is not told of the end",
        "drivers/asyncio_driver",
        ("        if self._tap is not None:\n            self._tap.closed()\n        self.pump.lost(exc)"),
        "        self.pump.lost(exc)",
        "tests/unit/test_asyncio_driver.py::test_who_looks_at_the_octets_sees_small_messages_as_batches_and_the_end",
    ),
    Found(
        "a put that a read-only server refuses is not counted",
        "files/session",
        '            self._refusals["read_only"] += 1\n',
        "",
        "tests/integration/test_files.py::test_a_read_only_server",
    ),
    Found(
        "the memory of a file is never dropped",
        "files/staging",
        "        self.memory.drop(self._dropped, upto)\n",
        "",
        "tests/unit/test_files_staging.py::test_memory_is_given_back_as_the_file_goes_on",
    ),
    Found(
        "a held ULPDU is no copy",
        "mpa",
        ("        copy = memoryview(bytes(ulpdu))\n        self._leave_pool()\n        return copy"),
        ("        self._leave_pool()\n        return ulpdu"),
        "tests/unit/test_waiting_memory.py::test_who_waits_holds_no_shared_buffer",
    ),
    Found(
        "flushes of the send queue are not counted",
        "queues/sq",
        ("        self.flushes += len(self._posted)\n        while"),
        "        while",
        "tests/unit/test_qp_calls.py::test_flushes_of_both_queues_are_counted",
    ),
    Found(
        "what a Terminate quotes ends at its MO",
        "rdmap",
        "            end = header.mo + max(0, terminate.segment_length - UNTAGGED_SIZE)",
        "            end = header.mo",
        "tests/unit/test_rdmap.py::test_a_terminate_that_quotes_a_send_tells_where_its_segment_ended",
    ),
    Found(
        "a copy that is closed takes the socket along",
        "sockets/family/streamops",
        ("    sk.holders -= 1\n    if not sk.holders:"),
        ("    sk.holders -= 1\n    if True:"),
        "tests/integration/test_socket_calls.py::test_a_copy_that_is_closed_leaves_the_socket_as_it_is",
    ),
    Found(
        "options told before connecting are lost",
        "sockets/family/iwarpsock",
        (
            "            for (level, name), value in self.told.items():\n"
            "                self.carrier.setsockopt(level, name, value)\n"
        ),
        "",
        "tests/integration/test_socket_calls.py::test_options_of_tcp_outlive_an_attempt_that_failed",
    ),
    Found(
        "recv_into fills more than asked",
        "sockets/family/socketclass",
        "[octets[: nbytes or len(octets)]]",
        "[octets]",
        "tests/integration/test_socket_calls.py::test_octets_are_received_into_as_much_of_a_buffer_as_is_asked_for",
    ),
    Found(
        "a failing pause_writing breaks the stream",
        "sockets/delivery",
        '            self._complain(f"protocol.{name}() failed", error)',
        "            raise",
        "tests/integration/test_stream_transports.py::test_a_program_that_fails_when_it_is_asked_to_pause_goes_on",
    ),
    Found(
        "eof_received that returns None goes on",
        "sockets/transport",
        ("                if not self._delivery.eof():\n                    self.close()"),
        "                self._delivery.eof()",
        "tests/integration/test_stream_transports.py::test_who_returns_nothing_from_eof_received_is_closed",
    ),
    Found(
        "pause is asked for at the limit",
        "sockets/flow",
        "        if not self._paused and len(self.octets) > self.high:",
        "        if not self._paused and len(self.octets) >= self.high:",
        "tests/unit/test_write_buffer.py::test_a_program_pauses_above_the_high_limit_and_goes_on_at_the_low_one",
    ),
    Found(
        "writing into nothing warns at once",
        "sockets/transport",
        "if data and self._writes_into_nothing >= _WRITES_INTO_NOTHING:",
        "if data:",
        "tests/integration/test_stream_transports.py::test_who_goes_on_writing_behind_the_end_is_told_at_the_sixth_time",
    ),
    Found(
        "a Send alone is counted as no turn",
        "engine/stream",
        "self._turn_left = left = self._turn_left - fpdus",
        "left = self._turn_left",
        "tests/unit/test_turns.py::test_sends_that_come_one_by_one_count_too",
    ),
    Found(
        "a Send alone is taken in a shared buffer",
        "engine/stream",
        "        if nbytes < _LEAST_SEND or len(view) == BUFFER_SIZE:  # others may use a shared",
        "        if nbytes < _LEAST_SEND:  # others may use a shared",
        "tests/unit/test_waiting_memory.py::test_a_small_send_behind_bulk_leaves_the_shared_buffer",
    ),
    Found(
        "an abandoned stream keeps unsent answers",
        "engine/stream",
        ("        self._unflushed.clear()\n        self.drop_output()\n        self._terminates.clear()"),
        ("        self._unflushed.clear()\n        self._terminates.clear()"),
        "tests/unit/test_stream_reads.py::test_answers_that_have_not_left_when_tcp_ends_pin_nothing",
    ),
    Found(
        "a window that lets Atomics needs no right",
        "memory/windows",
        "_WRITING: Final = (Access.REMOTE_WRITE, Access.REMOTE_ATOMIC)",
        "_WRITING: Final = (Access.REMOTE_WRITE,)",
        "tests/unit/test_windows.py::test_what_cannot_be_bound",
    ),
    Found(
        "a handle closes over changes that are done and not complete",
        "memory/handles",
        ("        if self.incomplete_changes:\n            raise RegionInUse"),
        ("        if self._unperformed_changes:\n            raise RegionInUse"),
        "tests/unit/test_windows.py::test_a_bind_that_is_done_and_not_complete_keeps_the_window_open",
    ),
    Found(
        "sendall has its timeout for each part",
        "sockets/family/socketclass",
        "max(0.0, deadline - time.monotonic())",
        "timeout",
        "tests/integration/test_socket_calls.py::test_sendall_waits_its_timeout_once_for_all_octets",
    ),
    Found(
        "dup forgets the timeout",
        "sockets/family/socketclass",
        "        copy.settimeout(self.gettimeout())\n",
        "",
        "tests/integration/test_socket_calls.py::test_a_copy_of_a_socket_waits_as_long_as_the_first",
    ),
    Found(
        "iWARP joins iWARP",
        "cli/tunnels/place",
        ("        if self.kind == target.kind:\n            raise"),
        ("        if False:\n            raise"),
        "tests/unit/test_tunnel_join.py::test_what_a_tunnel_does_not_join",
    ),
    Found(
        "a grant is told before the receives are posted",
        "sockets/engine",
        ("        if self._used:\n            self._post_used()\n        return self._owed.grant()"),
        "        return self._owed.grant()",
        "tests/unit/test_stream_engine.py::test_a_grant_is_told_when_the_receives_for_it_are_posted",
    ),
    Found(
        "a Spread takes octets of another size",
        "memory/paged",
        "        if stop - start != len(octets):",
        "        if stop - start < len(octets):",
        "tests/unit/test_fastreg.py::test_memory_in_pieces_takes_as_many_octets_as_are_meant_or_none",
    ),
    Found(
        "a receive that was judged late stays at fault",
        "queues/rq",
        ("        self.fault = None\n        status, self"),
        "        status, self",
        "tests/unit/test_late_receives.py::test_a_bad_receive_is_no_fault_of_the_next_connection",
    ),
    Found(
        "a listener that rests stays so when it closes",
        "cm/asyncio_cm",
        ("            timer.cancel()\n        else:\n            self._loop.remove_reader(sock)"),
        ("            pass\n        else:\n            self._loop.remove_reader(sock)"),
        "tests/integration/test_late_requests.py::test_a_listener_that_rests_does_not_wake_up_when_it_is_closed",
    ),
    Found(
        "a DISCONNECT does not replace a SHUTDOWN that waits",
        "sockets/engine",
        "            self._waiting = control  # DISCONNECT",
        "            self._waiting = self._waiting or control  # DISCONNECT",
        "tests/unit/test_stream_engine.py::test_disconnect_takes_the_place_of_a_shutdown_that_waits",
    ),
    Found(
        "words behind DISCONNECT mean something",
        "sockets/engine",
        "            if completion.status is _SUCCESS and self.reading is not End.DISCONNECTED:",
        "            if completion.status is _SUCCESS:",
        "tests/unit/test_stream_engine.py::test_words_behind_disconnect_mean_nothing",
    ),
    Found(
        "a line of the log controls the terminal",
        "cli/transfers",
        "        return shown(super().formatMessage(record))",
        "        return super().formatMessage(record)",
        "tests/unit/test_cli_transfers.py::test_a_line_of_the_log_does_not_control_the_terminal",
    ),
)
