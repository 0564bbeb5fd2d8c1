"""The defences, each with what stands in its place when it is taken away, and the tests that fail then.

docs/security.md names these tests; tests/test_security_page.py sees to it that each has its defence here, and that the
code is still what it was.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """A piece of code that keeps a promise.

    Attributes:
        file: where it stands, beneath the root of the project.
        code: the piece, as it stands there.
        without: what stands there without it.
    """

    file: str
    code: str
    without: str


@dataclass(frozen=True)
class Defence:
    """One piece; or several, of which each would do alone.

    Attributes:
        pieces: what is taken away together.
        tests: the names of tests that fail then, all of them.
        full: whether they do so only with the quantities of `make attacks`.
    """

    pieces: tuple[Piece, ...]
    tests: tuple[str, ...]
    full: bool = False

    def head(self) -> str:
        """Returns where it stands, and how it begins."""
        piece = self.pieces[0]
        return f"{piece.file}: {piece.code.strip().splitlines()[0][:70]}"


def _defence(
    file: str, code: str, without: str, *tests: str, also: tuple[Piece, ...] = (), full: bool = False
) -> Defence:
    return Defence((Piece(file, code, without), *also), tests, full)


# What stands between these floods and a server is gRPC's own, as TLS is, and cannot be taken away.
OF_GRPC = frozenset(
    {
        "test_frames_that_ask_for_work_and_bring_nothing",
        "test_headers_that_never_end",
        "test_an_entrance_that_changes_one_byte_is_found_out_and_no_membership_comes_of_it",
    }
)


DEFENCES = (
    # 1: wrong bytes
    _defence(
        "core/manifest.py",
        "return len(data) == self.layout.block_length(index) and digest(data) == self.block_digest(index)",
        "return True",
        "test_a_holder_that_lies_is_dropped_for_good_and_the_file_is_right",
        "test_invariant_1_a_liar_never_reaches_a_users_file",
    ),
    # 2: lying manifests
    _defence(
        "core/manifest.py",
        "if root.content_id != wanted:",
        "if False:",
        "test_a_lying_size_is_refused",
        "test_a_lying_manifest_is_refused_and_another_holder_asked",
    ),
    _defence(
        "core/manifest.py",
        "if len(block_digests) != self.layout.page_blocks(page) * DIGEST_BYTES or digest(block_digests) != expected:",
        "if False:",
        "test_a_lying_number_of_digests_is_refused",
    ),
    # 3 and 4: answers too long, and too slow
    _defence(
        "peer/fetching/download.py",
        "            self._candidates.ban(ask.holder.name)\n",
        "            pass\n",
        "test_a_liar_is_dropped_for_good_and_its_blocks_are_asked_of_another",
    ),
    _defence(
        "peer/fetching/download.py",
        "[ask for ask in self._asks.open.values() if ask.deadline <= now]",
        "[]",
        "test_a_slow_drip_is_abandoned_at_its_deadline_and_its_block_asked_of_another",
    ),
    _defence(
        "peer/fetching/pace.py",
        "return min(usual * 2.0 ** min(self._late, 16), limits.max_deadline)",
        "return 3600.0",
        "test_a_slow_drip_is_replaced_within_its_deadline",
        also=(Piece("peer/fetching/asks.py", "if ask.overdue_at <= now]", "if False]"),),
    ),
    # 5: who does not read
    _defence(
        "central/sessions/heartbeats.py",
        "        await self._room.wait()\n",
        "",
        "test_a_client_that_stops_reading_hinders_nobody_and_expires",
    ),
    _defence(
        "core/shares.py",
        " or held > self._each",
        "",
        "test_a_hundred_stalled_readers_do_not_slow_the_others",
        "test_answers_that_wait_to_be_read_are_bounded_for_each_caller",
        "test_calls_under_way_are_bounded_for_each_caller",
    ),
    # 6: who says nothing
    _defence(
        "core/rpc.py",
        '        ("grpc.server_handshake_timeout_ms", round(limits.handshake * 1000)),\n',
        "",
        "test_a_connection_that_says_nothing_is_closed",
        "test_a_handshake_that_drips_is_closed",
    ),
    _defence(
        "core/tls.py",
        "            if now == self._told:\n                return None\n",
        "",
        "test_many_that_come_and_go_without_a_word_keep_nobody_out_and_bring_nothing_down",
        full=True,
    ),
    # 7: sizes
    _defence(
        "core/rpc.py",
        '("grpc.max_receive_message_length", received)',
        '("grpc.max_receive_message_length", -1)',
        "test_a_request_over_the_limit_is_refused_before_it_is_read",
        "test_a_small_message_that_unpacks_to_a_large_one_is_refused",
    ),
    _defence(
        "peer/daemon.py",
        "Server(max_request=PEER_REQUEST, larger=_LARGER, way_in=PLAINTEXT, limits=limits)",
        "Server(way_in=PLAINTEXT, limits=limits)",
        "test_a_peer_takes_no_request_as_large_as_a_block",
    ),
    _defence(
        "core/rpc.py",
        '("grpc.absolute_max_metadata_size", limits.metadata)',
        '("grpc.absolute_max_metadata_size", 1 << 30)',
        "test_metadata_over_the_limit_is_refused",
    ),
    _defence(
        "core/rpc.py",
        '        ("grpc.absolute_max_metadata_size", limits.metadata),\n',
        "",
        "test_how_much_metadata_is_too_much_can_be_set",
    ),
    # 8: names
    _defence(
        "core/names.py",
        '    if part in {".", ".."}:',
        "    if False:",
        "test_every_hostile_name_is_refused_wherever_a_path_stands",
    ),
    _defence(
        "core/names.py",
        """        return "it is not valid UTF-8"
    if not path:
