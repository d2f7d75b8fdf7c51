"""A program that is not the agent, and uses the agent's phantom: ``replay.py FILE``; prints what the broker answers."""

import http.client
import json
import sys
from pathlib import Path

told = json.loads(Path(sys.argv[1]).read_text())
connection = http.client.HTTPConnection("127.0.0.1", told["port"], timeout=30)
body = json.dumps({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": told["nonce"]}]})
headers = {told["header"]: told["value"], "Content-Type": "application/json"}
connection.request("POST", told["path"], body, headers)
print(connection.getresponse().status)
