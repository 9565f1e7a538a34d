"""Repositories on the Hugging Face Hub: fetch one, or make one hold given files, in one commit or not at all."""

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TypeVar, cast

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    DatasetInfo,
    HfApi,
    ModelInfo,
    SpaceHardware,
    SpaceInfo,
    constants,
    snapshot_download,
)
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

# What the Hub's HTTP client raises; which library that is has changed twice.
CLIENT_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
# The exceptions of huggingface_hub: LFS and Xet raise RuntimeError, an answer that is not JSON raises ValueError.
FAULTS: tuple[type[Exception], ...] = (CLIENT_ERROR, HFValidationError, OSError, RuntimeError, ValueError)
LOGIN = "log in with `hf auth login` or set HF_TOKEN"
PATIENCE = 120  # seconds to wait for a rate limit
T = TypeVar("T")
Content = Path | bytes
Info = ModelInfo | DatasetInfo | SpaceInfo


class HubError(ValueError):
    """A request to the Hub failed. The message is one sentence with the reason."""


def client(token: str | bool | None = None) -> HfApi:
    """A client of the Hub, with the given token, the token of this machine (None), or none (False)."""
    try:
        version = metadata.version("betavae")
    except metadata.PackageNotFoundError:  # run from its folder
        version = "source"
    return HfApi(token=token, library_name="betavae", library_version=version)


