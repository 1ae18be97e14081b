"""requests at `python -m http.server`: one session, which keeps its connection if the server does."""

import sys
from pathlib import Path

import requests

URL = f"http://127.0.0.1:{sys.argv[1]}"

with requests.Session() as session:
    for _ in range(3):
        answer = session.get(f"{URL}/with_requests.py", timeout=60)
        assert answer.content == Path(__file__).read_bytes()
    assert session.head(f"{URL}/nothing", timeout=60).status_code == 404
    with session.get(f"{URL}/fetch.py", stream=True, timeout=60) as answer:
        octets = b"".join(answer.iter_content(100))
assert octets == Path(__file__).with_name("fetch.py").read_bytes()
print("done")
