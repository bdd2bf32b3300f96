"""Every setting: its section, key, type, range, default and meaning. Frozen data, nothing else.

What stands below a class is the introduction of its section in docs/configuration.md, what stands below a key its
effect there; see `midasdl.config.reference`.
"""

from __future__ import annotations

import json
import re
from datetime import time
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, HttpUrl, field_validator

CEDA_DOMAIN = "ceda.ac.uk"
PAUSE = "pause"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CLOCK_TIME = r"^(([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?|24:00(:00)?)$"
MOST_REQUESTS_TO_CEDA = 16
"""Nobody may ask CEDA's hosts for more at the same time, whatever the settings say."""


def is_ceda(host: str) -> bool:
    """Whether a host, with or without its port, is one of CEDA's."""
    return f".{host.partition(':')[0].lower()}".endswith(f".{CEDA_DOMAIN}")


def _from_anywhere(value: object) -> object:
    """A recorded run may be resumed from another folder; an empty value takes a lower layer's away."""
    if value is None or str(value) in {"", "."}:
        return None
    return Path(value).expanduser().absolute() if isinstance(value, (str, Path)) else value


Place = Annotated[Path | None, BeforeValidator(_from_anywhere)]
"""A file or folder, or none."""


def _as_days(value: object) -> object:
    """Days in any case; what is no day is told."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)):
        return value
    days = tuple(str(name).lower()[:3] for name in names)
    strange = [name for name, day in zip(names, days, strict=True) if day not in DAYS]
    if strange or not days:
        raise ValueError(f"must be some of {', '.join(DAYS)}")
    return days


def _as_clock_time(value: object) -> object:
    """TOML has times of its own: ``08:00:00``."""
    if not isinstance(value, time):
        return value
    return f"{value:%H:%M:%S}" if value.second else f"{value:%H:%M}"


def _from_json(value: object) -> object:
    """The environment has no tables: there a list is written as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value or "[]")
    except ValueError:
        raise ValueError("must be a list in JSON") from None


class Section(BaseModel):
    """A part of the settings: frozen, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Workers(Section):
    """The processes of a run."""

    count: int = Field(4, ge=1, le=64)
    """Worker processes; `--workers` on the command line."""
    restart_on_failure: bool = True
    """Replace a worker that dies; if false the others go on without it."""
    restart_delay_ms: int = Field(5_000, ge=0, le=600_000)
    """Wait before a worker that died is replaced; its files are taken over at once."""


class Batching(Section):
    """How many things are handed on at a time."""

    manifest_batch_size: int = Field(2_000, ge=1, le=100_000)
    """Manifest lines that `init` hands to the ledger at a time."""
    channel_buffer_size: int = Field(100, ge=1, le=100_000)
    """Progress messages that a worker holds before it drops the oldest; only the picture suffers."""
    prefetch_count: int = Field(50, ge=0, le=10_000)
    """Files of which a worker sees ahead of its downloads whether they are on disk, so that they wait behind no
    request; 0 looks at each file when its turn comes."""


class Backoff(Section):
    """How long a file waits for another try."""

    max_retries: int = Field(3, ge=0, le=100)
    """Retries of one file after its first request; a 429 does not count."""
    base_backoff_ms: int = Field(1_000, ge=1, le=3_600_000)
    """Wait before the first retry; four times as long after 500 and its like."""
    max_backoff_seconds: float = Field(300, ge=0, le=86_400)
    """Longest wait before a retry, unless `Retry-After` asks for more."""
    multiplier: float = Field(2.0, ge=1, le=100)
    """Each further wait is this many times as long."""
    jitter_factor: float = Field(0.1, ge=0, le=1)
    """Waits vary at random by this share either way."""


class CedaClientSettings(Section):
    """How requests follow each other.

    Limits count over everything that shares the ledger: workers, runs, retries, token requests. At CEDA's hosts there
    are never more than 16 requests in flight, whatever stands here.
    """

    max_concurrent_requests: int = Field(3, ge=0, le=1_000)
    """Requests in flight; 0 sets no limit."""
    request_timeout_seconds: float = Field(300, gt=0, le=86_400)
    """Longest silence of the server, before the first byte and between two; a slow file that moves lives."""
    connection_timeout_seconds: float = Field(30, gt=0, le=3_600)
    """Longest wait for a connection."""
    min_request_spacing_ms: int = Field(100, ge=0, le=600_000)
    """Least time between the starts of two requests to a host."""
    backoff: Backoff = Backoff()


class CircuitBreaker(Section):
    """When a server that does not answer is left alone."""

    enabled: bool = True
    """Leave a server alone that does not answer, and let one request at a time try again."""
    failure_threshold: int = Field(5, ge=1, le=1_000)
    """Times in a row, over all workers, that CEDA is unavailable, silent or refuses the connection."""
    success_threshold: int = Field(2, ge=1, le=1_000)
    """Answers of trial requests after which all workers go on."""
    timeout_seconds: float = Field(60, gt=0, le=86_400)
    """Time until a trial request."""


class Cache(Section):
    """What is on disk already, and how files come there.

    What was just fetched is always checked against its md5, and so is every file that this ledger has not called done
    before, whatever stands here.
    """

    verification_enabled: bool = True
    """Read files again that this ledger has called done once, when a newer manifest gives them a further path; if
    false their size is trusted. What `midasdl verify` found damaged is always read."""
    verification_sample_rate: float = Field(1.0, ge=0, le=1)
    """Share of those files that is read again; of the others the size is trusted."""
    parallel_directory_creation: bool = True
    """Make the folders of the next files ahead, several at a time; if false each is made when its first file comes."""
    temp_file_directory: Place = None
    """Folder for the bytes of files that are not whole yet; it must be on the file system of the archive, or a run
    does not begin. Unset is `.midasdl/parts` in the archive."""


class Memory(Section):
    """How much memory a run takes."""

    max_file_size_in_memory: int = Field(104_857_600, ge=0, json_schema_extra={"unit": "bytes"})
    """Larger files, and those of unknown length, are streamed to disk, and gone on with when they break off."""
    download_chunk_size: int = Field(65_536, ge=512, le=67_108_864, json_schema_extra={"unit": "bytes"})
    """Read and written at a time where a file is streamed."""
    max_memory_percent: float = Field(50, gt=0, le=100)
    """Share of the machine's memory that all workers of a run may take together; beyond it, fewer of them work."""


