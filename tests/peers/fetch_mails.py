"""Fetches all mails of INBOX into nothing, by Python's imaplib with several commands under way: the measure of a mailbox.

    fetch_mails.py PORT CERTIFICATE USER PASSWORD

imaplib waits for the answer to each command, so commands are written past it, and its reader takes the answers.
"""

import imaplib
import resource
import ssl
import sys
import time

AT_ONCE, UNDER_WAY = 64, 8

port, certificate, user, password = sys.argv[1:]
box = imaplib.IMAP4_SSL("localhost", int(port), ssl_context=ssl.create_default_context(cafile=certificate))
box.login(user, password)
count = int(box.select(readonly=True)[1][0])
began = time.monotonic()
todo = [f"{first}:{min(first + AT_ONCE - 1, count)}" for first in range(1, count + 1, AT_ONCE)]
under_way, mails, size = [], 0, 0
while todo or under_way:
    while todo and len(under_way) < UNDER_WAY:
        tag = box._new_tag()
        box.send(tag + b" FETCH " + todo.pop(0).encode() + b" (UID BODY.PEEK[])\r\n")
        under_way.append(tag)
    box._get_response()
    for answer in box.untagged_responses.pop("FETCH", []):
        if isinstance(answer, tuple):
            mails, size = mails + 1, size + len(answer[1])
    under_way = [tag for tag in under_way if not box.tagged_commands.get(tag)]
took = time.monotonic() - began
assert mails == count, f"{mails} of {count} mails"
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"imaplib: {mails} mails, {size >> 10} KiB in {took:.2f} s, {mails / took:.0f}/s, {memory >> 10} MiB at the peak")
