"""One HTTP call to Lethe: retried while that is safe, and every refusal turned into one exception.

A call is repeated after a lost connection or a passing refusal (429, 502, 503, 504) only if repeating it cannot do
something twice: a read, a PUT, a DELETE, or a POST that carries an Idempotency-Key. Of a URL, only scheme, host and
port are ever said: the rest can hold a password. Needs httpx alone.
"""

import contextlib
import ipaddress
import itertools
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from lethe.json_text import NotJson, dumped

PASSING = frozenset({429, 502, 503, 504})
LONGEST_PAUSE_SECONDS = 60.0
CONNECT_SECONDS = 5.0
READ_SECONDS = 60.0
URL_WITH_USER = (
    "The URL of Lethe holds a user name or password, which Lethe has no use for. Leave out all up to the @, and give "
    "the API key on its own."
)

Content = Callable[[], Iterator[bytes]]
"""Makes the body anew for every try."""

OnWait = Callable[[str], None]
"""Called with a sentence, once a call, when Lethe does not answer and is asked again."""


@dataclass(frozen=True)
class FieldProblem:
    """What is wrong with one field: a JSON pointer (empty for the whole) and a sentence."""

    pointer: str
    detail: str


class LetheProblem(Exception):
    """Lethe refused, could not be reached (`status` 0), or was not asked, since what was given cannot be sent (`status`
    400). `detail` is a sentence with the remedy."""

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str,
        errors: tuple[FieldProblem, ...] = (),
        request_id: str | None = None,
    ) -> None:
        super().__init__(status, code, title, detail, errors, request_id)
        self.status, self.code, self.title, self.detail = status, code, title, detail
        self.errors, self.request_id = errors, request_id

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True)
class Transport:
    """`patience_seconds`: how long a repeatable call is tried in all before its failure is passed on."""

    http: httpx.Client
    patience_seconds: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    on_wait: OnWait = lambda _: None

    def call(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool,
        headers: Mapping[str, str] | None = None,
        content: Content | None = None,
        json: Mapping[str, Any] | None = None,
        **request: Any,
    ) -> httpx.Response:
        """The answer, read whole. Raises LetheProblem for every status from 400 on."""
        body = None if json is None else _body(json)
        headers = dict(headers or {}) | ({} if json is None else {"Content-Type": "application/json"})

        def once() -> httpx.Response:
            return self.http.request(method, path, headers=headers, content=content() if content else body, **request)

        return raise_for_problem(self._patiently(once, repeatable))

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str] | None = None, **request: Any) -> Iterator[httpx.Response]:
        """A GET whose body is read as it arrives; one try. Raises LetheProblem for a refusal or a lost connection.

        Where Lethe sends us to its object store for the body, it is read from there.
        """
        try:
            with self.http.stream("GET", path, headers=headers, **request) as response:
                if response.status_code >= 400:
                    response.read()
                if not response.has_redirect_location:
                    yield raise_for_problem(response)
                    return
                response.read()
        except httpx.HTTPError as error:
            raise self.unreachable(error) from error
        with self._elsewhere(response, headers, **request) as found:
            yield found

    @contextmanager
    def _elsewhere(
        self, response: httpx.Response, headers: Mapping[str, str] | None, **request: Any
    ) -> Iterator[httpx.Response]:
        """The answer of the host that a redirect names. It gets no key of ours, and may not send us further."""
        place = response.url.join(response.headers["Location"])
        downgraded = response.url.scheme == "https" and place.scheme != "https"
        if place.scheme not in ("http", "https") or place.userinfo or downgraded:
            detail = "Lethe names a place for the file that is not safe to ask (not https://). Tell its operator."
            raise LetheProblem(response.status_code, "unsafe_redirect", "Unsafe redirect", detail)
        asked = self.http.build_request("GET", place, headers=headers, **request)
        asked.headers.pop("Authorization", None)
        try:
            with contextlib.closing(self.http.send(asked, stream=True, auth=None, follow_redirects=False)) as found:
                if found.status_code not in (200, 206):
                    raise _refused_elsewhere(found)
                yield found
        except httpx.HTTPError as error:
            detail = f"{place.host}, where Lethe keeps the file, does not answer ({type(error).__name__}). Try again."
            raise LetheProblem(0, "unreachable", "Unreachable", detail) from error

    def unreachable(self, error: httpx.HTTPError) -> LetheProblem:
        """What a connection that failed means to the user."""
        if trouble := _tls_trouble(error):
            return LetheProblem(0, "no_tls", "No TLS", _no_tls(origin(self.http.base_url), trouble))
        remedy = "Is it running? Start it with 'lethe serve', or name another with --url or LETHE_URL."
        detail = f"{self._silence(error)}. {remedy}"
        return LetheProblem(0, "unreachable", "Unreachable", detail)

    def _patiently(self, once: Callable[[], httpx.Response], repeatable: bool) -> httpx.Response:
        deadline, pause_seconds = time.monotonic() + self.patience_seconds, 0.1
        for tries in itertools.count():
            wait_seconds = pause_seconds * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
            try:
                response = once()
            except httpx.HTTPError as error:
                never_arrived = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                may_help = (repeatable or never_arrived) and _tls_trouble(error) is None
                if not may_help or time.monotonic() + wait_seconds > deadline:
                    raise self.unreachable(error) from error
                trouble = self._silence(error)
            else:
                wait_seconds = max(wait_seconds, _retry_after_seconds(response))
                passing = response.status_code in PASSING and (repeatable or response.status_code == 429)
                if not passing or time.monotonic() + wait_seconds > deadline:
                    return response
                trouble = f"Lethe at {origin(self.http.base_url)} answered {response.status_code}"
            if not tries:
                self.on_wait(f"{trouble}. Asking again for up to {self.patience_seconds:.0f} seconds.")
            self.sleep(wait_seconds)
            pause_seconds = min(pause_seconds * 2, 5.0)
        raise AssertionError("counting never ends")

    def _silence(self, error: httpx.HTTPError) -> str:
        return f"No answer from Lethe at {origin(self.http.base_url)} ({type(error).__name__})"


