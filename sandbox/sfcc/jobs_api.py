"""Jobs that write and read files, and the WebDAV folder where the files lie (Jobs API 1.0)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.sax.saxutils import escape

from sandbox.common.server import Answer
from sandbox.sfcc.config import JobDefinition
from sandbox.sfcc.gateway import Call, Operation, basic_credentials, organization_path
from sandbox.sfcc.order_book import stamp
from sandbox.sfcc.refusals import Refusal
from sandbox.sfcc.shapes import ListOf, Record, Text
from sandbox.sfcc.xml_files import ImportedList, catalogue_xml, inventory_xml, price_books_xml, read_inventory

if TYPE_CHECKING:
    from sandbox.sfcc.instance import Instance

__all__ = ["OPERATIONS", "Execution", "JobBoard", "StoredFile"]

JOBS = "/operation/jobs/v1"
WEBDAV = "/on/demandware.servlet/webdav/Sites/"
ROOT = "Impex/src/"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in the WebDAV folder."""

    content: bytes
    modified: datetime

    @property
    def etag(self) -> str:
        """Changes with the content."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'


@dataclass(slots=True)
class Execution:
    """One run of a job."""

    id: str
    job: JobDefinition
    parameters: dict[str, str]
    started: datetime
    execution: str = "pending"
    status: str = "PENDING"
    ended: datetime | None = None
    message: str = ""

    def shown(self) -> dict[str, Any]:
        """As the Jobs API writes it."""
        shown: dict[str, Any] = {
            "id": self.id,
            "jobId": self.job.id,
            "status": self.status,
            "executionStatus": self.execution,
            "startTime": stamp(self.started),
            "parameters": [{"name": name, "value": value} for name, value in self.parameters.items()],
            "isLogFileExisting": False,
        }
        if self.ended is not None:
            shown["endTime"] = stamp(self.ended)
            shown["duration"] = round((self.ended - self.started) / timedelta(milliseconds=1))
            shown["exitStatus"] = {"code": self.status, "message": self.message, "status": self.status.lower()}
        step = {"id": self.job.step, "stepTypeId": self.job.step, "executionStatus": self.execution}
        shown["stepExecutions"] = [step | {"status": self.status}]
        return shown


@dataclass(slots=True)
class JobBoard:
    """The jobs, their runs, and the files they leave. A job runs once at a time; a run takes `job_seconds`."""

    instance: Instance
    files: dict[str, StoredFile] = field(default_factory=dict)
    executions: dict[str, Execution] = field(default_factory=dict)
    _numbers: int = 0

    def start(self, job_id: str, given: dict[str, str]) -> Execution:
        """Starts a job. 404 job-not-found, 400 job-already-running."""
        job = next((one for one in self.instance.config.jobs if one.id == job_id), None)
        if job is None:
            raise Refusal(404, "job-not-found", f"No job with ID '{job_id}' could be found.")
        if any(one.job.id == job_id and one.ended is None for one in self.executions.values()):
            raise Refusal(400, "job-already-running", f"The job '{job_id}' is already running.")
        self._numbers += 1
        clock = self.instance.clock
        execution = Execution(str(self._numbers), job, job.parameters | given, clock.now())
        self.executions[execution.id] = execution
        seconds = self.instance.config.switches.job_seconds
        clock.after(seconds / 2, lambda at: self._running(execution))
        clock.after(seconds, lambda at: self._end(execution, at))
        return execution

    def find(self, job_id: str, execution_id: str) -> Execution:
        """A run; 404 job-execution-not-found."""
        execution = self.executions.get(execution_id)
        if execution is None or execution.job.id != job_id:
            raise Refusal(404, "job-execution-not-found", f"No execution '{execution_id}' of the job '{job_id}'.")
        return execution

    @staticmethod
    def _running(execution: Execution) -> None:
        if execution.ended is None:
            execution.execution, execution.status = "running", "RUNNING"

    def _end(self, execution: Execution, at: datetime) -> None:
        if execution.ended is not None:
            return
        execution.ended = at
        try:
            execution.status, execution.message = _STEPS[execution.job.step](self, execution.parameters, at)
            execution.execution = "finished"
        except (ValueError, Refusal) as error:
            execution.execution, execution.status, execution.message = "aborted", "ERROR", str(error)

    def abort(self, execution: Execution) -> None:
        """Ends a run that has not ended."""
        if execution.ended is None:
            execution.ended = self.instance.clock.now()
            execution.execution, execution.status, execution.message = "aborted", "ERROR", "aborted"

    def _write(self, parameters: dict[str, str], content: bytes, at: datetime) -> tuple[str, str]:
        name = parameters.get("ExportFile") or f"{parameters['FileNamePrefix']}{at:%Y%m%d%H%M%S}.xml"
        path = ROOT + name.lstrip("/")
        if path in self.files and parameters.get("OverwriteExportFile", "true") != "true":
            raise ValueError(f"{path} exists and OverwriteExportFile is not set")
        self.files[path] = StoredFile(content, at)
        return "OK", f"wrote {path}"

    def export_inventory(self, parameters: dict[str, str], at: datetime) -> tuple[str, str]:
        """ExportInventoryLists: the named lists, or all."""
        names = _names(parameters.get("InventoryListIDs", ""))
        lists = [self.instance.inventory_list(one) for one in names] or list(self.instance.lists.values())
        return self._write(parameters, inventory_xml(lists), at)

    def export_price_books(self, parameters: dict[str, str], at: datetime) -> tuple[str, str]:
        """ExportPriceBook: the named books, or all."""
        catalogue = self.instance.catalogue
        names = _names(parameters.get("PriceBookIDs", ""))
        books = [catalogue.book(one) for one in names] or list(catalogue.books.values())
        return self._write(parameters, price_books_xml(books), at)

    def export_catalogue(self, parameters: dict[str, str], at: datetime) -> tuple[str, str]:
        """ExportCatalog."""
        return self._write(parameters, catalogue_xml(self.instance.catalogue), at)

    def import_inventory(self, parameters: dict[str, str], at: datetime) -> tuple[str, str]:
        """ImportInventoryLists: every file of the working folder whose name matches, oldest name first."""
        if self.instance.config.inventory == "oci":
            raise ValueError("Omnichannel Inventory is active: inventory lists cannot be imported")
        folder = ROOT + parameters.get("WorkingFolder", "").strip("/") + "/"
        pattern = re.compile(parameters.get("FileNamePattern", ".*"))
        paths = sorted(
            path
            for path in self.files
            if path.startswith(folder)
            and "/" not in path.removeprefix(folder)
            and pattern.fullmatch(path.removeprefix(folder))
        )
        if not paths:
            handling = parameters.get("NoFilesFoundHandling", "ERROR")
            if handling == "ERROR":
                raise ValueError(f"no file in {folder} matches {pattern.pattern}")
            return handling, "no files found"
        mode = parameters.get("ImportMode", "Merge")
        for path in paths:
            for imported in read_inventory(self.files[path].content):
                self._take_over(imported, mode, at)
            if parameters.get("AfterImportFileHandling", "Keep") != "Keep":
                content = self.files.pop(path)
                if parameters["AfterImportFileHandling"].startswith("Archive"):
                    archive = parameters.get("ArchiveFolder", "archive").strip("/")
                    self.files[f"{folder}{archive}/{path.removeprefix(folder)}"] = content
        return "OK", f"imported {len(paths)} files"

    def _take_over(self, imported: ImportedList, mode: str, at: datetime) -> None:
        inventory = self.instance.inventory_list(imported.list_id)
        named = {record.product_id for record in imported.records}
        if mode == "Replace":
            for product in [one.product_id for one in inventory if one.product_id not in named]:
                inventory.remove(product)
        for counted in imported.records:
            known = inventory.find(counted.product_id)
            if counted.deleted or mode == "Delete":
                if known is not None:
                    inventory.remove(counted.product_id)
                continue
            if known is None and mode == "Update":
                continue
            record = known or inventory.put(counted.product_id, at)
            if counted.allocation is not None:
                record.reset_allocation(counted.allocation, counted.counted or at, at)
            if counted.perpetual is not None:
                record.perpetual = counted.perpetual
            if counted.backorder_handling is not None:
                record.backorder_handling = counted.backorder_handling
            if counted.backorder_allocation is not None:
                record.backorder_allocation = counted.backorder_allocation
            record.modified = at


_STEPS: dict[str, Callable[[JobBoard, dict[str, str], datetime], tuple[str, str]]] = {
    "ExportInventoryLists": JobBoard.export_inventory,
    "ExportPriceBook": JobBoard.export_price_books,
    "ExportCatalog": JobBoard.export_catalogue,
    "ImportInventoryLists": JobBoard.import_inventory,
}


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def start_job(call: Call) -> Answer:
    """Starts a job; parameters of the call stand above those of the job."""
    given = {one["name"]: one["value"] for one in call.body.get("parameters", [])}
    return Answer(payload=call.instance.jobs.start(call.path["jobId"], given).shown())


def get_execution(call: Call) -> Answer:
    """How far a run is."""
    return Answer(payload=call.instance.jobs.find(call.path["jobId"], call.path["executionId"]).shown())


def delete_execution(call: Call) -> Answer:
    """Ends a run."""
    call.instance.jobs.abort(call.instance.jobs.find(call.path["jobId"], call.path["executionId"]))
    return Answer(204)


# WebDAV


def _entered(call: Call) -> str:
    """The path below Sites/ of a caller who may enter. 401, 404."""
    basic = basic_credentials(call.request)
    known = call.instance.config.webdav_users
    if not (basic is not None and known.get(basic[0]) == basic[1]) and not (call.token and call.token.kind == "am"):
        raise Refusal(401, "unauthorized", "Unauthorized", headers={"WWW-Authenticate": 'Basic realm="webdav"'})
    path = call.path["tail"]
    if not f"{path.rstrip('/')}/".startswith(ROOT) or "/../" in f"/{path}/":
        raise Refusal(404, "not-found", f"{path} is not served; files lie under {ROOT}")
    return path


def get_file(call: Call) -> Answer:
    """A file."""
    path = _entered(call)
    stored = call.instance.jobs.files.get(path)
    if stored is None:
        raise Refusal(404, "not-found", f"{path} does not exist")
    modified = format_datetime(stored.modified.astimezone(UTC), usegmt=True)
    kind = "application/xml" if path.endswith(".xml") else "application/octet-stream"
    return Answer(raw=stored.content, content_type=kind, headers={"ETag": stored.etag, "Last-Modified": modified})


def put_file(call: Call) -> Answer:
    """Stores a file: 201 where there was none, else 204."""
    path = _entered(call)
    files = call.instance.jobs.files
    new = path not in files
    files[path] = StoredFile(call.raw, call.instance.clock.now())
    return Answer(201 if new else 204)


def delete_file(call: Call) -> Answer:
    """Takes a file away, or a folder with all in it."""
    path = _entered(call)
    files = call.instance.jobs.files
    gone = [one for one in files if one == path or one.startswith(f"{path.rstrip('/')}/")]
    if not gone:
        raise Refusal(404, "not-found", f"{path} does not exist")
    for one in gone:
        del files[one]
    return Answer(204)


def make_folder(call: Call) -> Answer:
    """Folders are there once a file is in them; making one changes nothing."""
    _entered(call)
    return Answer(201)


def list_folder(call: Call) -> Answer:
    """The files directly in a folder, as WebDAV's multistatus."""
    path = _entered(call).rstrip("/") + "/"
    rows = []
    for name, stored in call.instance.jobs.files.items():
        if not name.startswith(path) or "/" in name.removeprefix(path):
            continue
        modified = format_datetime(stored.modified.astimezone(UTC), usegmt=True)
        rows.append(
            f"<D:response><D:href>{escape(quote(WEBDAV + name))}</D:href><D:propstat><D:prop><D:resourcetype/>"
            f"<D:getcontentlength>{len(stored.content)}</D:getcontentlength>"
            f"<D:getlastmodified>{modified}</D:getlastmodified><D:getetag>{escape(stored.etag)}</D:getetag></D:prop>"
            "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
        )
    body = f'<?xml version="1.0" encoding="UTF-8"?><D:multistatus xmlns:D="DAV:">{"".join(rows)}</D:multistatus>'
    return Answer(207, raw=body.encode(), content_type="application/xml")


