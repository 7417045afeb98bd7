"""What shows each row of ``aiomilter help failures``: faults of the matrix by name, and tests."""

from collections.abc import Mapping
from typing import Final

__all__ = ["SHOWN"]

SHOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "A callback raises, ``SystemExit`` included": (
        "callback raises at RCPT",
        "callback raises at end of message",
        "callback raises, on_error=accept",
        "callback raises, on_error=reject",
        "callback exits",
        "tests/test_failures.py::test_the_class_of_client_chooses_the_answer",
    ),
    "A dependency is down: ``TemporaryFailure``, a resolver or store that fails": (
        "what the filter needs is away",
        "tests/test_session_failures.py::test_what_a_filter_depends_on_may_fail_without_a_traceback",
        "tests/test_failures.py::test_what_may_be_over_soon_refuses_nothing_for_good",
    ),
    "A callback returns something that is not an answer there": ("callback returns nonsense",),
    "A callback takes longer than the mail server waits": (
        "tests/interop/test_deadlines.py::test_postfix_waits_for_the_filter_at_every_stage",
    ),
    "A callback hangs": (
        "callback hangs",
        "tests/test_deadlines.py::test_a_callback_that_hangs_is_answered_for_before_the_mta_gives_up",
    ),
    "A callback that was cancelled does not end": (
        "tests/test_deadlines.py::test_a_cancelled_callback_that_does_not_end_loses_its_connection",
    ),
    "A new body comes too slowly, or its iterator raises": (
        "tests/test_deadlines.py::test_a_body_that_streams_is_part_of_the_end_of_message",
    ),
    "A callback blocks the event loop": (
        "callback blocks the loop",
        "tests/test_stall.py::test_who_blocks_the_loop_is_said_while_it_lasts_and_again_when_it_is_over",
    ),
    "A callback blocks the event loop for longer than ``WatchdogSec=``": (
        "tests/life/test_systemd.py::test_the_watchdog_is_fed_by_the_event_loop",
        "tests/life/test_workers.py::test_a_stuck_worker_is_killed_and_replaced",
    ),
    "The disk where the filter writes is full": ("no room for spools",),
    "The filter makes too many edits": ("tests/test_session_edits.py::test_more_edits_than_allowed",),
    "A new body is larger than allowed": (
        "tests/test_memory.py::test_a_new_body_above_the_limit_is_a_failure",
        "tests/test_memory.py::test_a_streamed_body_above_the_limit_is_tempfailed",
    ),
    "The process is killed (SIGKILL, out of memory)": ("filter killed",),
    "A worker dies": (
        "worker killed",
        "tests/life/test_workers.py::test_a_worker_that_cannot_be_replaced_is_tried_again_later_and_later",
    ),
    "A worker is told to end (``kill -TERM``)": (
        "tests/life/test_workers.py::test_a_worker_told_to_end_lets_its_sessions_end_and_is_replaced",
    ),
    "The supervisor of the workers is killed": (
        "tests/life/test_workers.py::test_workers_whose_supervisor_is_killed_end",
    ),
    "Another daemon takes the path of the socket before this one listens": (
        "tests/test_cli_run.py::test_a_daemon_whose_path_was_taken_while_it_loaded_does_not_start",
    ),
    "SIGTERM": (
        "filter stopped and started",
        "tests/test_daemon.py::test_a_second_signal_hurries",
    ),
    "The factory ends while it is in use: a task of its TaskGroup has failed": (
        "tests/test_server.py::test_a_factory_that_ends_while_it_is_in_use_serves_nobody_new_until_a_reload",
        "tests/test_daemon.py::test_a_factory_that_ends_while_it_is_in_use_ends_the_daemon",
    ),
    "``abort``, ``close`` or the factory hangs at the end": (
        "tests/test_deadlines.py::test_the_end_of_the_server_waits_for_no_abort_or_close_that_hangs",
        "tests/test_server.py::test_the_end_waits_for_no_factory",
        "tests/test_daemon.py::test_what_takes_no_notice_of_its_cancellation_is_left_behind",
        "tests/test_daemon.py::test_a_third_signal_ends_at_once",
    ),
    "A worker hangs at the end, or blocks its event loop": (
        "tests/life/test_workers.py::test_a_worker_that_does_not_end_is_killed",
    ),
    "The filter is restarted, its socket kept by systemd": (
        "filter restarted, its socket kept",
        "tests/life/test_systemd.py::test_a_restart_by_socket_activation_loses_nothing",
    ),
    "The filter is reloaded (SIGHUP)": (
        "filter reloaded",
        "workers reloaded",
    ),
    "The new code or configuration is broken": (
        "tests/life/test_reload.py::test_a_reload_that_fails_changes_nothing_and_is_one_record",
        "tests/life/test_workers.py::test_a_reload_that_fails_changes_nothing_and_is_one_record",
    ),
    "The new factory hangs": (
        "tests/life/test_reload.py::test_a_reload_that_hangs_is_given_up_for_the_next",
        "tests/life/test_workers.py::test_a_reload_that_hangs_is_given_up_for_the_next",
    ),
    "Stderr is not read, or closed": (
        "tests/test_cli_unread.py::test_a_daemon_whose_stderr_nobody_reads_serves_on",
        "tests/test_cli_unread.py::test_workers_whose_stderr_nobody_reads_are_reloaded_and_end",
        "tests/test_cli_unread.py::test_a_program_for_pymilter_whose_stderr_nobody_reads_is_served_on",
    ),
    "No file descriptors are left": ("no descriptors left",),
    "The mail server dies, or the connection is cut anywhere": (
        "MTA killed",
        "tests/faults/test_cuts.py::test_no_message_is_lost_wherever_the_connection_is_cut",
    ),
    "A mail server does not read its answers": ("tests/test_protocol.py::test_an_mta_that_does_not_read_is_closed",),
    "Stages come in an order that no mail server has": (
        "tests/test_session_order.py::test_a_message_that_is_broken_up_is_answered_as_a_failure",
    ),
    "A peer connects that is not allowed": (
        "tests/test_access.py::test_only_allowed_networks_may_connect",
        "tests/test_access.py::test_only_allowed_users_and_groups_may_connect",
        "tests/test_access.py::test_tls",
    ),
    "Other machines can connect, without access control": (
        "tests/test_access.py::test_a_listener_that_anybody_may_use_says_so",
        "tests/test_access.py::test_an_option_that_has_no_effect_is_said",
    ),
    "A peer speaks HTTP, SMTP, TLS, SSH, Redis or the PROXY protocol; or no TLS where it is expected": (
        "tests/test_strangers.py::test_twenty_in_a_row_are_one_record_that_says_who_and_what",
    ),
    "A peer sends half a packet, or thousands of peers send nothing": (
        "tests/faults/test_hostile.py::test_the_process_stays_small_and_others_are_served",
        "tests/test_memory.py::test_who_does_not_finish_a_packet_is_closed",
        "tests/interop/test_deadlines.py::test_a_client_that_takes_its_time_between_many_recipients_and_data_is_no_peer_that_dribbles",
    ),
    "Thousands begin TLS, and do not continue": (
        "tests/test_handshakes.py::test_one_peer_keeps_no_other_from_its_handshake",
        "tests/test_handshakes.py::test_a_crowd_that_begins_tls_takes_no_more_memory_than_handshakes_may",
    ),
    "More connections than allowed": (
        "more connections than allowed",
        "tests/test_access.py::test_above_all_limits_connections_wait_in_the_socket",
    ),
    "Too many header fields, or too large": ("tests/test_session_edits.py::test_more_header_fields_than_allowed",),
    "Too many recipients, or too large (1024 octets each on average)": (
        "tests/test_session_edits.py::test_more_recipients_than_allowed",
        "tests/test_session_edits.py::test_larger_recipients_than_allowed",
    ),
    "A packet above the limit, or a malformed one": (
        "tests/faults/test_hostile.py::test_the_process_stays_small_and_others_are_served",
        "tests/faults/test_fuzz.py::test_what_is_found_breaks_no_promise",
    ),
    "All connections together buffer too much": (
        "memory budget reached",
        "tests/test_memory.py::test_new_messages_are_refused_meanwhile_and_the_filter_is_not_asked",
    ),
    "More messages in progress than allowed": ("more messages than allowed",),
}