""",
        """        return "it is not valid UTF-8"
    if True:
        return ""
    if not path:
""",
        "test_invariant_5_no_name_leads_a_download_outside_its_directory",
        also=(
            Piece("peer/work/downloads.py", "name=last_part(file.path)", "name=file.path"),
            Piece(
                "peer/disk/rooted.py",
                'if any(part in {"", ".", ".."} or "\\0" in part for part in parts):',
                "if False:",
            ),
            Piece("peer/disk/kernel.py", "_RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS", "0"),
        ),
    ),
    _defence(
        "core/names.py",
        "    if text.isascii() and text.isprintable():",
        "    if True:",
        "test_hostile_names_are_escaped_in_every_command",
    ),
    # 9: links
    _defence(
        "peer/disk/kernel.py",
        "_RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS",
        "0",
        "test_nothing_is_read_through_a_directory_that_becomes_a_link",
        "test_nothing_is_written_moved_or_removed_outside",
    ),
    _defence(
        "peer/disk/rooted.py",
        'if any(part in {"", ".", ".."} or "\\0" in part for part in parts):',
        "if False:",
        "test_a_path_that_does_not_stay_beneath_is_refused_everywhere",
    ),
    # 10: names that are one
    _defence(
        "peer/fetching/targets.py",
        "        if normal(listed) != normal(last_part(name)):",
        "        if False:",
        "test_tmpfs_folds_and_nothing_is_merged",
        "test_a_download_is_neither_already_there_nor_overwrites_under_a_name_that_folds",
    ),
    # 11: nothing is overwritten
    _defence(
        "peer/disk/rooted.py",
        "        os.link(old, new, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)",
        "        os.rename(old, new, src_dir_fd=source, dst_dir_fd=directory)\n        return",
        "test_two_files_that_fold_together_into_one_directory_give_one_file_and_one_refusal",
        "test_a_file_that_appears_at_the_target_meanwhile_is_not_overwritten",
    ),
    _defence(
        "peer/disk/rooted.py",
        "        os.link(old, new, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)",
        "        os.rename(old, new, src_dir_fd=source, dst_dir_fd=directory)\n        return",
        "test_invariant_5_nothing_is_overwritten",
        also=(
            Piece(
                "peer/fetching/targets.py",
                "        found = rooted.status(directory, name)\n        listed",
                "        raise FileNotFoundError\n        listed",
            ),
        ),
    ),
    # 12: no places in directives
    _defence(
        "protos/relevo/v1/central_directory.proto",
        "message StoreDirective {\n",
        "message StoreDirective {\n  string directory = 100;\n",
        "test_a_directive_names_a_content_and_never_a_place",
    ),
    # 13: who speaks for whom
    _defence(
        "core/access.py",
        "        if self.role is not Role.PEER or peer_id != self.peer_id:",
        "        if False:",
        "test_with_its_own_certificate_a_peer_cannot_speak_for_another",
        "test_whoever_names_another_peer_is_refused_even_with_its_session_and_the_victim_lives",
    ),
    _defence(
        "central/servicer.py",
        "        caller().check_is(report.peer_id)\n",
        "",
        "test_with_its_own_certificate_a_peer_cannot_speak_for_another",
    ),
    _defence(
        "central/sessions/heartbeats.py",
        "            caller().check_is(beat.peer_id)\n",
        "",
        "test_whoever_names_another_peer_is_refused_even_with_its_session_and_the_victim_lives",
    ),
    # 14: certificates for other keys
    _defence(
        "core/certificates.py",
        "        if subject.kind is Kind.PEER and peer_id_of(public_key) != subject.label:",
        "        if False:",
        "test_a_peer_is_never_named_after_another_key",
    ),
    _defence(
        "core/certificates.py",
        "    if subject.kind is Kind.PEER and peer_id_of(key) != subject.label:",
        "    if False:",
        "test_a_certificate_that_names_a_peer_of_another_key_is_not_read",
    ),
    _defence(
        "core/certificates.py",
        "x509.BasicConstraints(ca=False, path_length=None)",
        "x509.BasicConstraints(ca=True, path_length=None)",
        "test_a_member_cannot_make_members",
    ),
    # 15 and 16: who gets in, and where
    _defence(
        "core/tls.py",
        "require_client_authentication=mutual",
        "require_client_authentication=False",
        "test_who_has_no_certificate_that_counts_does_not_get_past_the_handshake",
        "test_once_the_old_authority_is_dropped_its_certificates_are_refused",
    ),
    _defence(
        "core/access.py",
        "    if found.role not in RULES.get(method, frozenset()):",
        "    if False:",
        "test_members_reach_what_is_for_them_and_nothing_else",
        "test_what_has_no_rule_is_refused_for_everybody",
    ),
    _defence(
        "core/access.py",
        '    "/relevo.v1.PeerRelay/GetBlock": _PEER,\n',
        "",
        "test_every_rpc_has_a_rule_and_every_rule_an_rpc",
    ),
    # 17 and 18: expiry and revocation
    _defence(
        "core/access.py",
        "        if not certificate.not_before <= self._wall() < certificate.not_after:",
        "        if False:",
        "test_a_certificate_that_expires_while_its_connection_is_open_ends_every_call",
        "test_an_open_stream_ends_at_the_next_message_once_its_certificate_does_not_count",
        "test_a_stream_on_which_nothing_comes_ends_too_once_its_certificate_does_not_count",
    ),
    _defence(
        "core/access.py",
        "            if subject.label in self._trust().revoked:",
        "            if False:",
        "test_a_peer_that_is_revoked_while_its_connection_is_open_is_refused_at_every_call",
        "test_an_open_stream_ends_at_the_next_message_once_its_certificate_does_not_count",
    ),
    _defence(
        "core/status.py",
        "                admit_again()\n        finally",
        "                pass\n        finally",
        "test_a_stream_on_which_nothing_comes_ends_too_once_its_certificate_does_not_count",
    ),
    _defence(
        "central/server.py",
        "    await directory.sessions.end_revoked(network.trust().revoked)\n",
        "",
        "test_revoking_beside_a_running_central_ends_the_session_and_tells_everybody",
    ),
    # 19: where peers join
    _defence(
        "core/access.py",
        "ENROLMENT = Fixed(Role.STRANGER)",
        "ENROLMENT = Fixed(Role.PLAINTEXT)",
        "test_on_the_enrolment_port_everybody_is_a_stranger_and_only_joining_is_served",
    ),
    # 20: who answers
    _defence(
        "core/tls.py",
        'return (("grpc.ssl_target_name_override", name), ("grpc.default_authority", name))',
        'return (("grpc.ssl_target_name_override", name),) if not name.endswith(".peer") else ()',
        "test_peers_name_each_other_by_their_keys",
    ),
    _defence(
        "core/status.py",
        '("Hostname Verification Check failed", "CERTIFICATE_VERIFY_FAILED", "certificate signature failure")',
        "()",
        "test_peers_name_each_other_by_their_keys",
        "test_a_server_of_another_network_is_not_who_was_expected",
    ),
    # 21: the version of TLS
    _defence(
        "core/__init__.py",
        'os.environ["GRPC_SSL_CIPHER_SUITES"] = _SUITES',
        "pass",
        "test_tls_1_3_is_spoken_and_1_2_refused",
    ),
    _defence(
        "core/tls.py",
        "    if not TLS_1_3_ONLY:",
        "    if False:",
        "test_credentials_are_refused_where_grpc_was_imported_too_early_to_be_held_to_tls_1_3",
    ),
    # 22: repeated requests
    _defence(
        "central/mutations.py",
        "return await work() if answer is None else answer",
        "return await work()",
        "test_a_repeated_publish_is_answered_even_when_the_session_has_ended",
    ),
    _defence(
        "central/store/sqlite_members.py",
        "    if given is not None:\n        return Outcome(given, repeated=True)\n",
        "",
        "test_mutations_at_once_are_each_applied_once",
        "test_invariant_7_any_order_and_repetition_of_mutations_ends_in_the_models_state",
    ),
    # 23 and 24: neighbours
    _defence(
        "core/signing.py",
        "    verify(public_key, _message(request), request.signature)\n",
        "",
        "test_a_change_of_any_one_field_is_detected",
    ),
    _defence(
        "protos/relevo/v1/peer_relay.proto",
        "message PeerRelayGetNeighboursRequest {\n",
        "message PeerRelayGetNeighboursRequest {\n  string session_id = 100;\n",
        "test_no_session_secret_passes_a_neighbour",
    ),
    _defence(
        "peer/directory/routes.py",
        "        if not said.will_do():",
        "        if False:",
        "test_a_forged_placement_is_asked_again_with_the_same_signed_request",
        "test_a_neighbour_that_denies_all_holders_does_not_keep_a_download_from_them",
    ),
    _defence(
        "peer/directory/routes.py",
        "return await first_success([partial(self._attempts, of_one, rpc, request) for of_one in by_peer], PATIENCE)",
        "return await self._attempts(by_peer[0], rpc, request)",
        "test_a_dropped_call_is_made_another_way",
    ),
    _defence(
        "peer/fetching/finder.py",
        "directly=stuck)",
        "directly=False)",
        "test_holders_that_a_neighbour_invented_do_not_keep_a_download_from_the_real_ones",
    ),
    # 25: false claims
    _defence(
        "central/catalogue/reputation.py",
        "        return sum(now - time < MEMORY for time in times) >= REPORTERS",
        "        return bool(times)",
        "test_a_holder_is_doubted_exactly_while_three_others_have_accused_it_within_the_hour",
        "test_one_accuser_with_a_hundred_accusations_has_nobody_doubted",
    ),
    _defence(
        "central/quotas.py",
        "    if accused > quotas.reports:",
        "    if False:",
        "test_the_report_after_the_last_is_refused",
    ),
    # 26: central dials nobody
    _defence(
        "central/fields.py",
        '        host, port = split_address(value, f"{field}[{index}]")\n',
        '        host, port = split_address(value, f"{field}[{index}]")\n'
        '        __import__("socket").socket().connect_ex((host, port))\n',
        "test_central_dials_nobody_whatever_peers_say",
    ),
    # 27: quotas
    _defence(
        "central/quotas.py",
        "    if before.entries < after.entries > quotas.entries:",
        "    if False:",
        "test_the_row_after_the_last_is_refused_with_all_of_its_batch_and_no_receipt",
    ),
    _defence(
        "central/quotas.py",
        "    if before.entries < after.entries > quotas.entries:",
        "    if False:",
        "test_batches_at_once_do_not_pass_together",
        also=(
            Piece(
                "central/store/sqlite_catalogue.py", "    if batch.base_version not in {0, version}:", "    if False:"
            ),
        ),
    ),
    _defence(
        "central/quotas.py",
        "    if before.placements < after.placements > quotas.placements:",
        "    if False:",
        "test_the_placement_after_the_last_is_refused_and_chooses_nobody",
    ),
    _defence(
        "core/callers.py",
        "        if not self._unread.take(self.who, size):",
        "        if False:",
        "test_answers_that_wait_to_be_read_are_bounded_for_each_caller",
    ),
    _defence(
        "core/rpc.py",
        '        ("grpc.server.max_pending_requests_hard_limit", 2 * limits.pending),\n',
        "",
        "test_calls_that_wait_for_a_busy_server_are_bounded",
    ),
    # 28: disks
    _defence(
        "peer/fetching/partial.py",
        "        if disk.f_blocks and self.layout.size - allocated > free:",
        "        if False:",
        "test_a_content_larger_than_the_disk_leaves_nothing_behind",
    ),
    _defence(
        "peer/fetching/manifest_fetch.py",
        "    if root.layout.size > most:",
        "    if False:",
        "test_a_copy_that_is_listed_small_and_has_a_tebibyte_is_refused_after_its_first_page",
    ),
    # 29 and 30: tokens
    _defence(
        "core/tokens.py",
        "    if _encoded(data) != body or _check(message) != check:",
        "    if False:",
        "test_a_token_with_any_one_character_changed_is_refused",
    ),
    _defence(
        "central/network/enrolment.py",
        "                self.register.use(applicant.invitation_id)\n",
        "",
        "test_a_hundred_keys_at_once_with_a_token_for_one_become_one_member",
        "test_a_thousand_enrolments_with_one_token_make_one_member",
    ),
    _defence(
        "central/network/enrolment.py",
        "            if not invitation or not right:\n                raise _refused()\n",
        "            if not invitation:\n                raise NotEnrolled('no such invitation')\n"
        "            if not right:\n                raise _refused()\n",
        "test_every_failure_of_an_invitation_sounds_the_same",
    ),
    # 31: files
    _defence(
        "peer/disk/database.py",
        "        keep_private(path)\n",
        "        pass\n",
        "test_what_the_programs_keep_for_themselves_nobody_else_may_read",
    ),
    _defence(
        "core/own_directory.py",
        "        directory.chmod(0o700)\n",
        "",
        "test_one_that_others_could_enter_becomes_its_owners_only",
    ),
    _defence(
        "core/private_files.py",
        "    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)",
        "    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)",
        "test_nobody_else_may_read_it_whatever_the_umask",
    ),
    _defence(
        "core/private_files.py",
        '    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")\n'
        "    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL |",
        "    beside = path\n    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC |",
        "test_a_writer_that_dies_while_it_writes_leaves_the_old_file_whole",
    ),
    # 32: changes of the authority
    _defence(
        "central/network/authorities.py",
        "return (certificate, *(record.link for record in records[:MOST_LINKS] if record.link))",
        "return (certificate,)",
        "test_an_authority_changes_without_cutting_anybody_off",
    ),
    _defence(
        "core/certificates.py",
        "return _der(built.sign(self._key, hashes.SHA256()))",
        "return _der(built.sign(successor._key, hashes.SHA256()))",
        "test_members_that_know_different_authorities_get_on_during_a_rotation",
    ),
    # 33: fuzzing
    _defence(
        "peer/directory/publishing.py",
        "                if response.catalogue_version > _LAST_VERSION:",
        "                if False:",
        "test_nothing_in_the_corpus_breaks_anything",
    ),
    _defence(
        "tests/fuzz/network.py",
        'ELSEWHERE = {"relevo.v1.Enrolment"}',
        "ELSEWHERE: set[str] = set()",
        "test_every_service_is_fuzzed",
    ),
    # 34: floods
    _defence(
        "core/rpc.py",
        '("grpc.max_concurrent_streams", limits.streams)',
        '("grpc.max_concurrent_streams", 1 << 30)',
        "test_calls_that_are_made_and_reset",
        full=True,
    ),
    _defence(
        "core/rpc.py",
        '        ("grpc.max_allowed_incoming_connections", limits.connections),\n',
        "",
        "test_never_are_more_connections_open_than_the_limit",
    ),
    _defence(
        "core/rpc.py",
        '        ("grpc.max_allowed_incoming_connections", limits.connections),\n',
        "",
        "test_connections_over_the_limit_are_closed_and_those_before_them_are_served",
        also=(Piece("core/crowding.py", "            _shut(there[each], each)\n", "            pass\n"),),
    ),
    _defence(
        "core/rpc.py",
        '        ("grpc.http2.min_ping_interval_without_data_ms", round(limits.ping_interval * 1000)),\n',
        "",
        "test_how_often_a_client_may_ping_can_be_set",
    ),
    # 35: crowds
    _defence(
        "core/rpc.py",
        '        ("grpc.max_connection_idle_ms", round(min(limits.idle * 1000, _NEVER))),\n',
        "",
        "test_a_member_that_holds_every_connection_and_calls_nothing_lets_a_new_one_in",
    ),
    _defence(
        "core/crowding.py",
        "        for each in closing:\n            _shut(there[each], each)\n",
        "",
        "test_a_host_that_holds_every_connection_loses_some_to_another",
        "test_a_host_without_a_certificate_that_opens_ever_more_connections_keeps_no_other_out",
        "test_who_was_there_first_and_has_few_connections_keeps_them",
    ),
    # 36: small files
    _defence(
        "peer/sets/gatherer.py",
        "        if manifest is None or manifest.content_id != content_id:",
        "        if manifest is None:",
        "test_a_liar_is_found_out_accused_and_not_asked_again_and_the_honest_give_the_rest",
    ),
    _defence(
        "peer/sets/small_files.py",
        "        if there is None or there.content_id != file.content_id:",
        "        if False:",
        "test_nothing_is_overwritten_the_same_bytes_are_as_good_and_the_rest_goes_on",
    ),
    _defence(
        "peer/disk/beneath.py",
        "    flags |= os.O_NOFOLLOW | os.O_CLOEXEC",
        "    flags |= os.O_CLOEXEC",
        "test_no_link_leads_outside",
    ),
    _defence(
        "peer/sets/small_files.py",
        "        descriptor = rooted.create_nameless(self._root, parent)\n        if descriptor is None:\n",
        "        descriptor = rooted.create_file(self._root, file.path)\n        if descriptor is None:\n",
        "test_kill_9_at_any_time_leaves_no_half_file_under_a_final_name_and_all_that_was_acknowledged",
    ),
    _defence(
        "peer/sets/set_listing.py",
        "            broken = len(files) < len(response.files)\n",
        "            broken = False\n",
        "test_a_neighbours_list_that_is_none_is_begun_again_at_central_and_nothing_comes_twice",
    ),
    # 37: look-ups
    _defence(
        "central/servicer.py",
        "await self._turns.run(who_calls(context), lambda: self._catalogue.list_files(request))",
        "await self._catalogue.list_files(request)",
        "test_a_member_that_searches_all_the_time_keeps_nobody_waiting",
    ),
    _defence(
        "central/store/sqlite_patience.py",
        "                    db.interrupt()",
        "                    pass",
        "test_a_search_that_takes_too_long_is_given_up_and_its_thread_serves_others",
    ),
    _defence(
        "central/mutations.py",
        "        if turn.users >= MOST_WAITING:",
        "        if False:",
        "test_so_many_changes_of_one_author_wait_also_when_nobody_waits_for_them",
    ),
    _defence(
        "peer/relay_servicer.py",
        "        self._carried = Shares(carried, carried_each)",
        "        self._carried = Shares(carried * 1000, carried_each * 1000)",
        "test_so_many_calls_are_carried_at_once_for_each_caller_and_for_all",
    ),
    # 38: the dead
    _defence(
        "central/sessions/suspects.py",
        "        check_proof(suspect, peer.public_key, nonce, signature)\n",
        "",
        "test_a_neighbour_that_lies_keeps_nobody_alive",
        "test_relays_that_say_that_a_hidden_peer_lives_keep_it_no_longer_than_its_grace",
    ),
    _defence(
        "central/sessions/probing.py",
        "return latest.began if latest and latest.nonce == nonce else None",
        "return latest.began if latest else None",
        "test_a_signature_that_is_brought_again_later_keeps_nobody_alive",
    ),
    _defence(
        "central/sessions/membership.py",
        "        if deadline <= lease.deadline:\n            return False\n",
        "",
        "test_a_proof_that_comes_twice_or_late_gives_nothing_and_takes_nothing",
    ),
    _defence(
        "central/sessions/membership.py",
        "        lease.deadline = min(lease.deadline, now + self._grace)\n",
        "        lease.deadline = now + self._grace\n",
        "test_the_grace_is_never_longer_than_what_is_left_of_the_lease",
    ),
    _defence(
        "central/sessions/heartbeats.py",
        "            self._roster.leases.broken(stream.beat.session_id, stream.number, self._directory.clock())\n",
        "",
        "test_a_broken_stream_makes_suspect_at_once_and_expired_after_the_grace",
    ),
    _defence(
        "central/sessions/membership.py",
        "        return [session for session, deadline in ending.items() if deadline <= over]",
        "        return []",
        "test_silence_expires_the_lease_ends_the_stream_and_withdraws_the_files",
    ),
    # 39: the living
    _defence(
        "central/sessions/awake_clock.py",
        "            self._away += overdue\n",
        "            pass\n",
        "test_the_time_in_which_nobody_read_it_does_not_count_but_for_one_interval",
    ),
    _defence(
        "central/sessions/membership.py",
        "        self._settled = now + RETURN\n",
        "        self._settled = now\n",
        "test_nobody_expires_within_ten_seconds_of_centrals_return_and_graces_begin_then",
    ),
    _defence(
        "central/sessions/membership.py",
        "        over = now if few else now - LONGEST_WAIT\n",
        "        over = now\n",
        "test_more_than_a_few_that_fall_silent_together_wait_although_their_leases_end_one_by_one",
    ),
    _defence(
        "central/directory.py",
        "        self.suspects.look_for()\n",
        "",
        "test_a_peer_that_others_reach_is_kept_and_marked_and_its_files_stay",
    ),
    _defence(
        "peer/relays/probing.py",
        "= [attached] if self._relaying.is_here(suspect.peer_id) else []",
        "= []",
        "test_a_hidden_peer_that_only_central_does_not_hear_is_kept_and_gives_through_its_relay",
    ),
    _defence(
        "central/sessions/sessions.py",
        "            sessions = self._roster.leases.sweep(self._clock())\n",
        "            sessions = self._roster.leases.sweep(self._wall())\n",
        "test_a_time_of_day_that_jumps_by_an_hour_ends_no_session",
    ),
    _defence(
        "peer/links/channels.py",
        "self._opened(address, CENTRAL_MESSAGE, name, back_soon=True)",
        "self._opened(address, CENTRAL_MESSAGE, name)",
        "test_central_is_tried_every_half_second_whatever_the_channels_backoff",
    ),
    _defence(
        "core/rpc.py",
        '        ("grpc.server.max_pending_requests", limits.pending),\n',
        "",
        "test_a_herd_that_returns_at_once_fits",
        also=(
            Piece("core/rpc.py", '        ("grpc.server.max_pending_requests_hard_limit", 2 * limits.pending),\n', ""),
        ),
    ),
    _defence(
        "peer/links/backoff.py",
        "return random.uniform(FIRST_BACKOFF / 2, min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** min(failures, 10)))",
        "return min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** min(failures, 10))",
        "test_a_herd_spreads",
    ),
    # 40: one central
    _defence(
        "core/own_directory.py",
        "        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "        pass\n",
        "test_a_second_central_on_the_same_data_or_port_refuses_to_start",
    ),
    _defence(
        "core/rpc.py",
        '    ("grpc.so_reuseport", 0),\n',
        "",
        "test_a_second_central_on_the_same_data_or_port_refuses_to_start",
    ),
    # 41: copies
    _defence(
        "central/decode.py",
        "    check_signed(signed, public_key, END_PLACEMENT, now)",
        "    pass",
        "test_only_the_author_can_give_up_and_a_repeated_request_is_answered_as_the_first",
    ),
    _defence(
        "central/store/sqlite_claims.py",
        "    if db.execute(others, (content_id, number)).fetchone() is None:",
        "    if True:",
        "test_two_owners_share_copies_the_most_count_and_each_gives_up_its_own_claim",
    ),
    _defence(
        "central/copies/promises.py",
        "    if not claims:\n        return []",
        "    pass",
        "test_what_nobody_claims_is_not_needless",
    ),
    _defence(
        "peer/library/copies.py",
        "            await asyncio.to_thread(_remove_durably, self._store, store_name(content_id))",
        "            if place := self._holdings.place(content_id):\n                place.location.unlink()",
        "test_a_file_of_the_users_own_is_never_dropped",
    ),
    # 42: acknowledged is on disk
    _defence(
        "central/store/sqlite_schema.py",
        '"foreign_keys = ON", "synchronous = FULL"',
        '"foreign_keys = ON", "synchronous = NORMAL"',
        "test_central_answers_a_publication_when_its_journal_is_synced",
    ),
    _defence(
        "peer/fetching/partial.py",
        "                os.fsync(descriptor)\n",
        "                pass\n",
        "test_a_copy_is_confirmed_when_its_bytes_its_name_and_its_record_are_synced",
    ),
    _defence(
        "central/store/sqlite_store.py",
        '            db.execute("COMMIT")\n',
        '            db.execute("COMMIT") if begin == "BEGIN" or db.total_changes % 16 == 0 else None\n',
        "test_nothing_that_central_acknowledged_under_writes_is_gone_after_kill_9",
        also=(
            Piece(
                "central/store/sqlite_store.py",
                "        db.execute(begin)\n",
                "        db.in_transaction or db.execute(begin)\n",
            ),
        ),
    ),
    # 43: disks that are full or fail
    _defence(
        "central/store/sqlite_store.py",
        "        if error.sqlite_errorcode & 0xFF in _DISK:",
        "        if False:",
        "test_a_full_disk_is_said_to_be_full_and_changes_nothing",
        "test_a_central_whose_sync_fails_refuses_stays_and_goes_on",
    ),
    _defence(
        "peer/fetching/partial.py",
        "            raise disk_error(error, self.directory) from error\n",
        "            raise\n",
        "test_trouble_with_the_disk_is_said_in_a_sentence_and_what_is_there_stays",
    ),
    _defence(
        "peer/fetching/partial.py",
        "            except OSError:\n                self._remove()\n                raise\n",
        "            except OSError:\n                raise\n",
        "test_a_failed_sync_is_not_trusted_a_second_time",
    ),
    # 44: rot
    _defence(
        "peer/library/blocks.py",
        "if len(data) != length or not (opened.is_checked(indices) or manifest.verifies_run(index, data)):",
        "if len(data) != length:",
        "test_a_block_is_compared_with_its_digest_once_for_every_opening",
    ),
    _defence(
        "peer/library/blocks.py",
        "    if Stamp.of(os.fstat(descriptor)) != stamp:",
        "    if False:",
        "test_a_change_while_the_file_is_open_is_noticed",
    ),
    _defence(
        "peer/library/library.py",
        "        await self._withdraw(content_id, place, changed=isinstance(error, Corrupt))\n",
        "        raise error\n",
        "test_a_changed_file_is_not_served_but_withdrawn_and_hashed_again",
        "test_a_change_that_puts_size_and_mtime_back_is_noticed_when_the_file_is_next_opened",
    ),
    # 45: who carries calls to central
    _defence(
        "core/signing.py",
        "    verify(key, _answer_message(answer, request, public_key), answer.signature)\n",
        "",
        "test_what_is_not_centrals_answer_is_not_believed_and_the_backup_carries",
        "test_what_the_carrier_changes_or_invents_is_refused_and_told_under_the_authors_name_to_nobody",
    ),
    _defence(
        "core/signing.py",
        "    return _joined(_ANSWER_CONTEXT, asked, outcome.encode(),",
        "    return _joined(_ANSWER_CONTEXT, asked[:0], outcome.encode(),",
        "test_what_is_not_centrals_answer_is_not_believed_and_the_backup_carries",
    ),
    _defence(
        "core/certificates.py",
        "        policy.build_server_verifier(x509.DNSName(name)).verify(own, links)\n",
        "",
        "test_what_is_not_centrals_answer_is_not_believed_and_the_backup_carries",
    ),
    _defence(
        "peer/directory/carried_central.py",
        "            self.carriers.rest(carrier)\n            why",
        "            await asyncio.sleep(600)\n            why",
        "test_a_carrier_that_brings_nothing_is_passed_over",
        also=(
            Piece(
                "peer/directory/carried_central.py",
                "await first_success(attempts, PATIENCE)",
                "await first_success(attempts, 600.0)",
            ),
            Piece(
                "peer/directory/carried_central.py",
                "            if self.carriers.clock() - began > 0.9 * PATIENCE:",
                "            if False:",
            ),
        ),
    ),
    # 46: what comes late
    _defence(
        "central/sessions/single_beats.py",
        "        counts = bool(nonce) and",
        "        counts = True or",
        "test_a_beat_that_comes_again_changes_nothing",
        "test_a_beat_that_was_overtaken_changes_nothing",
        "test_beats_of_before_a_restart_change_nothing_after_it",
    ),
    _defence(
        "peer/directory/logins.py",
        "        if self._open is not None and self.unanswered:",
        "        if False:",
        "test_a_login_without_an_answer_is_asked_again_as_it_was",
    ),
    _defence(
        "central/mutations.py",
        "            answer = await self._store.answer(author, request_id)\n",
        "            answer = None\n",
        "test_a_login_that_is_held_back_ends_no_session_when_it_comes",
    ),
    # 47: who gets in through others
    _defence(
        "central/carried.py",
        "            await self._network.check_member(signed.author)",
        "            pass",
        "test_nobody_gets_in_whose_key_is_no_members",
    ),
    _defence(
        "central/carried.py",
        "        act_for(signed.author)\n",
        "",
        "test_an_author_speaks_for_itself_only",
    ),
    _defence(
        "central/carried.py",
        "        _each_session_id(answer, session_name)\n",
        "",
        "test_a_carried_login_makes_a_session_whose_secret_stays_with_central",
        "test_no_secret_of_a_session_passes_a_carrier",
    ),
    _defence(
        "central/carried.py",
        "        here = not seen or is_loopback(split_address(seen)[0])\n",
        "        here = False\n",
        "test_an_address_that_leads_back_to_central_is_taken_of_peers_on_its_machine_only",
    ),
    # 48: dialling back
    _defence(
        "peer/relays/dial_back.py",
        "if port and host is not None and any(numeric(one) == host for one in hosts):",
        "if port:",
        "test_the_address_that_the_call_comes_from_is_dialled_and_no_other",
        also=(
            Piece(
                "peer/relays/dial_back.py",
                "join_address(str(host), port)",
                "join_address(hosts[0] if hosts else name, port)",
            ),
        ),
    ),
    _defence(
        "peer/relays/dial_back.py",
        "if port and host is not None and any(numeric(one) == host for one in hosts):",
        "if port:",
        "test_not_one_packet_reaches_a_canary_whatever_a_caller_names",
        also=(
            Piece(
                "peer/relays/dial_back.py",
                "join_address(str(host), port)",
                "join_address(hosts[0] if hosts else name, port)",
            ),
        ),
    ),
    _defence(
        "peer/links/channels.py",
        "channel = open_channel(address, PEER_MESSAGE, material, peer_name(peer_id), alone=True)",
        "channel = open_channel(address, PEER_MESSAGE, None, peer_name(peer_id), alone=True)",
        "test_who_answers_at_an_address_has_to_be_the_one_who_named_it",
    ),
    # 49: a relay is no proxy
    _defence(
        "peer/relays/relaying.py",
        """        attached = self._users.get(holder)
        if attached is None:
            raise Unreachable("that peer is not attached to this one, which asks nobody else")
