"""Signs requests with the official libraries of providers.

Reads one JSON object a line from standard input and writes the headers to send, as JSON, a line each:
{"provider": "twilio", "token", "url", "parameters"} or {"provider": "slack", "secret", "timestamp", "body"}.
"""

import json
import sys

from slack_sdk.signature import SignatureVerifier
from twilio.request_validator import RequestValidator

for line in sys.stdin:
    wanted = json.loads(line)
    if wanted["provider"] == "twilio":
        signature = RequestValidator(wanted["token"]).compute_signature(wanted["url"], wanted["parameters"])
        headers = {"X-Twilio-Signature": signature}
    else:
        verifier = SignatureVerifier(wanted["secret"])
        signature = verifier.generate_signature(timestamp=wanted["timestamp"], body=wanted["body"])
        headers = {"X-Slack-Request-Timestamp": wanted["timestamp"], "X-Slack-Signature": signature}
    print(json.dumps(headers), flush=True)
