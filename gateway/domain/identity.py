"""Who sent a request, and what they may do. Independent of how they proved it."""

import math
import time
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

from gateway.domain.quota import Usage
from gateway.errors import Forbidden, Unauthenticated, shorten

# read: metadata, states, statistics, documentation. admin: everything that changes the server.
Action = Literal["infer", "read", "admin", "metrics", "health"]
# Each action, and for which models: patterns of fnmatch, such as "resnet*".
Grants = Mapping[Action, Sequence[str]]

# Answers to `allows` that are remembered. Clients choose the names of models, so there must be a limit; with a smaller
# one, the patterns are matched again for each request of clients with many models.
_MAX_REMEMBERED = 1024
# Nor are longer names remembered: a folder, which is what a model is, has no longer one.
_MAX_NAME_LENGTH = 255

# What a client without credentials is asked for.
WANTED = "an API key or a token; send it as Authorization: Bearer"


class Identity:
    """One client, as long as its credentials are valid.

    A transport finds the identity once for each head or connection, and uses it for further requests with the same
    credentials while `is_valid`.

    name       as the operator has named it; for the log, metrics and quotas
    anonymous  whether the client sent no credentials. It is then asked for them before anything is denied
    withdrawn  set when the key is withdrawn, or when anything that the identity was made from has changed
    expires    time.monotonic() seconds; inf if the credentials have no end
    usage      counts what the client uses and limits it; None if nothing is counted
    refusal    what a client is told that may not do something, in place of being asked for credentials
    wanted     what an anonymous client is asked for otherwise
    """

    __slots__ = ("_allowed", "_grants", "_refusal", "_wanted", "anonymous", "expires", "name", "usage", "withdrawn")

    def __init__(
        self,
        name: str,
        grants: Grants,
        anonymous: bool = False,
        expires: float = math.inf,
        usage: Usage | None = None,
        refusal: str = "",
        wanted: str = WANTED,
    ) -> None:
        self.name, self.anonymous, self.expires, self.usage = name, anonymous, expires, usage
        self.withdrawn = False
        self._grants, self._refusal, self._wanted = grants, refusal, wanted
        self._allowed: dict[tuple[Action, str], bool] = {}

    @property
    def is_valid(self) -> bool:
        return not self.withdrawn and (self.expires == math.inf or time.monotonic() < self.expires)

    def patterns(self, action: Action) -> Sequence[str]:
        """Return the patterns of the models for which the client may do this."""
        return self._grants.get(action, ())

    def allows(self, action: Action, model: str = "") -> bool:
        """Return whether the client may do this.

        model  "" if the action concerns no model, or all of them. To change the server, a grant for all models is
               needed then; for the rest, any grant is enough, and the answer leaves out the other models
        """
        key = (action, model)
        allowed = self._allowed.get(key)
        if allowed is None:
            allowed = self._matches(action, model)
            if len(model) <= _MAX_NAME_LENGTH:
                if len(self._allowed) >= _MAX_REMEMBERED:
                    self._allowed.clear()
                self._allowed[key] = allowed
        return allowed

    def _matches(self, action: Action, model: str) -> bool:
        patterns = self.patterns(action)
        if model:
            return any(fnmatchcase(model, pattern) for pattern in patterns)
        return "*" in patterns if action == "admin" else bool(patterns)

    def check(self, action: Action, model: str = "") -> None:
        """Raise Unauthenticated or Forbidden unless the client may do this. Neither says whether the model exists."""
        if self.allows(action, model):
            return
        if self._refusal:
            raise Forbidden(self._refusal)
        about = f" for model '{shorten(model)}'" if model else ""
        if self.anonymous:
            raise Unauthenticated(f"'{action}'{about} needs {self._wanted}")
        raise Forbidden(f"these credentials do not permit '{action}'{about}; ask the operator for that role")
