"""Which runs a folder holds."""

from analog_glue.runs.files import write_text_atomic
from analog_glue.runs.folder import files_of_runs


def test_runs_behind_links_count_once_and_a_link_to_a_folder_above_ends(tmp_path):
    elsewhere, root = tmp_path / "elsewhere" / "b", tmp_path / "outputs"
    for folder in (elsewhere, root / "a", root / "records" / "c"):
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
    (root / "linked").symlink_to(elsewhere.parent)
    (root / "again").symlink_to(elsewhere.parent)
    (root / "a" / "up").symlink_to(root)
    assert files_of_runs(root, "run.json") == [root / "a" / "run.json", root / "again" / "b" / "run.json"]
    assert files_of_runs(root / "records", "run.json") == [root / "records" / "c" / "run.json"]
    assert files_of_runs(tmp_path / "nothing", "run.json") == []


def test_the_next_write_removes_what_killed_ones_left_in_the_folder_and_nothing_else(tmp_path):
    kept = {".gitignore", ".tmp", "a.partial", ".lock", ".tmpfile_of_mine"}
    for name in (*kept, ".state.safetensors.partial", ".tmpAb3_9z"):
        (tmp_path / name).touch()
    write_text_atomic(tmp_path / "new", "text")
    assert {file.name for file in tmp_path.iterdir()} == {*kept, "new"}