def fetch(
    name: str,
    patterns: Sequence[str],
    max_bytes: int | None = None,
    *,
    kind: str = "model",
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> Path:
    """The folder in the local cache with the files of the repository ``name`` that match ``patterns``.

    If the Hub cannot be reached, the cache answers. Not with ``token=False``: the cache also holds files fetched with a token,
    so only repositories that the Hub has just confirmed as public are opened.

    Raises
    ------
    HubError
        There is no such repository or revision, it is not accessible or too large, or the Hub cannot be reached and the cache
        does not have it.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise HubError(f"{name!r} is no name of a Hub repository; give it as user/repo.")
    api = client(token)

    def snapshot(**options) -> Path:
        return Path(snapshot_download(
            name, repo_type=kind, revision=revision, allow_patterns=list(patterns), token=token, cache_dir=cache_dir,
            library_name=api.library_name, library_version=api.library_version, **options))

    def cached(error: Exception | None) -> Path:
        if token is False:
            raise HubError(f"The Hub repository {name!r} cannot be opened: {reason(error)}.") from error
        try:
            return snapshot(local_files_only=True)
        except FAULTS as missing:
            why = f" and cannot be reached: {reason(error)}" if error else ""
            raise HubError(f"The Hub repository {name!r} is not in the local cache{why}.") from missing

    if local_files_only and token is not False:
        return cached(None)
    try:
        info = cast(Info, api.repo_info(name, repo_type=kind, revision=revision, files_metadata=True, timeout=10))
    except FAULTS as error:
        if _answered(error):
            raise HubError(f"The Hub repository {name!r} cannot be opened: {reason(error)}.") from error
        return cached(error)
    if token is False and (info.private or info.gated):
        raise HubError(f"The Hub repository {name!r} cannot be opened: not everybody may download it.")
    size = sum(file.size or 0 for file in info.siblings or () if _matches(file.rfilename, patterns))
    if max_bytes is not None and size > max_bytes:
        raise HubError(f"The Hub repository {name!r} holds {size / 2**20:,.0f} MB; a model has {max_bytes // 2**20} at most.")
    try:
        return snapshot(force_download=force_download)
    except FAULTS as error:
        raise HubError(f"The Hub repository {name!r} cannot be downloaded: {reason(error)}.") from error


def push(name: str, files: Callable[[str], Mapping[str, Content]], message: str, *, kind: str = "model",
         ours: Callable[[str], bool] = lambda path: True, private: bool | None = None, create_pr: bool = False,
         token: str | bool | None = None, sdk: str | None = None, hardware: str | None = None) -> str:
    """Make a repository hold exactly the given files, in one commit, and return its address, or the pull request's.

    A missing repository is created last, and removed again if the commit fails. If the reply to a commit is lost, the
    repository is read to see whether it was made. If nothing has changed, nothing is committed.

    Parameters
    ----------
    files : callable
        Maps the repository's name, as the Hub writes it, to {path in the repository: file here, or content}.
    kind : "model" | "space"
    ours : callable
        Whether to delete a file of the repository that is not among ``files``.
    private : bool, optional
        Visibility of a new repository; None is the account's default. True refuses a repository that is public.
    create_pr : bool
        Open a pull request instead of committing to main.
    sdk, hardware : str, optional
        For a new Space.

    Raises
    ------
    HubError
        The Hub refused or cannot be reached. The repository is unchanged.
    """
    check(name, token)
    files(name)  # a missing file raises before the Hub is changed
    api, made, done = client(token), False, False
    try:
        try:
            info = _info(api, name, kind)
        except RepositoryNotFoundError:
            created = _create(api, name, kind, private, sdk, hardware)
            made = True
            info = _info(api, created, kind)
        name = info.id
        if private and not made and not info.private:
            raise HubError(f"The Hub repository {name!r} is public, and --private is asked for; make it private in its "
                           "settings on the Hub first.")
        wanted = dict(files(name))
        there = {file.rfilename for file in info.siblings or ()}
        gone = [path for path in sorted(there - set(wanted) - {".gitattributes"}) if ours(path)]
        held = _holds(info, wanted, gone)
        address = None if held else _commit(api, info, wanted, gone, message, kind, create_pr)
        done = True
        return address or f"{api.endpoint}/{'spaces/' if kind == 'space' else ''}{name}"
    except HubError:
        raise
    except FAULTS as error:
        raise HubError(f"The Hub did not take {name!r}: {reason(error)}.") from error
    finally:
        if made and not done:
            try:
                _patiently(lambda: api.delete_repo(name, repo_type=kind, missing_ok=True))
            except FAULTS as error:
                raise HubError(f"The Hub did not take {name!r}, and the empty repository that was made for it could not be "
                               f"removed: {reason(error)}; delete it in its settings on the Hub.") from error


def check(name: str, token: str | bool | None = None) -> None:
    """Check the name and the token of a later ``push``, before the work that comes first.

    Raises
    ------
    HubError
        The name is not user/name, the token is missing or invalid, or the Hub cannot be reached.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise HubError(f"The repository is {name!r}; it must be user/name.")
    try:
        _patiently(client(token).whoami)
    except FAULTS as error:
        raise HubError(f"The Hub did not take {name!r}: {reason(error)}.") from error


def reason(error: BaseException | None) -> str:
    """The reason of a failure of the Hub, as the end of a sentence."""
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, LocalTokenNotFoundError):
            return f"there is no Hub token here; {LOGIN}"
        if isinstance(cause, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set"
        if isinstance(cause, HfHubHTTPError):
            return _answer(cause)
    for cause in chain:
        if isinstance(cause, HFValidationError):
            return f"its name is not allowed: {_line(cause)}"
        if isinstance(cause, CLIENT_ERROR):
            slow = isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__
            return f"{constants.ENDPOINT} did not answer in time" if slow else (
                f"the connection to {constants.ENDPOINT} failed ({_line(cause) or type(cause).__name__})")
        if isinstance(cause, OSError) and cause.errno:
            return f"{os.strerror(cause.errno)}{f', {cause.filename!r}' if cause.filename else ''}"
    last = chain[-1] if chain else None
    # Xet's compiled client has its own messages.
    if answer := re.search(r"HTTP status \w+ error \((\d{3})", str(last)):
        return _status(int(answer[1]))
    if "error sending request for url" in str(last):
        return f"the connection to {constants.ENDPOINT} failed"
    return f"{_line(last) or type(last).__name__}" if last else "it is unknown"


def _answer(error: HfHubHTTPError) -> str:
    """The reason of a refusal by the Hub."""
    status, message = error.response.status_code, error.response.headers.get("X-Error-Message") or error.server_message
    said = f" ({_line(message)})" if message else ""
    if isinstance(error, GatedRepoError):
        return f"it is gated; accept its terms on {constants.ENDPOINT}, and {LOGIN}"
    if isinstance(error, DisabledRepoError):
        return "the Hub has disabled it"
    if isinstance(error, RevisionNotFoundError):
        return "it has no such revision"
    if (status == 401 and "credentials" in (message or "")) or (
        status == 401 and not isinstance(error, RepositoryNotFoundError)
    ):
        return f"the Hub token is not valid; {LOGIN} with a new one"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such repository, or it is private and the token here may not see it"
    return _status(status, _retry_after(error), said)


def _status(status: int, wait: float = 0, said: str = "") -> str:
    """The reason of an HTTP status. ``wait``: seconds asked for by a rate limit; ``said``: the Hub's own message."""
    known = {
        401: f"the Hub token is not valid; {LOGIN} with a new one",
        402: "the account's plan does not include it; a Space that runs Python on free CPU hardware needs PRO",
        403: "the token has no right to do that; it needs the role 'write' there",
        404: "the Hub does not find it",
        409: "the Hub has something in conflict with it",
        412: "somebody else committed meanwhile; run it again",
        413: "the Hub finds it too large",
        429: f"the Hub's rate limit is reached; try again {f'in {wait:.0f} seconds' if wait else 'later'}",
    }
    if status >= 500:
        return f"the Hub is out of order (HTTP {status}); try again later"
    return known.get(status, f"the Hub refused it with HTTP {status}") + said


def _line(text: object) -> str:
    return next((line.strip().rstrip(".") for line in str(text).splitlines() if line.strip()), "")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _answered(error: BaseException) -> bool:
    """Whether the Hub itself refused, rather than that it or the way to it is broken."""
    refusal = next((cause for cause in _causes(error) if isinstance(cause, HfHubHTTPError)), None)
    return isinstance(error, HFValidationError) or (refusal is not None and (
        400 <= refusal.response.status_code < 500 and refusal.response.status_code != 429))


def _retry_after(error: HfHubHTTPError) -> float:
    """Seconds until a rate limit ends, as the Hub says in one of two headers; 0 where it says nothing."""
    headers = error.response.headers
    match = re.search(r"t\s*=\s*(\d+)", headers.get("ratelimit", ""))
    text = match[1] if match else headers.get("Retry-After", "")
    return float(text) if text.strip().isdigit() else 0.0


def _patiently(ask: Callable[[], T]) -> T:
    """The result of ``ask``, retried after a rate limit: huggingface_hub itself waits only in some calls."""
    waited = 0.0
    while True:
        try:
            return ask()
        except HfHubHTTPError as error:
            wait = _retry_after(error) or 5.0
            if error.response.status_code != 429 or waited + wait > PATIENCE:
                raise
            waited += wait
            time.sleep(wait)


def _info(api: HfApi, name: str, kind: str, revision: str | None = None) -> Info:
    def ask() -> Info:
        return cast(Info, api.repo_info(name, repo_type=kind, files_metadata=True, revision=revision, timeout=30))
    return _patiently(ask)


def _create(api: HfApi, name: str, kind: str, private: bool | None, sdk: str | None, hardware: str | None) -> str:
    """Create a repository that was just found missing; its name as the Hub writes it."""
    def ask(again: bool) -> str:
        flavour = SpaceHardware(hardware) if hardware else None
        return _patiently(lambda: api.create_repo(name, repo_type=kind, private=private, space_sdk=sdk, space_hardware=flavour,
                                                  exist_ok=again)).repo_id
    try:
        return ask(False)
    except FAULTS as error:
        if _answered(error):
            raise
        return ask(True)  # it may exist: the reply may have been lost


def _holds(info: Info, wanted: Mapping[str, Content], gone: Sequence[str]) -> bool:
    """Whether a repository already has the wanted files, by the hashes of git and LFS."""
    def same(file, content: Content) -> bool:
        data = content if isinstance(content, bytes) else content.read_bytes()
        if file.lfs is not None:
            return hashlib.sha256(data).hexdigest() == file.lfs.sha256
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == file.blob_id

    there = {file.rfilename: file for file in info.siblings or ()}
    return not set(gone) & set(there) and all(path in there and same(there[path], content) for path, content in wanted.items())


def _commit(api: HfApi, before: Info, wanted: Mapping[str, Content], gone: Sequence[str], message: str, kind: str,
            create_pr: bool) -> str | None:
    """Make the commit; the address of its pull request, if it is one."""
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(path, content if isinstance(content, bytes) else str(content))
        for path, content in wanted.items()
    ]
    operations += [CommitOperationDelete(path) for path in gone]
    try:
        made = api.create_commit(before.id, operations, commit_message=message, repo_type=kind, create_pr=create_pr,
                                 parent_commit=before.sha)
        return made.pr_url
    except FAULTS as error:
        # Without an answer, the commit may have been made and its reply lost.
        if not _answered(error):
            with contextlib.suppress(*FAULTS):
                if not create_pr and _holds(_info(api, before.id, kind), wanted, gone):
                    return None
                for pull in api.get_repo_discussions(before.id, repo_type=kind, discussion_status="open") if create_pr else ():
                    if pull.title == message and _holds(_info(api, before.id, kind, f"refs/pr/{pull.num}"), wanted, gone):
                        return pull.url
        raise


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(Path(path).match(pattern) for pattern in patterns)
