"""A headless Chromium of the machine, driven by Playwright."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MISSING = (
    "no chromium here (Debian's package: chromium)"
    if not CHROMIUM
    else ""
    if importlib.util.find_spec("playwright")
    else "no playwright here (pip install playwright; it needs no browser of its own)"
)
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic"),
    # A screenshot needs more shared memory than some containers have: use files in /tmp.
    "--disable-dev-shm-usage",
    # Nothing may be fetched: whatever is asked for ends here.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Browser:
    """One browser with one page, and an empty profile."""

    def __enter__(self) -> Self:
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        self.page: Page = self._browser.new_page()
        self.page.set_default_timeout(60_000)
        self._session = self.page.context.new_cdp_session(self.page)
        self._errors: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self._errors.append(str(error)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._browser.close()
        self._playwright.stop()

    def show(self, page: Path, width: int, height: int, dark: bool = False) -> None:
        """Load a page in a window of this size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.devtools("Emulation.setDeviceMetricsOverride", size)
        self.scheme(dark)
        self.page.goto("about:blank")  # the same address would only be scrolled
        self.page.goto(page.resolve().as_uri())

    def scheme(self, dark: bool) -> None:
        """Light or dark."""
        self.page.emulate_media(color_scheme="dark" if dark else "light")

    def devtools(self, command: str, arguments: dict[str, Any]) -> Any:
        """A command of the DevTools protocol."""
        return self._session.send(command, arguments)

    def run(self, script: str) -> Any:
        """The value that a script returns."""
        return self.page.evaluate(f"() => {{ {script} }}")

    def until(self, condition: str, seconds: float = 60) -> None:
        """Wait until an expression is true."""
        self.page.wait_for_function(f"() => Boolean({condition})", timeout=1000 * seconds)

    def errors(self) -> list[str]:
        """What the page complained of since the last call."""
        errors, self._errors = self._errors, []
        return errors

    def picture(self, whole: bool = False) -> bytes:
        """A PNG of what is shown, or of the whole page."""
        return self.page.screenshot(full_page=whole)

    def _note(self, message: Any) -> None:
        if message.type == "error":
            self._errors.append(message.text)
