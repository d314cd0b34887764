"""A raw HTTP client for the OpenAI-compatible API: sockets, so that tests can stop reading, leave in the
middle, and send what no library would."""

import json
import re
import socket

import harness


def http_port(server):
    """The port of the API, from the server's log; None if it is off."""
    for line in server.lines:
        found = re.search(r"OpenAI-compatible API on https?://127\.0\.0\.1:(\d+)/v1", line)
        if found:
            return int(found.group(1))
    return None


class Response:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers  # names in lower case
        self.body = body

    def json(self):
        return json.loads(self.body)

    def error(self):
        return self.json()["error"]

    def events(self):
        """The data of each server-sent event."""
        return [event.removeprefix("data: ") for event in self.body.decode().split("\n\n") if event]


class Connection:
    """One connection to `port` of this machine. `tls`: an ssl.SSLContext, or None."""

    def __init__(self, port, tls=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60 * harness.PATIENCE)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self._file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def send_request(self, method, path, body=b"", **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        fields = {"Host": "localhost", "Content-Length": len(body)}
        if body:
            fields["Content-Type"] = "application/json"
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)

    def read_head(self):
        status = self._file.readline().split()
        headers = {}
        while (line := self._file.readline().strip()):
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return (int(status[1]) if len(status) > 1 else 0), headers

    def read_chunk(self):
        """The next piece of a stream; b"" at its end."""
        size = int(self._file.readline() or b"0", 16)
        data = self._file.read(size)
        self._file.readline()
        return data

    def read_response(self):
        status, headers = self.read_head()
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while (chunk := self.read_chunk()):
                body += chunk
        elif "content-length" in headers:
            body = self._file.read(int(headers["content-length"]))
        return Response(status, headers, body)

    def get(self, path):
        self.send_request("GET", path)
        return self.read_response()

    def post(self, path, body, **headers):
        self.send_request("POST", path, body, **headers)
        return self.read_response()


def post(port, path, body, **headers):
    """One request on a connection of its own."""
    with Connection(port) as connection:
        return connection.post(path, body, **headers)
