"""Who may open a page: the host names of this machine on loopback, holders of the token elsewhere."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from dataclasses import dataclass
from typing import Any

from framefold.errors import FramefoldError


def is_loopback(address: str) -> bool:
    """Tell whether an address to listen on is reached from this machine only."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Access:
    """Rules of one server.

    Attributes
    ----------
    hosts
        ``name:port`` under which browsers may address the server; the origins of its websockets too.
    token
        Needed in the URL or as a cookie; None: none is needed.
    cookie
        Name of that cookie.
    """

    hosts: tuple[str, ...]
    token: str | None
    cookie: str

    def allows(self, host: str, given: str | None) -> bool:
        """Tell whether a request for `host` that shows the token `given` may pass.

        Without a token the host must be one of ours: a foreign page whose name was made to point here
        (DNS rebinding) comes with its own.
        """
        if self.token is None:
            return host.lower() in self.hosts
        return given is not None and hmac.compare_digest(given.encode(), self.token.encode())


def access_to(address: str, port: int, token: str | None) -> Access:
    """Return the rules for a server that listens on `address`.

    Parameters
    ----------
    token
        None: none on loopback, elsewhere a random one.

    Raises
    ------
    FramefoldError
        If a token is given that others can guess: shorter than 8 characters.
    """
    if token is not None and len(token) < 8:
        raise FramefoldError("token= must have at least 8 characters; token=None makes a random one")
    names = ["127.0.0.1", "localhost"]
    if not is_loopback(address):
        token = token or secrets.token_urlsafe(24)
        names = [address, socket.gethostname(), socket.getfqdn(), *names]
    elif address not in names:
        names.append(f"[{address}]" if ":" in address else address)
    hosts = tuple(dict.fromkeys(f"{n.lower()}:{port}" for n in names))
    return Access(hosts, token, f"framefold-{port}")


def reachable_name(address: str) -> str:
    """Return what to write into a URL for a server that listens on `address`."""
    if address in ("0.0.0.0", "::", ""):  # the user asked for all interfaces
        return socket.gethostname()
    return f"[{address}]" if ":" in address else address


def auth_provider(access: Access) -> Any:
    """Return the Bokeh object that asks `access` for every page, websocket and script."""
    from bokeh.server.auth_provider import AuthProvider  # noqa: PLC0415  # optional library
    from tornado.web import HTTPError  # noqa: PLC0415

    async def get_user(handler: Any) -> str:
        given = handler.get_argument("token", None) or handler.get_cookie(access.cookie)
        if not access.allows(handler.request.host, given):
            # before any upgrade to a websocket; a redirect to a login page could not be followed there
            raise HTTPError(403, reason="Refused: open the URL that framefold printed")
        if access.token is not None and handler.get_argument("token", None):
            # the websocket of the page comes without the query
            handler.set_cookie(access.cookie, access.token, httponly=True, samesite="Strict")
        return "viewer"

    class Provider(AuthProvider):
        """Bokeh's hooks."""

        get_user = property(lambda self: None)
        get_user_async = property(lambda self: get_user)
        login_url = property(lambda self: "/")  # asked for, never used: who is refused gets an error
        get_login_url = property(lambda self: None)
        login_handler = property(lambda self: None)
        logout_url = property(lambda self: None)
        logout_handler = property(lambda self: None)

    return Provider()