def open_http(url: str, api_key: str | None) -> httpx.Client:
    """A connection pool for one Lethe. A loopback address is never asked for through a proxy. Raises LetheProblem for
    a URL with a user name or password, which would be sent in place of the key, or variables of no use."""
    at, nearby = httpx.URL(url), is_loopback(url)
    if at.userinfo:
        raise LetheProblem(400, "url_with_user", "Bad URL", URL_WITH_USER)
    headers = {"User-Agent": "lethe-client", **({"Authorization": f"Bearer {api_key}"} if api_key else {})}
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    try:
        return httpx.Client(
            base_url=url.rstrip("/"),
            headers=headers,
            timeout=timeout,
            trust_env=not nearby,
            verify=httpx.create_ssl_context(trust_env=not nearby or at.scheme == "https"),  # SSL_CERT_FILE holds there
        )
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
        raise LetheProblem(400, "bad_environment", "Bad environment", _of_environment(error)) from None


def _of_environment(error: Exception) -> str:
    """What httpx found wrong with a variable; its own words may hold a proxy's password."""
    if isinstance(error, ImportError):
        return (
            "ALL_PROXY, HTTP_PROXY or HTTPS_PROXY names a SOCKS proxy, for which a package is missing. Run: pip "
            "install 'httpx[socks]', or unset the variable."
        )
    if isinstance(error, OSError):
        return "SSL_CERT_FILE or SSL_CERT_DIR names no certificates that can be read. Correct the variable or unset it."
    return (
        "ALL_PROXY, HTTP_PROXY, HTTPS_PROXY or NO_PROXY cannot be used. Give a proxy as http://HOST:PORT and NO_PROXY "
        "as names of hosts, or unset the variable."
    )


