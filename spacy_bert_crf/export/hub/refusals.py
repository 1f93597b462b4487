"""Errors of a hub and of the way to it, as one message each."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from ...errors import BertCrfError, first_line

#: What to do about a refusal, by the status of the response.
_WHAT_TO_DO = {
    400: "check the name and the card",
    401: "check the token: it is not accepted there",
    403: "use a token that may write there, or name a repository of your own",
    404: "check its name, the branch and the endpoint",
    409: "somebody else changes it: push again",
    412: "somebody else changed it meanwhile: push again",
    413: "a file is too large for it: leave out the wheel (--no-wheel) or the exports",
    429: "there were too many requests: wait, and push again",
    507: "there is no room: free some there",
}


@contextmanager
def explained(endpoint: str, wish: str, files: Optional[dict[str, Path]] = None) -> Iterator[None]:
    """Turn each error within the block into one message.

    endpoint: address of the hub.
    wish: what the block wants of it, after "refuses" or "can't be asked".
    files: what is uploaded, to name the largest file where one is too large.
    Raises BertCrfError with the status of the response, if there was one.
    """
    try:
        yield
    except BertCrfError:
        raise
    except Exception as err:  # of huggingface_hub, and of the HTTP client that its version has
        raise BertCrfError(_message(err, endpoint, wish, files or {})) from err


def _message(err: Exception, endpoint: str, wish: str, files: dict[str, Path]) -> str:
    chain = [err]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        if cause in chain or not isinstance(cause, Exception):
            break
        chain.append(cause)
    nothing = " No commit was made." if files else ""
    perhaps = " Look there for a new commit before you push again." if files else ""
    response = next((r for e in chain if (r := getattr(e, "response", None)) is not None), None)
    if response is not None:
        status = int(response.status_code)
        todo = _WHAT_TO_DO.get(status, "try again later" if status >= 500 else "see its reason")
        if status == 413 and files:
            name, path = max(files.items(), key=lambda item: item[1].stat().st_size)
            todo += f". The largest is {name} ({path.stat().st_size / 1e6:.1f} MB)"
        done = perhaps if status >= 500 else nothing
        return f"{endpoint} refuses {wish} ({status}: {_reason(chain)}): {todo}.{done}"
    if any(_is_network(each) for each in chain):
        return (
            f"{endpoint} can't be asked {wish} ({_reason(chain[:1])}): check the network and the "
            f"endpoint, or name a mirror with --endpoint.{perhaps}"
        )
    return f"{endpoint} refuses {wish}: {_reason(chain[:1])}.{nothing}"


def _reason(chain: list[Exception]) -> str:
    """What the hub says, else the first line of the error, without the queries of addresses."""
    said = next((s for e in chain if (s := getattr(e, "server_message", None))), "")
    # Of several lines, huggingface_hub's own first one is less than what the hub adds to it.
    text = str(said) or " ".join(first_line(chain[0]).split())
    lines = [line.strip() for line in str(chain[0]).splitlines() if line.strip()]
    if not said and len(lines) > 1 and lines[0].endswith((":", ".")):
        text = f"{lines[0]} {lines[1]}"
    text = re.sub(r"\?[^\s)]+", "", text.splitlines()[0])
    return re.sub(r"\s*\(Request ID: [^)]*\)", "", text).rstrip(".")[:300]


def _is_network(err: Exception) -> bool:
    """Whether an error is one of the connection: of the system or of an HTTP client."""
    of_client = type(err).__module__.partition(".")[0] in ("requests", "httpx", "httpx2", "urllib3")
    return isinstance(err, (ConnectionError, TimeoutError)) or of_client
