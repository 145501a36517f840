"""All targets, by the names that the command knows them by."""

from tests.fuzz import codecs, dispatcher, frontend, streams
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    "wire-request": codecs.wire_request,
    "wire-reply": codecs.wire_reply,
    "fuse": codecs.fuse,
    "connection": streams.connection,
    "dispatcher": dispatcher.dispatcher,
    "frontend": frontend.frontend,
}
