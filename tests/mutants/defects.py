"""The defects: what goes wrong, where, and the test that must fail with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Defect:
    """One textual change: `old` stands exactly once in `file`."""

    name: str
    file: str
    old: str
    new: str
    test: str
    """The pytest id, below tests/integration."""


DEFECTS: Final = (
    # Where a consumer stands
    Defect(
        "fence removed",
        "shared/positions.py",
        "    if moved != len(ordered):",
        "    if False:",
        "test_consumer_fence.py::test_a_zombie_with_an_old_epoch_applies_nothing",
    ),
    Defect(
        "fence does not look at the epoch",
        "shared/positions.py",
        "AND c.epoch = n.epoch AND c.next_offset = n.expected",
        "AND c.next_offset = n.expected",
        "test_consumer_fence.py::test_a_zombie_with_an_old_epoch_applies_nothing",
    ),
    Defect(
        "fence does not look at the offset",
        "shared/positions.py",
        "AND c.epoch = n.epoch AND c.next_offset = n.expected",
        "AND c.epoch = n.epoch",
        "test_consumer_fence.py::test_a_holder_that_thinks_itself_elsewhere_is_fenced_too",
    ),
    Defect(
        "epoch not advanced",
        "shared/positions.py",
        "UPDATE consumer_positions AS c SET epoch = c.epoch + 1, holder",
        "UPDATE consumer_positions AS c SET epoch = c.epoch, holder",
        "test_consumer_fence.py::test_a_zombie_with_an_old_epoch_applies_nothing",
    ),
    Defect(
        "offset outside the transaction",
        "shared/consumer.py",
        "                await positions.advance(tx, self.name, self._held, steps)\n                duplicates",
        "                async with self.database.transaction() as other:\n"
        "                    await positions.advance(other, self.name, self._held, steps)\n"
        "                duplicates",
        "test_consumer_crashes.py::test_a_crash_between_any_two_steps_loses_doubles_and_reorders_nothing[forwarder]",
    ),
    Defect(
        "cluster id ignored",
        "shared/positions.py",
        '        if row["cluster_id"] != cluster_id:',
        "        if False:",
        "test_consumer_fence.py::test_a_cluster_rebuilt_beside_a_kept_database_is_fatal_and_names_the_remedy",
    ),
    Defect(
        "Kafka's committed offset believed",
        "shared/consumer.py",
        "            client.seek(partition, held.next_offset)",
        "            client.seek(partition, getattr(client, 'kafka').committed.get(partition, held.next_offset))",
        "test_consumer_fence.py::test_a_new_assignment_reads_on_from_postgresql_whatever_kafka_has_committed",
    ),
    Defect(
        "batch in hand kept over a rebalance",
        "shared/consumer.py",
        '            raise _Reassigned("the assignment changed while a record waited for its next attempt")',
        "            pass",
        "test_consumer_fence.py::test_a_partition_that_moves_while_a_record_waits_in_place_is_left_to_its_new_owner",
    ),
    # First time or not
    Defect(
        "inbox skipped",
        "shared/consumer.py",
        "if next(verdicts[route.guard])]",
        'if next(verdicts[route.guard]) or route.guard == "inbox"]',
        "test_consumer_records.py::test_an_id_is_applied_once_however_often_it_comes",
    ),
    Defect(
        "sequence guard ignored",
        "shared/consumer.py",
        "if next(verdicts[route.guard])]",
        'if next(verdicts[route.guard]) or route.guard == "sequence"]',
        "test_relay.py::test_a_stopped_relay_that_wakes_with_buffered_sends_is_seen_through_by_readers",
    ),
    Defect(
        "inbox by our day instead of ce_time",
        "shared/consumer.py",
        "return route, Received(event, envelope, ",
        "return route, Received(event, msgspec.structs.replace(envelope, time=self.outbox.clock.now()), ",
        "test_consumer_records.py::test_an_id_that_returns_after_midnight_is_still_known",
    ),
    Defect(
        "doubles within one batch applied",
        "shared/inbox.py",
        "        new.discard(name)",
        "        pass",
        "test_inbox.py::test_an_id_is_new_once_also_within_one_batch",
    ),
    Defect(
        "sequences of two sources compared",
        "shared/inbox.py",
        "        key = (event.topic, event.envelope.source, event.event.key)\n",
        '        key = (event.topic, "/test", event.event.key)\n',
        "test_inbox.py::test_of_numbered_events_only_what_exceeds_the_newest_is_new",
    ),
    Defect(
        "dropped days taken for known",
        "shared/consumer.py",
        "known = {day for day in self._days if day >= recent}",
        "known = set(self._days)",
        "test_consumer_records.py::test_a_day_that_housekeeping_dropped_is_made_anew_for_a_latecomer",
    ),
    # What becomes of a record
    Defect(
        "events of the future taken",
        "shared/consumer.py",
        "        if envelope.time > latest:",
        "        if False:",
        "test_consumer_records.py::test_a_foreign_mistake_is_a_dead_letter_that_names_the_field_and_the_rule",
    ),
    Defect(
        "tombstones taken for poison",
        "shared/consumer.py",
        "            if not record.value:",
        "            if record.value is not None and False:",
        "test_consumer_records.py::test_tombstones_and_empty_values_are_no_poison",
    ),
    Defect(
        "unknown version skipped",
        "shared/consumer.py",
        "            if family not in self.handlers.families:",
        "            if True:",
        "test_consumer_records.py::"
        "test_an_unknown_version_of_a_handled_type_parks_its_key_and_goes_on_when_the_new_code_is_there",
    ),
    Defect(
        "parked key not queued behind",
        "shared/consumer.py",
        "            if (self._parked or queued) and (",
        "            if False and (",
        "test_parking.py::test_a_long_trouble_parks_its_key_alone_and_drains_in_order_when_it_is_over",
    ),
    Defect(
        "waiting keys forgotten by a restart",
        "shared/consumer.py",
        "self._parked = await parking.parked_keys(self.database, self.name, assigned)",
        "self._parked = {}",
        "test_parking.py::test_after_a_crash_the_waiting_keys_are_known_again",
    ),
    Defect(
        "drain without a fence",
        "shared/consumer.py",
        "                await positions.still_held(tx, self.name, key.partition, self._held[key.partition])\n"
        "                duplicates",
        "                duplicates",
        "test_parking.py::test_a_zombie_in_the_middle_of_a_drain_is_fenced",
    ),
    Defect(
        "key freed before its queue is empty",
        "shared/parking.py",
        "               AND NOT EXISTS (SELECT 1 FROM parked_records AS r WHERE",
        "               AND true OR EXISTS (SELECT 1 FROM parked_records AS r WHERE false AND",
        "test_parking.py::test_a_long_trouble_parks_its_key_alone_and_drains_in_order_when_it_is_over",
    ),
    Defect(
        "order goes on after a dead letter",
        "shared/consumer.py",
        '.after_dead_letter == "park" and letter.record.key:',
        '.after_dead_letter == "never" and letter.record.key:',
        "test_parking.py::test_after_a_dead_letter_the_topic_says_whether_the_key_goes_on_or_waits_for_a_person",
    ),
    Defect(
        "surprises pause nobody",
        "shared/consumer.py",
        'if rule == "unexpected":',
        'if rule == "nothing":',
        "test_parking.py::test_many_surprising_keys_pause_their_partition_until_the_fault_is_mended",
    ),
    Defect(
        "limits ignored",
        "shared/consumer.py",
        "        if reason := limits.exceeded_by(plan.outcomes_dead):",
        "        if (reason := limits.exceeded_by(plan.outcomes_dead)) and False:",
        "test_dead_letters.py::test_so_many_in_a_row_stop_the_consumer_and_the_ones_before_can_be_looked_at",
    ),
    Defect(
        "stop forgotten by a restart",
        "shared/consumer.py",
        "                await dead_letters.refuse_if_stopped(self.database, self.name)\n",
        "",
        "test_dead_letters.py::test_a_stop_survives_restarts_until_a_person_lifts_it",
    ),
    Defect(
        "watchdog off",
        "shared/consumer.py",
        "if not life.done() and monotonic() - self._progress > self.pace.stuck_seconds:",
        "if False:",
        "test_consumer_watchdog.py::test_the_watchdog_replaces_a_client_that_is_stuck",
    ),
    # The relay
    Defect(
        "lease ignored",
        "shared/relay.py",
        "AND (leased_until IS NULL OR leased_until < clock_timestamp())",
        "AND true",
        "test_relay.py::test_of_two_relays_on_one_bucket_only_the_lease_holder_sends",
    ),
    Defect(
        "bucket order ignored",
        "shared/relay.py",
        "ORDER BY outbox.position LIMIT $3",
        "ORDER BY md5(outbox.position::text) LIMIT $3",
        "test_relay.py::test_what_is_sent_is_in_the_order_of_its_key_and_leaves_nothing_behind",
    ),
    Defect(
        "unknown send treated as sent",
        "shared/relay.py",
        "            await self._note_stuck(bucket, str(error))\n            return None",
        "            await self._note_stuck(bucket, str(error))\n            return rows",
        "test_relay.py::test_a_send_without_an_answer_is_repeated_with_the_same_ids_by_a_new_producer",
    ),
    Defect(
        "producer kept after an unknown send",
        "shared/relay.py",
        "        if any(result is None or isinstance(result, BaseException) for result in results):",
        "        if False:",
        "test_relay.py::test_a_send_without_an_answer_is_repeated_with_the_same_ids_by_a_new_producer",
    ),
    Defect(
        "producer kept after sleeping past the lease",
        "shared/relay.py",
        "            await self._discard_producer()\n            self._leased = frozenset()",
        "            self._leased = frozenset()",
        "test_relay.py::test_a_relay_that_slept_past_its_lease_discards_its_producer_before_anything_else",
    ),
    Defect(
        "lease counted from its answer",
        "shared/relay.py",
        "        self._lease_ends = asked + self.limits.lease_seconds",
        "        self._lease_ends = monotonic() + self.limits.lease_seconds",
        "test_relay.py::test_a_lease_counts_from_before_it_was_asked_for",
    ),
    Defect(
        "rows deleted as a range",
        "shared/relay.py",
        "o.position = ANY(string_to_array(d.positions, ',')::bigint[])",
        "o.position <= (SELECT max(p) FROM unnest(string_to_array(d.positions, ',')::bigint[]) AS p)",
        "test_relay.py::test_a_row_that_commits_between_claim_and_delete_is_not_deleted_with_the_others",
    ),
    Defect(
        "slots never emptied",
        "shared/relay.py",
        '            await rows.execute(f"TRUNCATE outbox_{slot}")',
        "            pass",
        "test_relay.py::test_the_outbox_does_not_bloat_under_somebodys_long_transaction",
    ),
    # PostgreSQL
    Defect(
        "blockers never ended",
        "shared/database.py",
        "            end_blockers = end_blockers or isinstance(error, Locked)",
        "            end_blockers = False",
        "test_database.py::test_a_process_stopped_in_the_middle_of_a_statement_is_ended_by_the_next_taker",
    ),
    Defect(
        "idle transactions never ended",
        "shared/database.py",
        'f"{int(IDLE_TIMEOUT_SECONDS * 1000)}ms"',
        '"0"',
        "test_database.py::test_our_own_transaction_is_told_when_the_server_ended_it_for_idling",
    ),
    # The writer's side
    Defect(
        "size unchecked",
        "shared/outbox.py",
        "        if size > MAX_RECORD_BYTES:",
        "        if False:",
        "test_outbox.py::test_an_oversized_event_is_refused_in_the_writers_transaction",
    ),
    Defect(
        "a new id at every publication",
        "shared/outbox.py",
        '    return f"{topic}/{key}/{sequence}"',
        '    return f"{topic}/{key}/{sequence}/{monotonic()}"',
        "test_outbox.py::test_republish_writes_the_current_state_under_its_old_ids_in_small_transactions",
    ),
    Defect(
        "projectors given the means to publish",
        "shared/consumer.py",
        "await route.handler.apply(batch, tx.rows)",
        "await route.handler.apply(batch, tx)",
        "test_consumer_kinds.py::test_a_projector_is_given_rows_without_the_means_to_publish",
    ),
    # Calls to remote systems
    Defect(
        "a refused key closes off its shop",
        "shared/breaker.py",
        "        return _key(error.key), error.key\n",
        "        return account, None\n",
        "test_breaker.py::test_a_revoked_key_of_one_stage_leaves_the_polls_of_all_others_alone",
    ),
    Defect(
        "storm after an outage",
        "shared/breaker.py",
        "return allowed if allowed < LAST_IN_FLIGHT else None",
        "return None",
        "test_breaker.py::test_after_an_outage_calls_begin_few_and_double_earliest_deadline_first",
    ),
    Defect(
        "SFCC's load ignored",
        "shared/budget.py",
        "        if account not in self._loaded:\n",
        "        if True:\n",
        "test_budget.py::test_a_word_of_load_spreads_the_writes_of_all_replicas",
    ),
    # Around it
    Defect(
        "reference data not awaited",
        "shared/consumer.py",
        "            if await caught_up(reference.database, reference.name, wanted):",
        "            if True:",
        "test_start_order.py::test_reactors_start_when_the_reference_topics_are_read_to_the_end_they_had",
    ),
    Defect(
        "speed ignored",
        "shared/clock.py",
        "return self.business + (real - self.real) * self.speed",
        "return self.business + (real - self.real)",
        "test_clock.py::test_speed_makes_a_minute_of_a_second_without_a_break",
    ),
    Defect(
        "drain budget ignored",
        "shared/lifecycle.py",
        "await asyncio.wait({service}, timeout=drain_seconds)",
        "await asyncio.wait({service})",
        "test_lifecycle.py::test_a_loop_that_does_not_drain_is_cancelled_when_the_budget_is_spent",
    ),
    Defect(
        "unlisted log fields kept",
        "shared/telemetry.py",
        "        del event[name]\n",
        "        pass\n",
        "test_telemetry.py::test_logs_are_json_lines_with_listed_fields_and_without_personal_data",
    ),
)
