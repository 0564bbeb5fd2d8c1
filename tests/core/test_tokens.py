import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.certificates import Authority
from core.errors import InvalidInput
from core.tokens import INVITATION_BYTES, PREFIX, SECRET_BYTES, JoinToken, _check

AUTHORITY = Authority.create(1_800_000_000.0, 1e9).certificate
TOKEN = JoinToken(("central.example.org:7400", "[fe80::1]:7400"), 7401, b"8 bytes!", b"16 secret bytes!", AUTHORITY)
ID = "a" * 52
TEXT = TOKEN.to_text()
HOSTS = st.sampled_from(["10.0.0.7:7400", "[2001:db8::7]:7400", "central:1", "central.example.org:65535"])


def changed(**fields):
    return JoinToken(**{name: fields.get(name, getattr(TOKEN, name)) for name in TOKEN.__slots__}).to_text()


@given(
    st.lists(HOSTS, min_size=1, max_size=16),
    st.integers(1, 65535),
    st.binary(min_size=INVITATION_BYTES, max_size=INVITATION_BYTES),
    st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES),
    st.lists(HOSTS | HOSTS.map(lambda host: f"{ID}@{host}"), max_size=16),
)
def test_a_token_survives_the_journey_as_one_word(addresses, port, invitation_id, secret, via):
    token = JoinToken(tuple(addresses), port, invitation_id, secret, AUTHORITY, tuple(via))
    text = token.to_text()
    assert JoinToken.from_text(text) == token
    assert set(text) <= set(string.ascii_letters + string.digits + "-_")


def test_a_token_with_the_most_and_the_longest_addresses_survives_too():
    longest = f"{'h' * 253}:65535"
    token = JoinToken((longest,) * 16, 1, TOKEN.invitation_id, TOKEN.secret, AUTHORITY, (f"{ID}@{longest}",) * 16)
    assert JoinToken.from_text(token.to_text()) == token


@pytest.mark.parametrize(
    ("via", "words"),
    [(("nowhere",), "not HOST:PORT"), (("x@h:1",), "not PEER_ID@HOST:PORT"), (("h:1",) * 17, "more than 16 peers")],
)
def test_a_token_that_names_no_peers_where_it_should_is_refused(via, words):
    with pytest.raises(InvalidInput, match=words):
        JoinToken.from_text(changed(via=via))


def test_a_token_is_short_enough_to_paste():
    assert len(TEXT) < 700


def test_a_token_with_any_one_character_changed_is_refused():
    for position, character in enumerate(TEXT):
        for other in ("A" if character != "A" else "B", chr(ord(character) ^ 1), "!", "é"):
            with pytest.raises(InvalidInput):
                JoinToken.from_text(TEXT[:position] + other + TEXT[position + 1 :])


@pytest.mark.parametrize("host", ["c", "ce", "cen"])
def test_no_other_character_can_stand_for_the_last_one(host):
    """Base64 has spare bits there for two lengths of three."""
    text = changed(addresses=(f"{host}:7400",))
    for other in set(string.ascii_letters + string.digits + "-_") - {text[-1]}:
        with pytest.raises(InvalidInput, match="not complete"):
            JoinToken.from_text(text[:-1] + other)


@pytest.mark.parametrize("length", [0, 1, len(PREFIX), len(PREFIX) + 1, len(PREFIX) + 6, 100, -1])
def test_a_part_of_a_token_is_refused(length):
    with pytest.raises(InvalidInput):
        JoinToken.from_text(TEXT[:length])


@given(st.text(max_size=60))
def test_other_words_are_refused(text):
    for word in (text, PREFIX + text, TEXT + text.replace(" ", "") + "x", PREFIX * 2 + text):
        with pytest.raises(InvalidInput):
            JoinToken.from_text(word)


def test_a_word_of_a_million_characters_is_refused_at_once():
    with pytest.raises(InvalidInput):
        JoinToken.from_text(PREFIX + "A" * 1_000_000)


@pytest.mark.parametrize("spaces", [" {} ", "\t{}\n", "\n\n{}\r\n"])
def test_blanks_and_line_breaks_that_pasting_adds_do_not_count(spaces):
    assert JoinToken.from_text(spaces.format(TEXT)) == TOKEN
    wrapped = "\n".join(TEXT[start : start + 76] for start in range(0, len(TEXT), 76))
    assert JoinToken.from_text(spaces.format(wrapped)) == TOKEN


@pytest.mark.parametrize(
    "fields",
    [
        {"addresses": ()},
        {"addresses": ("10.0.0.7:7400",) * 17},
        {"addresses": ("10.0.0.7",)},
        {"addresses": ("unix:/tmp/socket",)},
        {"enrolment_port": 0},
        {"enrolment_port": 65_536},
        {"invitation_id": b"7 bytes"},
        {"secret": b""},
        {"authority": b""},
        {"authority": AUTHORITY[:-1]},
    ],
)
def test_a_whole_token_that_does_not_say_what_is_needed_is_refused(fields):
    with pytest.raises(InvalidInput, match="token"):
        JoinToken.from_text(changed(**fields))


def test_a_token_that_is_no_message_inside_is_refused():
    data = b"\xff\xff\xff"
    with pytest.raises(InvalidInput):
        JoinToken.from_text(PREFIX + base64.urlsafe_b64encode(data + _check(data)).decode().rstrip("="))


def test_a_token_does_not_show_its_secret_in_a_log():
    shown = f"{TOKEN} {TOKEN!r}"
    assert TOKEN.invitation_id.hex() in shown
    assert "secret" not in shown
    assert TOKEN.secret.hex() not in shown
