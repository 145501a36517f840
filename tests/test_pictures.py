"""The pictures of docs/: do they show what there is?"""

import json
import os
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from scripts.pictures import sequence, speed, tour
from scripts.pictures.sequence import BACK_END, CALLER, FRONT_END, Step
from tests.conftest import PROJECT

PICTURES = PROJECT / "docs" / "pictures"
SVG = "{http://www.w3.org/2000/svg}"

# As strace wrote it, but for the numbers of the processes, and shortened.
TRACE = """\
3 1.10 readv(9,  <unfinished ...>
2 1.11 read(14,  <unfinished ...>
1 1.20 read(0, "\\n", 8192) = 1
1 1.21 ioctl(3, _IOC(_IOC_READ|_IOC_WRITE, 0x63, 0x68, 0x30) <unfinished ...>
3 1.22 <... readv resumed>[{iov_base="x", iov_len=131152}], 1) = 120
4 1.23 read(6, "", 8) = 8
3 1.24 process_vm_readv(1, [{iov_base="", iov_len=272}], 1, \
[{iov_base=0x7ff7, iov_len=16}, {iov_base=0x7ff8, iov_len=256}], 2, 0) = 272
3 1.25 write(14, "@", 48 <unfinished ...>
2 1.26 <... read resumed>"@", 256) = 48
2 1.27 write(12, "", 24) = 24
3 1.28 <... write resumed>) = 48
3 1.29 read(12, "", 256) = 24
3 1.30 writev(9, [{iov_base=" ", iov_len=16}, {iov_base="", iov_len=16}], 2 <unfinished ...>
1 1.31 <... ioctl resumed>, 0x7fff) = 0
3 1.32 <... writev resumed>) = 32
3 1.33 readv(9, [{iov_base="x", iov_len=131152}], 1) = 120
"""


def test_steps_of_a_trace() -> None:
    found = sequence.steps(TRACE, {1: CALLER, 2: BACK_END, 3: FRONT_END})
    assert found[2] == Step(CALLER, FRONT_END, "process_vm_readv", "iv 16, src 256")
    calls = [step.call for step in found]
    wanted = ["ioctl", "readv", "process_vm_readv", "write", "AES-128-CBC", "write", "writev", ""]
    assert calls == wanted
    assert [step.source for step in found].count(BACK_END) == 2


@pytest.mark.node
@pytest.mark.skipif(os.geteuid() != 0, reason="to trace takes root")
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_sequence_is_what_happens() -> None:
    shown = sequence.described(PICTURES / "sequence.svg")
    assert shown == sequence.in_words(sequence.observe()), "python -m scripts.pictures sequence"


def test_the_speed_is_what_was_measured() -> None:
    picture = (PICTURES / "speed.svg").read_text()
    assert speed.source() in picture, "python -m scripts.pictures speed"
    assert speed.table(speed.SIZES)[0]["bytes"] == 16
    assert {row["cpus"] for row in speed.table(speed.CALLERS)} == {1, 2}


def test_the_tour_is_that_of_the_demo() -> None:
    root = ElementTree.parse(PICTURES / "tour.svg").getroot()
    shown = "".join("".join(text.itertext()) for text in root.iter(f"{SVG}text"))
    words = shown.replace("\N{NO-BREAK SPACE}", " ")
    script = (PROJECT / "scripts" / "show.py").read_text()
    for told in ("Every word. The device decrypted it for me.", "two C programs, compiled"):
        assert told in script
        assert told in words, "python -m scripts.pictures tour"
    assert "it works: 4 messages went through /dev/cryptodev" in words


def test_a_recording_can_be_read() -> None:
    events = [(0.1, "one\r\ntwo\r\n"), (99.0, "three\r\n")]
    header, *lines = [json.loads(json.dumps(line)) for line in tour._cast(events)]
    assert header == {"version": 2, "width": tour.COLUMNS, "height": tour.ROWS}
    typed = len(tour.PROMPT + tour.TYPED) - len(tour.PROMPT) + 2
    one, two, three, prompt = (line[0] for line in lines[typed:])
    assert two - one == pytest.approx(tour.LINE)
    assert three - two == pytest.approx(tour.LONGEST_PAUSE)
    assert prompt > three
    assert "".join(line[2] for line in lines) == "# ./demo\r\none\r\ntwo\r\nthree\r\n# "


@pytest.mark.parametrize("path", sorted(PICTURES.glob("*")), ids=lambda path: path.name)
def test_pictures_load_nothing(path: Path) -> None:
    for element in ElementTree.parse(path).iter():
        for name, value in element.attrib.items():
            assert not (name.endswith("href") and not value.startswith("#")), value
