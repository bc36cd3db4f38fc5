"""Servers that tests start: an object storage (moto), an Iceberg REST catalog, and PostgreSQL where it is installed."""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

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
def cloud(scheme: str, bucket: str, folder: Path) -> Iterator[dict[str, str]]:
    """The storage of Google (`gs`) or Azure (`abfs`) with one bucket, as an emulator; gives the settings by which pyiceberg
    reaches it. Skips where gcp-storage-emulator (of PyPI) or azurite-blob (of azurite, of npm) is not on the path."""
    from pyarrow import fs

    name = {"gs": "gcp-storage-emulator", "abfs": "azurite-blob"}[scheme]
    program = shutil.which(name) or pytest.skip(f"{name} is not on the path")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    host = f"127.0.0.1:{port}"
    if scheme == "gs":
        command = [program, "start", "--host=127.0.0.1", f"--port={port}", "--in-memory"]
        settings = {"gcs.service.host": f"http://{host}", "gcs.oauth2.token": "t", "gcs.oauth2.token-expires-at": "4000000000000"}
        storage = fs.GcsFileSystem(anonymous=True, scheme="http", endpoint_override=host, project_id="p")
    else:
        command = [program, "--blobHost=127.0.0.1", f"--blobPort={port}", f"--location={folder}", "--skipApiVersionCheck"]
        key = (
            "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # azurite's, for everybody
        )
        given = {"account_name": "devstoreaccount1", "account_key": key}
        given |= {"blob_storage_authority": host, "dfs_storage_authority": host}
        given |= {"blob_storage_scheme": "http", "dfs_storage_scheme": "http"}
        settings = {f"adls.{what.replace('_', '-')}": value for what, value in given.items()}
        storage = fs.AzureFileSystem(**given)
    with (folder / "emulator.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), 1):
                break
            assert server.poll() is None, (folder / "emulator.log").read_text()
            time.sleep(0.1)
        storage.create_dir(bucket)
        yield settings
    finally:
        server.kill()
        server.wait()


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


@contextmanager
def rest_catalog(warehouse: Path, lost: Callable[[str, str], bool] = lambda method, path: False) -> Iterator[str]:
    """An Iceberg REST catalog over HTTP, whose tables pyiceberg keeps in SQLite; gives its URL. `lost`: whether the answer to a
    request, which was carried out, is lost on the way.

    As much of https://iceberg.apache.org/rest-catalog-spec/ as a client needs that creates, loads, commits and drops tables.
    """
    pytest.importorskip("pyiceberg")
    from pyiceberg.catalog import Catalog
    from pyiceberg.catalog.rest import CreateTableRequest
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.exceptions import (
        CommitFailedException,
        NamespaceAlreadyExistsError,
        NoSuchNamespaceError,
        NoSuchTableError,
        TableAlreadyExistsError,
    )
    from pyiceberg.table import CommitTableRequest

    kept: Catalog = SqlCatalog("kept", uri=f"sqlite:///{warehouse}/rest.db", warehouse=f"file://{warehouse}")
    one_at_a_time = threading.Lock()
    wrong = {
        CommitFailedException: 409,
        NamespaceAlreadyExistsError: 409,
        TableAlreadyExistsError: 409,
        NoSuchNamespaceError: 404,
        NoSuchTableError: 404,
    }

    def shown(table: Any) -> dict[str, Any]:
        return {"metadata-location": table.metadata_location, "metadata": table.metadata.model_dump(mode="json", by_alias=True)}

    def answer(method: str, parts: list[str], body: bytes) -> Any:
        given = json.loads(body) if body else {}
        match method, parts:
            case "GET", ["config"]:
                return {"defaults": {}, "overrides": {}}
            case "GET", ["namespaces"]:
                return {"namespaces": kept.list_namespaces()}
            case "POST", ["namespaces"]:
                kept.create_namespace(tuple(given["namespace"]), given["properties"])
                return {"namespace": given["namespace"], "properties": given["properties"]}
            case "GET" | "HEAD", ["namespaces", space]:
                return {"namespace": [space], "properties": kept.load_namespace_properties(space)}
            case "GET", ["namespaces", space, "tables"]:
                return {"identifiers": [{"namespace": [space], "name": name} for _, name in kept.list_tables(space)]}
            case "POST", ["namespaces", space, "tables"]:
                asked = CreateTableRequest.model_validate_json(body)
                more = {"partition_spec": asked.partition_spec, "sort_order": asked.write_order, "properties": asked.properties}
                about = {name: value for name, value in more.items() if value is not None}
                return shown(kept.create_table((space, asked.name), asked.table_schema, asked.location, **about))
            case "GET" | "HEAD", ["namespaces", space, "tables", name]:
                return shown(kept.load_table((space, name)))
            case "POST", ["namespaces", space, "tables", name]:
                change = CommitTableRequest.model_validate_json(body)
                return shown(kept.commit_table(kept.load_table((space, name)), change.requirements, change.updates))
            case "DELETE", ["namespaces", space, "tables", name]:
                return kept.drop_table((space, name))
        raise NoSuchTableError(f"nothing answers {method} {'/'.join(parts)}")

    class Answers(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = [unquote(part) for part in urlsplit(self.path).path.removeprefix("/v1/").split("/")]
            try:
                with one_at_a_time:
                    status, found = 200, answer(self.command, parts, body)
            except tuple(wrong) as error:
                status = wrong[type(error)]
                found = {"error": {"message": str(error), "type": type(error).__name__, "code": status}}
            if lost(self.command, self.path):
                self.close_connection = True
                return
            data = b"" if self.command == "HEAD" else json.dumps(found).encode()
            self.send_response(204 if data in (b"", b"null") and status == 200 else status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data) if data != b"null" else 0))
            self.end_headers()
            self.wfile.write(b"" if data == b"null" else data)

        do_POST = do_HEAD = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        kept.close()
