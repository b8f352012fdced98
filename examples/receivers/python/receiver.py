"""A help desk's side of Segue, in Python.

Takes events, verifies each with the official Standard Webhooks library, reads it with the official CloudEvents library,
drops repeats, keeps each conversation in order, prints one line an interaction and, if it has a token, answers.

    SEGUE_WEBHOOK_SECRET  the `whsec_...` of this help desk in segue.toml (required)
    SEGUE_URL, SEGUE_TOKEN  where the gateway's API is, and a token with the scope `write`: then customers are answered
    PORT                  where to listen on 127.0.0.1; 0 takes a free port (default 9000)
"""

import json
import os
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

MOST_BYTES = 1 << 20


class Desk:
    """What this help desk knows. A real one keeps both tables in its database, in the transaction that does the work."""

    def __init__(self):
        self.lock = threading.Lock()
        self.seen = set()  # ids of events that were taken
        self.latest = {}  # conversation -> sequence of its latest event

    def take(self, event, previous):
        """Takes an event. Gives whether it is new."""
        with self.lock:
            if event.get_id() in self.seen:
                return False
            self.seen.add(event.get_id())
            conversation, sequence = event.get_subject(), event.get_attributes().get("sequence")
            if sequence is None:
                return True  # a test event belongs to no conversation
            latest = self.latest.get(conversation)
            # Sequences are digits of one length: they sort as text. `previous` is the event before this one among those
            # that we subscribe to, so the chain shows whether one is missing.
            if latest is not None and sequence <= latest:
                say(f"late: {event.get_id()} is older than what was taken")
            elif latest is not None and previous and previous != latest:
                say(f"gap: {conversation} went from {latest} to {sequence}; the feed at /v1/events has the rest")
            self.latest[conversation] = max(sequence, latest or "")
            return True


def say(line):
    print(line, flush=True)


def answer(event, interaction):
    """Answers the customer by the channel they wrote on."""
    url, token = os.environ.get("SEGUE_URL"), os.environ.get("SEGUE_TOKEN")
    if not (url and token) or interaction["kind"] != "message":
        return
    request = urllib.request.Request(
        f"{url}/v1/conversations/{event.get_subject()}/replies",
        data=json.dumps({"text": f"We have read: {interaction['text']}"}).encode(),
        headers={
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            # The same event never gives two answers, however often this runs.
            "Idempotency-Key": f"answer-{event.get_id()}",
        },
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        say(f"answered {event.get_subject()}: {response.status}")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    desk = Desk()
    webhook = None

    def do_POST(self):
        size = int(self.headers.get("Content-Length", 0))
        if size > MOST_BYTES:
            return self.respond(413)
        body = self.rfile.read(size)
        try:
            # Over the bytes as they came: parsing and writing JSON again would break the signature.
            self.webhook.verify(body, dict(self.headers.items()), json_parse=False)
        except WebhookVerificationError as error:
            say(f"refused: {error}")
            return self.respond(401)
        event = from_structured_event(HTTPMessage(headers=dict(self.headers.items()), body=body))
        if self.desk.take(event, self.headers.get("segue-previous-sequence")):
            interaction = event.get_data().get("interaction")
            if interaction:
                name = interaction["author"].get("display_name", "somebody")
                channel = interaction["channel"]["kind"]
                say(f"{event.get_type()} {event.get_id()} {channel} {name}: {interaction['text']}")
                threading.Thread(target=answer, args=(event, interaction), daemon=True).start()
        self.respond(204)

    def respond(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    secret = os.environ.get("SEGUE_WEBHOOK_SECRET")
    if not secret:
        sys.exit("set SEGUE_WEBHOOK_SECRET to the secret of this help desk")
    Handler.webhook = Webhook(secret)
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "9000"))), Handler)
    say(f"listening on http://127.0.0.1:{server.server_address[1]}/events")
    server.serve_forever()


if __name__ == "__main__":
    main()
