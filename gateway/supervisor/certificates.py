"""The certificate of the gateway's ports, and its renewal."""

import logging
from collections.abc import Callable

from gateway.config import Settings, SettingsError
from gateway.process.tls import Pem, Renewals, ServerTls, TlsError, TlsFiles

log = logging.getLogger("gateway")


class Certificates:
    """tls: of the supervisor's own port; None without TLS, as `renewals` is then."""

    def __init__(self, settings: Settings, publish: Callable[[Pem], None]) -> None:
        """Call `publish` with what has been renewed. Raises SettingsError if the files cannot be used."""
        self._publish = publish
        self.tls: ServerTls | None = None
        self.renewals: Renewals | None = None
        if not settings.tls_cert:
            return
        files = TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca or None)
        try:
            self.tls = ServerTls(files.read())
        except TlsError as error:
            raise SettingsError(str(error)) from None
        self.renewals = Renewals(files, self.tls.pem, self._renew, log)

    def reloads(self) -> dict[str, bool]:
        """Return whether the files could be used after their last change."""
        return {} if self.renewals is None else {"tls": self.renewals.succeeds}

    async def run(self) -> None:
        """Follow the files until cancelled."""
        if self.renewals is not None:
            await self.renewals.run()

    def _renew(self, pem: Pem) -> None:
        """Raises TlsError, before a front gets what cannot be used."""
        assert self.tls is not None
        self.tls.renew(pem)
        self._publish(pem)