class Window(Section):
    """``[[performance.schedule]]``: a part of the week, and what holds in it."""

    model_config = ConfigDict(populate_by_name=True)

    days: Annotated[tuple[str, ...], BeforeValidator(_as_days)] = DAYS
    """Days on which it begins: mon, tue, wed, thu, fri, sat, sun; unset is every day."""
    from_time: Annotated[str, BeforeValidator(_as_clock_time)] = Field(alias="from", pattern=CLOCK_TIME)
    """When it begins, such as 08:00."""
    to_time: Annotated[str, BeforeValidator(_as_clock_time)] = Field(alias="to", pattern=CLOCK_TIME)
    """When it ends, such as 18:30 or 24:00; on the next day, where that is not later than `from`."""
    time_zone: str = "Europe/London"
    """By whose clocks."""
    profile: str = Field(pattern="^(conservative|balanced|aggressive|development|custom|pause)$")
    """A profile, or `pause`."""

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        from zoneinfo import ZoneInfo  # noqa: PLC0415 - few settings have a schedule

        try:
            ZoneInfo(value)
        except (ValueError, OSError, LookupError):
            raise ValueError("is not a time zone, such as Europe/London or UTC") from None
        return value


class Tuning(Section):
    """How the number of workers follows the load.

    Under strain one worker after the other finishes its file and rests; when the load has passed they come back, more
    slowly. Strain is what other programs use of the processors, what the workers take of the memory
    (`performance.memory.max_memory_percent`), and answers of the server that take more than twice as long as usual.
    Each change is told, and kept with its reason in the view `steps`.
    """

    enabled: bool = True
    """Let the number of workers follow the load; if false all of them work."""
    min_workers: int = Field(1, ge=1, le=64)
    """So many work under any load."""
    max_cpu_percent: float = Field(80, gt=0, le=100)
    """Share of the processors that other programs may use before fewer workers work; what midasdl uses itself does
    not count."""
    interval_seconds: float = Field(5, gt=0, le=3_600)
    """Time between two looks at the load; two in a row under strain make one worker rest, six calm ones call one
    back."""


class Performance(Section):
    """How fast a run goes, and how much it takes.

    A profile sets several keys at once; each of them can be given a value of its own all the same.
    """

    profile: str = Field("balanced", pattern="^(conservative|balanced|aggressive|development|custom)$")
    """What the keys below are where nobody gives them; `--profile` on the command line."""
    schedule: Annotated[tuple[Window, ...], BeforeValidator(_from_json)] = ()
    """Windows of the week with a profile or `pause` of their own, see [Schedule](#schedule); of those that overlap the
    first holds. A profile that is named on the command line beats them."""
    workers: Workers = Workers()
    batching: Batching = Batching()
    ceda_client: CedaClientSettings = CedaClientSettings()
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    cache: Cache = Cache()
    memory: Memory = Memory()
    tuning: Tuning = Tuning()


class Ceda(Section):
    """Where things are.

    Addresses must begin with `https://`; plain `http://` is for this machine alone. The token goes to the archive's
    host and to no other.
    """

    archive_url: str = "https://dap.ceda.ac.uk/badc/ukmo-midas-open"
    """Files are below this."""
    listing_url: str = "https://data.ceda.ac.uk/badc/ukmo-midas-open"
    """Where folders are listed; `manifest` and `init latest` ask there."""
    token_url: str = "https://services.ceda.ac.uk/api/token/create/"  # noqa: S105 - an address
    """Access tokens come from here."""

    @field_validator("archive_url", "listing_url", "token_url")
    @classmethod
    def _is_safe_url(cls, value: str) -> str:
        """Tokens travel in clear over plain http: that is for this machine alone."""
        url = HttpUrl(value)
        if url.scheme != "https" and url.host not in {"127.0.0.1", "localhost", "[::1]"}:
            raise ValueError("must begin with https:// (plain http is for this machine alone)")
        if url.username or url.password:
            raise ValueError("must not hold a user name or a password; give those with: midasdl auth setup")
        return value

    @field_validator("archive_url", "listing_url")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        return value.rstrip("/")