def _tls_trouble(error: httpx.HTTPError) -> ssl.SSLError | None:
    """What TLS found wrong with the other side, which would come again; None where the connection broke."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__  # httpcore raises anew from None
    broke = isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError)
    return None if broke else cause


def _no_tls(place: str, trouble: ssl.SSLError) -> str:
    if isinstance(trouble, ssl.SSLCertVerificationError):
        return (
            f"The certificate of {place} is not trusted here ({trouble.verify_message}). Name the file of its "
            "authority with SSL_CERT_FILE, and the host as the certificate does."
        )
    reason = (trouble.reason or type(trouble).__name__).lower().replace("_", " ")
    return f"{place} does not speak TLS with this client ({reason}). If Lethe is there, perhaps it speaks http://."


def origin(url: httpx.URL | str) -> str:
    """Scheme, host and port of a URL."""
    parts = httpx.URL(url)
    return f"{parts.scheme}://{parts.netloc.decode()}"


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def raise_for_problem(response: httpx.Response) -> httpx.Response:
    """The same response, or its problem details as LetheProblem."""
    if response.is_success:
        return response
    if response.has_redirect_location:
        raise _sent_on(response)
    try:
        body = response.json()
        errors = tuple(FieldProblem(_place(item), item["detail"]) for item in body.get("errors", ()))
        detail = str(body["detail"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _no_lethe(response) from None
    raise LetheProblem(
        response.status_code, body.get("code", ""), body.get("title", ""), detail, errors, body.get("request_id")
    )


def object_of(response: httpx.Response, always: str = "object") -> dict[str, Any]:
    """The JSON object that an answer is. Raises LetheProblem for what Lethe never sends: one without the field that
    such an answer has `always`, by default the one in which Lethe says what it is."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or always not in body:
        raise _no_lethe(response)
    return body


def rows_of(response: httpx.Response) -> tuple[list[dict[str, Any]], str | None]:
    """One page of a list, and the cursor of the next page. Raises LetheProblem for what Lethe never sends."""
    page = object_of(response, "has_more")
    if not isinstance(page.get("data"), list):
        raise _no_lethe(response)
    return page["data"], str(page["next_cursor"]) if page["has_more"] else None


def _no_lethe(response: httpx.Response) -> LetheProblem:
    """A proxy's page, or another service altogether."""
    title = response.reason_phrase or "Error"
    detail = f"{response.url.host} answered {response.status_code} {title} and is perhaps no Lethe; check the URL."
    return LetheProblem(response.status_code, "http_error", title, detail)


def _sent_on(response: httpx.Response) -> LetheProblem:
    """A redirect, as of an ingress from http:// to https://. It is not followed: it would be told the key."""
    place = origin(response.url.join(response.headers["Location"]))
    if place == origin(response.url):
        return _no_lethe(response)
    detail = f"{origin(response.url)} sends its callers to {place}. If that is Lethe's, give it as the URL."
    return LetheProblem(response.status_code, "redirected", "Redirected", detail)


def _body(fields: Mapping[str, Any]) -> bytes:
    """Raises LetheProblem naming the field, and the place of the row in a list of rows."""
    try:
        return dumped(fields)
    except NotJson as problem:
        place = next((place for place, value in _places(fields) if not _is_json(value)), "")
        detail = f"{place or 'The call'} {problem}. Nothing was sent: mend it and try again."
        raise LetheProblem(400, "not_json", "Not JSON", detail, (FieldProblem(place, detail),)) from None


def _places(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        rows = enumerate(value) if isinstance(value, list) else ()
        yield from ((f"/{name}/{number}", row) for number, row in rows)
        yield f"/{name}", value


def _is_json(value: Any) -> bool:
    try:
        dumped(value)
    except NotJson:
        return False
    return True


def _refused_elsewhere(response: httpx.Response) -> LetheProblem:
    """A passing refusal: a link may just have expired, and Lethe gives a new one when it is asked again."""
    detail = (
        f"{response.url.host}, where Lethe keeps the file, answered {response.status_code}. Try again; if it stays, "
    )
    return LetheProblem(503, "file_host_refused", "Refused", detail + "tell Lethe's operator (LETHE_STORE_PRESIGN).")


def _place(item: Mapping[str, Any]) -> str:
    return str(item.get("pointer") or item.get("parameter") or "")


def _retry_after_seconds(response: httpx.Response) -> float:
    """Whole seconds only: Lethe sends no dates. 0 when the header is absent or is something else."""
    if response.status_code not in PASSING:
        return 0.0
    try:
        return min(float(response.headers.get("Retry-After", "0")), LONGEST_PAUSE_SECONDS)
    except ValueError:
        return 0.0
