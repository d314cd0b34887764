"""Certificates for tests, made by openssl: valid for a day, trusted by nobody else."""

import os
import shutil
import subprocess


def available():
    return shutil.which("openssl") is not None


def _openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder, name="authority"):
        self.folder = folder
        self.name = name
        self.certificate = os.path.join(folder, name + ".pem")
        self._key = os.path.join(folder, name + ".key")
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                 "-keyout", self._key, "-out", self.certificate, "-days", "1", "-subj", f"/CN={name}")

    def issue(self, name):
        """(certificate, key): files of a certificate for localhost."""
        certificate, key, request, extension = (
            os.path.join(self.folder, f"{self.name}_{name}.{end}") for end in ("pem", "key", "csr", "ext"))
        with open(extension, "w", encoding="utf-8") as file:
            file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
                 key, "-out", request, "-subj", f"/CN={name}")
        _openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key,
                 "-CAcreateserial", "-out", certificate, "-days", "1", "-extfile", extension)
        return certificate, key
