"""Everything that is fuzzed, by name."""

from tests.fuzz.engine import Target
from tests.fuzz.targets.answers import AnswerTarget
from tests.fuzz.targets.configuration import ConfigurationTarget
from tests.fuzz.targets.decoding import CertificateTarget, ManifestTarget, TokenTarget
from tests.fuzz.targets.enrolment import EnrolmentTarget
from tests.fuzz.targets.names import NameTarget, StatusTarget
from tests.fuzz.targets.requests import BeatTarget, RequestTarget

TARGETS: dict[str, type[Target]] = {
    target.name: target
    for target in (
        AnswerTarget,
        BeatTarget,
        RequestTarget,
        CertificateTarget,
        ConfigurationTarget,
        EnrolmentTarget,
        ManifestTarget,
        NameTarget,
        StatusTarget,
        TokenTarget,
    )
}
