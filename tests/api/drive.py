"""Starts a main server and a node of it, with a package, and has schemathesis
ask both. Run by `run`, in a network that has nothing but a loopback."""

import atexit
import fcntl
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BINARY = os.environ["EDGE_MIRROR_BIN"]
BOUND_S = 30
# Loopback by another name: who asks under it has to prove his rights, and may
# not change what only the machine itself may.
NAME = "api.test"

# What would end what the others need: asked after them.
ENDING = {
    "node": [["post_api_service_stop", "delete_api_meetings_id"], ["post_api_logout"]],
    "main server": [
        ["post_api_v1_nodes_key", "post_api_v1_meetings_id_end", "delete_api_v1_meetings_id"],
        ["post_api_logout"],
    ],
}
# Streams have no end that schemathesis could wait for: `first_event` asks them.
STREAMS = {"node": ["get_api_events", "get_api_casts"], "main server": ["get_api_v1_events", "get_api_v1_casts_stream", "get_api_v1_tasks_task_events"]}


def only_loopback():
    """Brings the loopback up, and makes sure that there is nothing else."""
    names = [name for _, name in socket.if_nameindex()]
    if names != ["lo"]:
        sys.exit(f"this is no network of its own: it has {names}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        get_flags, set_flags, up = 0x8913, 0x8914, 1
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(control, get_flags, request))[1]
        fcntl.ioctl(control, set_flags, struct.pack("16sh22x", b"lo", flags | up))


class Service:
    """The binary as a process, and what it wrote."""

    def __init__(self, *command, environment=None):
        self.log = ""
        self.process = subprocess.Popen(
            [BINARY, *command, "--host", "127.0.0.1", "--port", "0"],
            env={"PATH": os.environ["PATH"], **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        atexit.register(self.process.kill)
        threading.Thread(target=self._read, daemon=True).start()
        listens = r"(?:is listening|main server listens) on 127\.0\.0\.1:(\d+)"
        self.port = int(self.said(listens))
        # Nobody is told the first one.
        where = command[1:]
        made = subprocess.run(
            [BINARY, "token", "--new", *where], capture_output=True, check=True, encoding="utf-8"
        )
        self.token = re.search(r"#login=(\S+)", made.stdout).group(1)

    def _read(self):
        for line in self.process.stdout:
            self.log += line

    def said(self, pattern):
        found = until(pattern, lambda: re.search(pattern, self.log), self)
        return found.group(1)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def call(self, method, path, body=None, kind="application/json"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=BOUND_S)
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        # Else http.client says that no body follows only for some methods.
        headers = {"Host": NAME, "Authorization": f"Bearer {self.token}"}
        if body is not None:
            headers["Content-Type"] = kind
        connection.request(method, path, body, headers)
        return connection.getresponse()

    def well(self, *call, **more):
        answer = self.call(*call, **more)
        if answer.status >= 300:
            sys.exit(f"{call[:2]}: {answer.status} {answer.read()!r}\n{self.tail()}")
        return answer

    def session(self):
        """A login: it goes before tokens, of which wrong ones are tried."""
        answer = self.well("POST", "/api/login", {"token": self.token})
        return answer.headers["Set-Cookie"].split(";")[0]

    def tail(self):
        return "\n".join(self.log.splitlines()[-30:])

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(BOUND_S)
        if code != 0:
            sys.exit(f"it ended with {code}:\n{self.tail()}")


def until(what, look, service=None):
    deadline = time.monotonic() + BOUND_S
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        if service is not None and service.process.poll() is not None:
            sys.exit(f"it ended:\n{service.tail()}")
        time.sleep(0.02)
    sys.exit(f"not within {BOUND_S} s: {what}\n{service.tail() if service else ''}")


def package():
    """Not so small that a range of it would be all."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("agenda.txt", "议程 agenda\n" * 500)
    return packed.getvalue()


def started_main(folder):
    main = Service("master", "--data", str(folder / "master-data"))
    for title in ["m1", "other"]:
        main.well("POST", "/api/v1/meetings", {"id": title, "title": title})
        main.well("PUT", f"/api/v1/meetings/{title}/package", package(), kind="application/zip")
        main.well("POST", f"/api/v1/meetings/{title}/start")
    return main


def started_node(folder, main):
    config = folder / "node_config.json"
    config.write_text(
        json.dumps(
            {
                "mainServerIp": "127.0.0.1",
                "mainServerPort": main.port,
                "syncInterval": 1,
                "network": {"retryCount": 1, "connectionTimeout": 2},
                "shutdownGrace": 1,
            }
        )
    )
    # What the environment says can't be changed by a call: the node stays this
    # main server's, writes nowhere else, and goes on asking for a login.
    held = {
        "MAIN_SERVER_IP": "127.0.0.1",
        "MAIN_SERVER_PORT": str(main.port),
        "STORAGE__PATH": str(folder / "storage"),
        "LOGGING__FILE_PATH": str(folder / "node.log"),
        "SECURITY__OPEN": "false",
    }
    environment = {f"EDGE_MIRROR_{name}": value for name, value in held.items()}
    node = Service("node", "--config", str(config), environment=environment)

    def synced():
        meetings = json.load(node.well("GET", "/api/status"))["meetings"]
        return [m["state"] for m in meetings] == ["synced", "synced"]

    until("both meetings are synced", synced, node)
    return node


def first_event(service, path, begins=b"event: status\n"):
    answer = service.well("GET", path)
    kind, first = answer.headers["Content-Type"], answer.readline()
    if kind != "text/event-stream" or first != begins:
        sys.exit(f"{path}: {kind} {first!r}")
    answer.close()


def tried(name, service, cookie, ending=None):
    """What schemathesis finds; true for nothing."""
    apart = [one for some in ENDING[name] for one in some] + STREAMS[name]
    filters = [("include", one) for one in ending or []] or [("exclude", one) for one in apart]
    chosen = [f"--{how}-operation-id={one}" for how, one in filters]
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "--config-file", str(HERE / "schemathesis.toml"),
        "run", f"{service.url}/api/openapi.json",
        "-H", f"Cookie: {cookie}", "-H", f"Host: {NAME}",
        *chosen,
    ]
    print(f"\n-- {name}{': ' + ', '.join(ending) if ending else ''}", flush=True)
    good = subprocess.run(command, cwd=folder, check=False).returncode == 0
    if service.process.poll() is not None:
        sys.exit(f"it ended:\n{service.tail()}")
    if not good:
        print(f"--- the end of the log\n{service.tail()}")
    return good


only_loopback()
began = time.monotonic()
with tempfile.TemporaryDirectory(prefix="edge-mirror-api-") as made:
    folder = Path(made)
    # Looked for in the folder that schemathesis runs in, which it writes to.
    shutil.copy(HERE / "hooks.py", folder)
    main = started_main(folder)
    node = started_node(folder, main)
    first_event(node, "/api/events")
    # It has nothing to say yet.
    first_event(node, "/api/casts", begins=b":\n")
    first_event(main, "/api/v1/events")
    found = []
    for name, service in [("node", node), ("main server", main)]:
        cookie = service.session()
        found += [tried(name, service, cookie, ending) for ending in [None, *ENDING[name]]]
    node.end()
    main.end()
    print(f"\n{time.monotonic() - began:.0f} s")
sys.exit(0 if all(found) else 1)
