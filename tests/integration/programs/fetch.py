"""urllib and http.client at `python -m http.server`: what is served is this file's directory."""

import http.client
import sys
import urllib.error
import urllib.request
from pathlib import Path

PORT = int(sys.argv[1])
HERE = Path(__file__).parent
OWN = Path(__file__).read_bytes()

with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/fetch.py", timeout=60) as answer:
    assert answer.status == 200, answer.status
    assert answer.read() == OWN

try:
    urllib.request.urlopen(f"http://127.0.0.1:{PORT}/no-such-file", timeout=60)
except urllib.error.HTTPError as error:
    status = error.code
    error.close()
assert status == 404, status

connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
for path in ("/fetch.py", "/__init__.py"):
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.read() == (HERE / path[1:]).read_bytes()
connection.close()
print("done")