""",
        """        attached = self._users.get(holder) or next(iter((*self._users.values(), *self._guests.values())))
""",
        "test_whoever_is_not_attached_is_not_asked",
        "test_a_relay_dials_nobody_for_another",
        "test_an_invitation_is_good_once_for_the_one_that_was_invited",
    ),
    _defence(
        "peer/relays/relaying.py",
        """        caller().check_is(checks.peer_id(first.peer_id, "peer_id"))
""",
        "",
        "test_nobody_attaches_delivers_or_invites_in_anothers_name",
    ),
    # 50: a relay's shares
    _defence(
        "peer/relays/relaying.py",
        "        if not self._slots.take(asker, holder):\n",
        "        if not self._slots.take(secrets.token_hex(4), holder):\n",
        "test_who_is_over_its_share_is_told_when_to_come_back_and_others_are_unharmed",
    ),
    _defence(
        "peer/relays/relay_shares.py",
        "if used > _OPEN * self._most and held > amount and held > self._most // (others + 2):",
        "if False:",
        "test_whoever_comes_last_finds_something_however_greedy_the_others_are",
    ),
    _defence(
        "peer/relays/relaying.py",
        "elif first.peer_id not in self._users and not self._places.take(first.peer_id):",
        "elif False:",
        "test_so_many_peers_are_attached",
    ),
    _defence(
        "core/requests.py",
        "            async with turns:\n                yield\n",
        "            yield\n",
        "test_of_one_caller_few_requests_are_read_at_once",
    ),
    # 51: a relay that lies or goes
    _defence(
        "peer/fetching/lines.py",
        "        if way is None or way.how is not How.RELAYED:\n            return False\n",
        "        if True:\n            return False\n",
        "test_a_relay_that_flips_a_bit_is_found_out_the_other_taken_and_the_holder_not_accused",
    ),
    _defence(
        "peer/fetching/lines.py",
        "for ways in ([working] if working else [], pushed, by_relay):",
        "for ways in ([working] if working else pushed or by_relay,):",
        "test_a_relay_that_goes_in_the_middle_is_replaced_by_the_other",
    ),
    # 52: an entrance
    _defence(
        "peer/membership/enrolling.py",
        "open_channel(address, CENTRAL_MESSAGE, material, central_name(network_id))",
        "open_channel(address, CENTRAL_MESSAGE)",
        "test_who_takes_centrals_place_is_not_told_the_secret",
    ),
    _defence(
        "peer/daemon.py",
        "return at_port(self.session.centrals, self.credentials.membership.enrolment_port) if self.credentials else []",
        "return list(self.session.centrals)",
        "test_a_stranger_reaches_enrolment_through_an_entrance_and_nothing_else",
    ),
    _defence(
        "peer/daemon.py",
        "if self.credentials and self.settings.entrance:",
        'if self.credentials and (self.settings.entrance or "127.0.0.2:0"):',
        "test_an_entrance_is_shut_unless_it_is_asked_for",
    ),
    # 53: what strangers may have of an entrance
    _defence(
        "central/server.py",
        """    def servicer() -> EnrolmentServicer:
        gate = Gate(settings.enrolment_rate, settings.enrolment_total_rate)
