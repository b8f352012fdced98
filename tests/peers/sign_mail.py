"""Signs mails with DKIM by dkimpy. For each mail on standard input, as its length on a line and its bytes, writes the signed
one in the same way.

    sign_mail.py SELECTOR DOMAIN KEY_FILE
"""

import sys

import dkim

selector, domain, file = sys.argv[1:]
key = open(file, "rb").read()
while line := sys.stdin.buffer.readline():
    mail = sys.stdin.buffer.read(int(line))
    field = dkim.sign(mail, selector.encode(), domain.encode(), key, include_headers=[b"from", b"to", b"subject", b"date", b"message-id"])
    signed = field + mail
    sys.stdout.buffer.write(b"%d\n" % len(signed) + signed)
    sys.stdout.buffer.flush()
