"""Jobs that SFCC runs for us, such as exports to its own disk."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from shared.answers import UtcTime
from shared.sfcc.common import Read


class ExitStatus(Read, frozen=True, kw_only=True):
    """How a job ended."""

    code: str | None = None
    message: str | None = None
    status: str | None = None


class JobExecution(Read, frozen=True, kw_only=True):
    """One run of a job; it is over once `execution_status` is `finished` or `aborted`."""

    id: str
    job_id: str | None = None
    status: str | None = None
    execution_status: (
        Annotated[
            str,
            Meta(
                extra={
                    "words": frozenset(
                        {
                            *("pending", "running", "pausing", "paused", "resuming", "resumed", "restarting"),
                            *("restarted", "retrying", "retried", "aborting", "aborted", "finished", "unknown"),
                        }
                    )
                }
            ),
        ]
        | None
    ) = None
    exit_status: ExitStatus | None = None
    start_time: UtcTime | None = None
    end_time: UtcTime | None = None
    duration: int | None = None
    log_file_path: str | None = None
    is_log_file_existing: bool | None = None
    parameters: Any = None
    execution_scopes: Any = None
    step_executions: Any = None