def _job(
    operation_id: str, method: str, tail: str, handler: Any, scopes: tuple[str, ...], body: Record | None = None
) -> Operation:
    return Operation(
        id=operation_id,
        method=method,
        path=organization_path(JOBS, tail),
        family="scapi",
        handler=handler,
        admin_scopes=scopes,
        body=body,
        source="Jobs 1.0.0",
    )


def _dav(operation_id: str, method: str, handler: Any) -> Operation:
    return Operation(
        id=operation_id, method=method, path=WEBDAV + "{tail:.+}", family="webdav", handler=handler,
        source="Salesforce Help, WebDAV",
    )  # fmt: skip


_EXECUTIONS = "/jobs/{jobId}/executions"
_START = Record(
    {
        "parameters": ListOf(
            Record({"name": Text(shortest=1, longest=256), "value": Text(longest=1000)}, required=("name", "value"))
        )
    }
)
OPERATIONS = (
    _job("executeJob", "POST", _EXECUTIONS, start_job, ("sfcc.jobs.rw",), _START),
    _job("getJobExecution", "GET", f"{_EXECUTIONS}/{{executionId}}", get_execution, ("sfcc.jobs", "sfcc.jobs.rw")),
    _job("deleteJobExecution", "DELETE", f"{_EXECUTIONS}/{{executionId}}", delete_execution, ("sfcc.jobs.rw",)),
    _dav("webdavGet", "GET", get_file),
    _dav("webdavPut", "PUT", put_file),
    _dav("webdavDelete", "DELETE", delete_file),
    _dav("webdavMkcol", "MKCOL", make_folder),
    _dav("webdavPropfind", "PROPFIND", list_folder),
)
