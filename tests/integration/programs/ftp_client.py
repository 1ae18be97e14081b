"""ftplib: files both ways, over data connections that each side opens."""

import ftplib
import io
import sys

LONG = bytes(range(256)) * 4000

with ftplib.FTP(timeout=60) as ftp:
    ftp.connect("127.0.0.1", int(sys.argv[1]))
    ftp.login("user", "word")
    for passive in (True, False):
        ftp.set_pasv(passive)
        name = f"passive-{passive}"
        ftp.storbinary(f"STOR {name}", io.BytesIO(LONG))
        back = io.BytesIO()
        ftp.retrbinary(f"RETR {name}", back.write)
        assert back.getvalue() == LONG
        assert name in ftp.nlst()
        ftp.delete(name)
    assert ftp.nlst() == []
print("done")
