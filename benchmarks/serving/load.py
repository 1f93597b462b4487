"""Clients that ask a local server without pause. Run in a process of its own.

It reads a JSON object from stdin, with `port`, `texts`, `clients` and `seconds`, and writes one to
stdout. It uses plain sockets, so that it takes few cores from the server.
"""

import asyncio
import json
import sys
import time


async def ask(reader, writer, body: bytes) -> tuple[int, dict]:
    """Send a request on a connection that stays open. RETURNS: status and JSON of the answer."""
    head = (
        "POST /annotate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    status = int(lines[0].split()[1])
    length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length"))
    return status, json.loads(await reader.readexactly(length))


async def client(number: int, plan: dict, until: float, rows: list) -> None:
    """Ask for one text after another until a time. Appends (text, status, seconds, entities)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", plan["port"])
    texts, at = plan["texts"], number
    while time.monotonic() < until:
        i = at % len(texts)
        body = json.dumps({"texts": [texts[i]]}, ensure_ascii=False).encode()
        begin = time.monotonic()
        status, answer = await ask(reader, writer, body)
        seconds = time.monotonic() - begin
        found = None
        if status == 200:
            found = [[e["start"], e["end"], e["label"]] for e in answer["texts"][0]["entities"]]
        rows.append((i, status, seconds, found))
        if status == 429:
            await asyncio.sleep(0.5)
        at += plan["clients"]
    writer.close()


async def run(plan: dict) -> dict:
    """All clients. RETURNS: their rows, and the seconds that they took together."""
    rows: list = []
    begin = time.monotonic()
    until = begin + plan["seconds"]
    await asyncio.gather(*(client(i, plan, until, rows) for i in range(plan["clients"])))
    return {"rows": rows, "seconds": time.monotonic() - begin}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(json.load(sys.stdin)))))
