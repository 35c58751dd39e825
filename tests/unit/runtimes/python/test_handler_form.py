"""What of an archive's handler needs none of its server's packages."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runtimes.contract import LoadOptions, Request
from runtimes.http_messages import BODY, HEADERS, RESPONSE, pack_headers
from runtimes.python.handler_form import Answer, HandlerModel, Message, linked_folder


def test_a_handlers_folder_has_the_files_of_its_archive_and_is_its_own(tmp_path: Path) -> None:
    source, shared = tmp_path / "source", tmp_path / "shared"
    for file in (source / "inner" / "words.txt", shared / "weights.bin"):
        file.parent.mkdir(parents=True)
        file.write_text(file.name)
    (source / "linked").symlink_to(shared)
    folder = Path(linked_folder(str(source)))
    assert (folder / "inner" / "words.txt").read_text() == "words.txt"
    assert (folder / "linked" / "weights.bin").read_text() == "weights.bin"
    (folder / "inner" / "scratch.txt").write_text("")
    assert [each.name for each in (source / "inner").iterdir()] == ["words.txt"]


def test_who_asks_for_an_explanation_does_not_decide_for_the_others_in_a_batch() -> None:
    batches = []

    def call(messages: Sequence[Message]) -> list[Answer]:
        batches.append("".join(message.body.decode() for message in messages))
        return [Answer(message.body, {}) for message in messages]

    def request(body: bytes, **headers: str) -> Request:
        return Request({BODY: np.array([body], object), HEADERS: np.array([pack_headers(headers)], object)})

    explained = {b"c": {"explain": "True"}, b"d": {"explain": "True"}, b"g": {"explain": "False"}}
    bodies = [bytes([each]) for each in b"abcdefg"]
    model = HandlerModel(LoadOptions("", max_rows=3), call)
    answers = model.infer_requests([request(body, **explained.get(body, {})) for body in bodies], "default")
    assert batches == ["ab", "cd", "ef", "g"]
    assert [each[RESPONSE][0] for each in answers if isinstance(each, dict)] == bodies
