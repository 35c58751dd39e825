"""What of an archive's handler needs none of its server's packages."""

from pathlib import Path

from runtimes.python.handler_form import linked_folder


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