""",
        """    gate = Gate(settings.enrolment_rate, settings.enrolment_total_rate)

    def servicer() -> EnrolmentServicer:
""",
        "test_strangers_that_use_up_what_a_host_may_ask_keep_no_member_of_it_from_renewing",
    ),
    _defence(
        "peer/membership/enrolling.py",
        "        except (errors.Unreachable, errors.Busy) as error:\n",
        "        except errors.Unreachable as error:\n",
        "test_strangers_that_use_up_what_a_host_may_ask_keep_no_member_of_it_from_renewing",
    ),
    _defence(
        "peer/membership/entrance.py",
        "async with asyncio.timeout(limits.silent):",
        "async with asyncio.timeout(None):",
        "test_who_says_nothing_costs_central_no_connection_and_is_sent_away",
    ),
    _defence(
        "peer/membership/entrance.py",
        "async with asyncio.timeout(limits.longest):",
        "async with asyncio.timeout(None):",
        "test_a_connection_is_ended_when_its_time_is_over_whether_something_passes_or_not",
        "test_who_reads_nothing_is_sent_away",
    ),
    _defence(
        "peer/membership/entrance.py",
        "_pipe(reader, central, limits.to_central - len(hello))",
        "_pipe(reader, central, 1 << 60)",
        "test_who_sends_for_ever_brings_central_a_few_kibibytes",
    ),
    _defence(
        "peer/membership/entrance.py",
        "_pipe(answers, writer, limits.to_newcomer)",
        "_pipe(answers, writer, 1 << 60)",
        "test_what_answers_for_ever_is_cut_off",
    ),
    _defence(
        "peer/membership/entrance.py",
        "held.total() >= AT_ONCE or held[host] >= AT_ONCE_EACH",
        "held.total() >= AT_ONCE",
        "test_a_host_that_opens_a_thousand_connections_gets_a_few_and_keeps_no_newcomer_out",
    ),
    _defence(
        "peer/membership/entrance.py",
        "held.total() >= AT_ONCE or held[host] >= AT_ONCE_EACH",
        "held[host] >= AT_ONCE_EACH",
        "test_many_hosts_together_get_so_many_connections",
    ),
    _defence(
        "peer/membership/entrance.py",
        "elif self._gate.take(address, self._clock()):",
        "elif False:",
        "test_so_many_connections_come_in_a_while_however_short_they_are",
    ),
    # 54: without central
    _defence(
        "peer/fetching/swarm.py",
        '                log.debug("central names no holders: %s", error)\n                continue\n',
        "                raise\n",
        "test_a_download_of_which_a_tenth_is_there_when_central_is_killed_completes",
        "test_errors_of_central_do_not_end_a_download_that_runs",
    ),
    # 55: what a crash leaves of a download
    _defence(
        "peer/fetching/partial.py",
        "                if manifest.verifies(index, os.pread(descriptor, length, offset)):",
        "                if True:",
        "test_whatever_a_crash_left_only_right_blocks_are_trusted",
    ),
    _defence(
        "peer/fetching/partial.py",
        "                    found.append(index)\n",
        "                    pass\n",
        "test_a_download_goes_on_after_kill_9_with_what_was_on_disk",
    ),
)
