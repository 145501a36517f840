"""A sequence of arrows between lanes, as SVG that follows the reader's colours."""

from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

APART, MARGIN, TOP, HEIGHT, LOOP = 240, 110, 92, 44, 22
STYLE = """
text { font: 14px system-ui, sans-serif; fill: #222; text-anchor: middle }
.title { font-size: 17px; font-weight: 600 }
.lane { font-weight: 600 }
.call { font: 13px ui-monospace, monospace; fill: #3949ab }
.what { font-size: 12px; fill: #666 }
line, path { stroke: #3949ab; stroke-width: 1.6; fill: none }
.rail { stroke: #bbb; stroke-width: 1; stroke-dasharray: 3 4 }
.tip { fill: #3949ab; stroke: none }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd } .what { fill: #aaa } .call { fill: #9fa8da } .rail { stroke: #555 }
  line, path { stroke: #9fa8da } .tip { fill: #9fa8da }
}
"""
Arrow = tuple[str, str, str, str]
"""From and to which lane, what it is, and in smaller letters what more there is to say."""


def picture(title: str, lanes: Sequence[str], arrows: Sequence[Arrow], words: str) -> str:
    """The whole document; ``words`` is for who cannot see it."""
    width = 2 * MARGIN + APART * (len(lanes) - 1)
    height = TOP + HEIGHT * len(arrows) + 24
    root = Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}")
    SubElement(root, "title").text = title
    SubElement(root, "desc").text = words
    SubElement(root, "style").text = STYLE
    _tip(root)
    _text(root, width / 2, 26, title, "title")
    places = {lane: MARGIN + APART * number for number, lane in enumerate(lanes)}
    for lane, x in places.items():
        _text(root, x, 62, lane, "lane")
        _line(root, x, 72, x, height - 12, "rail")
    for number, (source, target, call, what) in enumerate(arrows):
        y = TOP + HEIGHT * number + HEIGHT / 2
        _arrow(root, places[source], places[target], y, call, what)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _tip(root: Element) -> None:
    shape = {"viewBox": "0 0 8 8", "refX": "8", "refY": "4", "orient": "auto"}
    size = {"id": "tip", "markerWidth": "7", "markerHeight": "7"}
    marker = SubElement(SubElement(root, "defs"), "marker", attrib=shape | size)
    SubElement(marker, "path", d="M0 0L8 4L0 8z", attrib={"class": "tip"})


def _arrow(root: Element, start: float, end: float, y: float, call: str, what: str) -> None:
    middle = (start + end) / 2
    if start == end:
        loop = f"M{start} {y - 8}h{LOOP}v16h{-LOOP + 2}"
        SubElement(root, "path", d=loop, attrib={"marker-end": "url(#tip)"})
        middle -= APART / 2
    else:
        line = _line(root, start, y, end + (2 if end < start else -2), y, "arrow")
        line.set("marker-end", "url(#tip)")
        # Over a lane that it crosses, a text is hard to read.
        if abs(end - start) > APART:
            middle = end + (start - end) / abs(start - end) * APART / 2
    _text(root, middle, y - 6, call, "call")
    _text(root, middle, y + 14, what, "what")


def _line(root: Element, x1: float, y1: float, x2: float, y2: float, kind: str) -> Element:
    ends = {"x1": f"{x1:g}", "y1": f"{y1:g}", "x2": f"{x2:g}", "y2": f"{y2:g}"}
    return SubElement(root, "line", attrib={**ends, "class": kind})


def _text(root: Element, x: float, y: float, text: str, kind: str) -> None:
    SubElement(root, "text", x=f"{x:g}", y=f"{y:g}", attrib={"class": kind}).text = text
