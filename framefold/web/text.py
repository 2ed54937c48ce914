"""Text that changes while one looks: replaced in place, where a Bokeh widget would lay out the page again."""

from __future__ import annotations

from typing import Any

# the widget learns of it without being told, in case it is ever made anew
_REPLACE_JS = """
const put = (tries) => {
  const text = source.data.html[0], place = cb_context.index.find_one(div)?.markup_el;
  div.setv({text: text}, {silent: true});
  if (place != null) place.innerHTML = text;
  else if (tries > 0) setTimeout(() => put(tries - 1), 50);  // the page is still being made
};
put(20);
"""


class LiveText:
    """A piece of HTML on a page.

    Parameters
    ----------
    text
        At first.
    options
        Of the Bokeh ``Div``.

    Attributes
    ----------
    root
        For the layout.
    """

    def __init__(self, text: str = "", **options: Any) -> None:
        from bokeh.models import ColumnDataSource, CustomJS, Div  # noqa: PLC0415  # optional library

        self.root = Div(text=text, **options)
        self._source = ColumnDataSource({"html": [text]})
        self._source.js_on_change(
            "data", CustomJS(args={"source": self._source, "div": self.root}, code=_REPLACE_JS)
        )
        self.root.tags = [self._source]  # belongs to the document as long as the widget does

    @property
    def text(self) -> str:
        """What is shown; the same text again costs nothing."""
        return str(self._source.data["html"][0])

    @text.setter
    def text(self, new: str) -> None:
        if new != self.text:
            self._source.data = {"html": [new]}
