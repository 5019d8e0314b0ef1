"""HTTP as the server speaks it. Named by `app.serve`, and loaded by the processes that serve."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from schema.http import break_off_streams


class Protocol(HttpToolsProtocol):
    """Uvicorn's own, which breaks off live streams when it is to stop: they would hold up the exit."""

    def shutdown(self) -> None:
        break_off_streams()
        super().shutdown()
