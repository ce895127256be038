"""What schemathesis does not know by itself: packages, of which it makes up
nothing better than some bytes, and which it need not look into."""

import schemathesis


@schemathesis.serializer("application/zip")
def some_bytes(context, value):
    return value if isinstance(value, bytes) else repr(value).encode()


@schemathesis.deserializer("application/zip")
def as_it_came(context, response):
    return response.content


# What can't be changed: the node's id, and what drive.py holds by the
# environment. With one of them in it, as schemathesis makes it up or the
# document's defaults have it, a change that is good otherwise would be refused.
HELD = [
    ("nodeId", "0"),
    ("mainServerIp", "192.168.110.10"),
    ("mainServerPort", 80),
    ("storage.path", "./storage"),
    ("logging.filePath", "./logs/node.log"),
]


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.path != "/api/config" or not isinstance(case.body, dict):
        return
    body = dict(case.body)
    for key, default in HELD:
        section, _, name = key.rpartition(".")
        place = body.get(section) if section else body
        if isinstance(place, dict) and place.get(name) == default:
            place = {other: value for other, value in place.items() if other != name}
            body = {**body, section: place} if section else place
    case.body = body
