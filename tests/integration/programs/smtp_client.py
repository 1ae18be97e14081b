"""smtplib: two messages on one connection."""

import smtplib
import sys
from email.message import EmailMessage

with smtplib.SMTP("127.0.0.1", int(sys.argv[1]), timeout=60) as smtp:
    for subject, text in (("short", "hello"), ("long", "a line of text\n" * 10_000)):
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "a@example.org", "b@example.org", subject
        message.set_content(text)
        assert smtp.send_message(message) == {}
print("done")
