"""A model server that costs next to nothing: it asks for the tool until the conversation is long enough. Prints its port.

It counts in the bytes of a request instead of parsing them: else it would take longer with each step, and the benchmark with it.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any


def body(said: int, tool: str, steps: int) -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": "It is " + "quite " * 30 + "clear."}
    if said < steps - 1:
        asked = {"name": tool, "arguments": json.dumps({"a": said, "b": 1})}
        message |= {"content": None, "tool_calls": [{"id": f"call_{said}", "type": "function", "function": asked}]}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return json.dumps({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}).encode()


def main(steps: int) -> None:
    """One connection after the other, many requests in each."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    tool = ""
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                more = connection.recv(1 << 20)
                if not more:
                    break
                data += more
            if b"\r\n\r\n" not in data:
                break
            head, _, data = data.partition(b"\r\n\r\n")
            length = int(next(h.split(b":")[1] for h in head.lower().split(b"\r\n") if h.startswith(b"content-length")))
            while len(data) < length:
                data += connection.recv(1 << 20)
            request, data = data[:length], data[length:]
            said = request.count(b'"assistant"')
            if said == 0:
                tool = json.loads(request)["tools"][0]["function"]["name"]
            answer = body(said, tool, steps)
            connection.sendall(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer)
            )
        connection.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