class Network(Section):
    """The way to CEDA.

    A bundle that is missing or holds no certificate is an error with exit code 2, whoever names it, before anything is
    sent. Proxies come from the environment, see below.
    """

    ca_bundle: Place = None
    """The PEM certificates to trust, a file or a folder, where a network has its own; `--ca-bundle` on the command
    line. Unset are those that `REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE` names, else the usual ones."""


class Run(Section):
    """When to give up."""

    server_patience_seconds: float = Field(3_600, ge=0, le=2_592_000)
    """A run ends with exit code 5 when CEDA has been away, or has refused every request, for this long."""


class Storage(Section):
    """The disks of this machine."""

    duplicates: str = Field("hardlink", pattern="^(hardlink|reflink|copy)$")
    """How a file comes to its second path and further ones; a file system without links or reflinks gets copies."""
    min_free_bytes: int = Field(64_000_000, ge=0)
    """What every disk must have left, the ledger's too, or a run does not begin; and the disks to which files come,
    or it stops, with exit code 4. 0 looks at no disk."""
    token_cache: Place = None
    """Folder of the token that all processes share; unset is `midasdl/tokens` in the user's cache folder."""


class History(Section):
    """What the ledger remembers of each task."""

    keep: str = Field("exceptions", pattern="^(exceptions|all)$")
    """Transitions kept as rows: of tasks that did not go straight to done, or all. The view `history` shows both
    kinds."""
    max_rows: int = Field(1_000_000, ge=0, json_schema_extra={"unit": "rows"})
    """Older transitions, and older steps of throttle, breaker and pauses, are forgotten at the end of a run."""


class Metrics(Section):
    """How a run can be watched from outside.

    Nothing here can hold a run up: what cannot be served, pushed or written is told once, and left out.
    """

    port: int = Field(0, ge=0, le=65_535)
    """Serve the status page, `/status`, `/metrics` and `/healthz` here; `--metrics-port` on the command line. 0 serves
    nothing."""
    host: str = "127.0.0.1"
    """The address to serve at. With another than this machine's own, everybody can look who reaches it."""
    interval_seconds: float = Field(2.0, ge=0.1, le=3_600)
    """How often figures are collected, pushed and written."""
    status_file: Place = None
    """Write the same as `/status` into this file again and again; `--status-file` on the command line."""
    statsd_host: str = ""
    """Push figures to the StatsD server of this name or address; empty pushes none."""
    statsd_port: int = Field(8_125, ge=1, le=65_535)
    """Its port (UDP)."""
    statsd_prefix: str = Field("midasdl", min_length=1)
    """What the names of all figures begin with."""

    @field_validator("host")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        """No name has to be looked up before a run can begin."""
        if value != "localhost":
            try:
                ip_address(value)
            except ValueError:
                raise ValueError("must be an address such as 127.0.0.1 or ::1, or localhost") from None
        return value

    @field_validator("statsd_prefix")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", value):
            raise ValueError("must be letters, digits, dots, hyphens and underscores")
        return value


class Logging(Section):
    """What a run writes down of itself."""

    level: str = Field("info", pattern="^(debug|info|warning|error)$")
    """The least of what is written down. With `debug` each change of state of each task has a line, and for that stays
    in the ledger too, as with `history.keep = "all"`; where no file is named it is `midasdl-debug.jsonl`."""
    file: Place = None
    """Write lines of JSON into this file; `--log-file` on the command line."""
    text_file: Place = None
    """Write the same for people into this file."""
    max_bytes: int = Field(10_000_000, ge=1_000, json_schema_extra={"unit": "bytes"})
    """A log that would become larger is put aside as `.1`, `.2`, ..., and a new one is begun."""
    backups: int = Field(5, ge=1, le=1_000)
    """Logs put aside that are kept."""
    performance_seconds: float = Field(30.0, ge=0.2, le=86_400)
    """How often performance is recorded; alerts rest on two records in a row."""

    @property
    def follows_tasks(self) -> bool:
        """Whether each change of state of each task is written down."""
        return self.level == "debug"

    @property
    def json_file(self) -> Path | None:
        """The file for lines of JSON; whoever wants details gets them without naming one."""
        if self.level == "debug" and self.file is None and self.text_file is None:
            return Path("midasdl-debug.jsonl").absolute()
        return self.file


class Settings(Section):
    """All settings of a job.

    `midasdl.config.resolve` makes them, which lays what is given over the profile that it names.
    """

    performance: Performance = Performance()
    ceda: Ceda = Ceda()
    network: Network = Network()
    run: Run = Run()
    storage: Storage = Storage()
    history: History = History()
    metrics: Metrics = Metrics()
    logging: Logging = Logging()
