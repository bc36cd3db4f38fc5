"""Servers that tests start: an object storage (moto), and PostgreSQL where it is installed."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def object_storage(bucket: str) -> Iterator[dict[str, str]]:
    """An S3 with one bucket; gives the settings by which pyiceberg reaches it."""
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        url = f"http://{host}:{port}"
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "s3cr3t-of-the-bucket"}
        boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys).create_bucket(Bucket=bucket)
        yield {
            "s3.endpoint": url,
            "s3.region": "us-east-1",
            "s3.access-key-id": keys["aws_access_key_id"],
            "s3.secret-access-key": keys["aws_secret_access_key"],
        }
    finally:
        running.stop()


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL of its own; gives the URL of its database. Skips where PostgreSQL is not installed."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    found = debian[0] if debian else shutil.which("initdb")
    if found is None:
        pytest.skip("PostgreSQL is not installed: no initdb on the path or in /usr/lib/postgresql")
    programs = Path(found).parent
    folder = Path(tempfile.mkdtemp(prefix="odograph-pg-"))  # a socket's path is short
    as_nobody: list[str] = []
    if os.geteuid() == 0:  # it refuses to run as root
        as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        shutil.chown(folder, "nobody", "nogroup")
    data = folder / "data"

    def run(*command: str) -> None:
        subprocess.run([*as_nobody, *command], check=True, capture_output=True, cwd="/")

    run(str(programs / "initdb"), "-D", str(data), "-U", "odo", "-A", "trust", "-N", "--no-locale", "-E", "UTF8")
    options = f"-k {folder} -h '' -c fsync=off"
    run(str(programs / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql://odo:hunter2-of-the-database@/postgres?host={folder}"
    finally:
        run(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)
