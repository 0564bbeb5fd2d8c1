import logging

import pytest

from core.logs import PrintableFormatter


@pytest.fixture
def lines():
    """Logs to a list as the programs log to stderr."""
    written = []

    class Listed(logging.Handler):
        def emit(self, record):
            written.append(self.format(record))

    handler = Listed()
    handler.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))
    log = logging.getLogger("relevo.test-logs")
    log.addHandler(handler)
    log.propagate = False
    yield log, written
    log.removeHandler(handler)


def test_what_other_machines_say_steers_no_terminal_and_makes_no_line_of_its_own(lines):
    log, written = lines
    log.warning("%s is refused: %s", "\x1b]0;owned\x07", ValueError("a\nERROR forged \u202e\x9b31m"))
    assert written == ["WARNING \\x1b]0;owned\\x07 is refused: a\\nERROR forged \\u202e\\x9b31m"]


def test_a_traceback_keeps_its_lines(lines):
    log, written = lines
    try:
        int("\x1b[2J")
    except ValueError:
        log.exception("it failed")
    assert written[0].startswith("ERROR it failed\nTraceback")
    assert "invalid literal" in written[0].splitlines()[-1]
    assert "\x1b" not in written[0]


def test_every_script_is_logged_as_it_is(lines):
    log, written = lines
    log.warning("空の año %d", 3)
    assert written == ["WARNING 空の año 3"]
