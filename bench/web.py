"""nginx and curl as a rival, with a hash over the result: BLAKE3 on all cores, as b3sum does it.

`python -m bench.web URL TARGET` fetches and hashes; the certificate of the server is taken from beside its key.
"""

import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from blake3 import blake3

from bench.measured import Trial, Watched, peak
from bench.programs import Failed, Programs, until
from bench.taking import synced, tell, told

_CONFIGURATION = """
daemon off;
master_process off;
pid {base}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    sendfile on;
    client_body_temp_path {base}/nginx-body;
    proxy_temp_path {base}/nginx-proxy;
    fastcgi_temp_path {base}/nginx-fastcgi;
    uwsgi_temp_path {base}/nginx-uwsgi;
    scgi_temp_path {base}/nginx-scgi;
    server {{ listen {plain}; root {root}; }}
    server {{
        listen {secure} ssl;
        ssl_protocols TLSv1.3;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        root {root};
    }}
}}
"""


class Web:
    """One nginx, in one process, on two ports: in plaintext and with TLS 1.3.

    Attributes:
        plain: where it serves in plaintext.
    """

    def __init__(self, programs: Programs, file: Path) -> None:
        """Serves the directory of `file`.

        Raises:
            Failed: nginx or curl is not installed, or nginx does not start.
        """
        nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
        if not nginx or not shutil.which("curl"):
            raise Failed("nginx or curl is missing (Debian: apt-get install nginx-light curl)")
        base = programs.base
        key, certificate = base / "web-key.pem", base / "web.pem"
        _certify(key, certificate)
        self._certificate = certificate
        self._programs = programs
        self._file = file
        self.plain, self._secure = (f"127.0.0.1:{port}" for port in _free_ports(2))
        configuration = base / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                base=base, plain=self.plain, secure=self._secure, root=file.parent, key=key, certificate=certificate
            ),
            "utf-8",
        )
        log = base / "nginx.log"
        self._server = programs.launch((nginx, "-c", str(configuration), "-e", "stderr"), log)
        until("nginx serves", lambda: _answers(self.plain) and _answers(self._secure), log=log)

    def fetch(self, directory: Path, *, tls: bool = False, address: str = "") -> Trial:
        """Fetches the file into an empty directory, and hashes it there; from `address` when that leads here."""
        giving = Watched(self._server.pid)
        url = f"{'https' if tls else 'http'}://{address or (self._secure if tls else self.plain)}/{self._file.name}"
        take = self._programs.begin("bench.web", url, directory / "file", self._certificate)
        seconds, taking = told(self._programs.finish(take))
        return Trial(self._file.stat().st_size, seconds, giving.side(), taking)


def _certify(key: Path, certificate: Path) -> None:
    """Makes a certificate of the kind that Relevo's peers have: ECDSA on P-256."""
    making = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=bench"
    names = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate))
    subprocess.run([*making.split(), *names], check=True, capture_output=True)


def _free_ports(count: int) -> Sequence[int]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


def _answers(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


@click.command()
@click.argument("url")
@click.argument("target", type=click.Path(path_type=Path))
@click.argument("certificate", type=click.Path(path_type=Path))
def main(url: str, target: Path, certificate: Path) -> None:
    """Fetches URL into TARGET and hashes what came; the server has to show CERTIFICATE if it shows any."""
    command = ("curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--cacert", certificate)

    def fetch() -> int:
        most = 0
        with subprocess.Popen([*command, "--output", target, url]) as curl:
            while curl.poll() is None:
                try:
                    most = max(most, peak(curl.pid))
                    curl.wait(0.02)
                except subprocess.TimeoutExpired:
                    continue
        if curl.returncode:
            raise click.ClickException(f"curl ended with {curl.returncode}")
        blake3(max_threads=blake3.AUTO).update_mmap(target).digest()
        synced(target)
        return most

    tell(fetch)


if __name__ == "__main__":
    sys.exit(main())
