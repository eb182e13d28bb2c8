"""The folders of the package say what they are for, and the documentation says it after them."""

import pytest

from tools.rooms import PAGE, ROOT, rooms, with_tree


@pytest.mark.parametrize("name", rooms())
def test_a_room_says_what_it_is_for(name):
    assert len(rooms()[name]) > 15
    assert (ROOT / "qsam2_deploy" / name / "__init__.py").exists()


def test_every_folder_of_code_is_a_room():
    folders = {p.parent for p in (ROOT / "qsam2_deploy").rglob("*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)


def test_the_tree_in_the_documentation_is_that_of_today():
    page = PAGE.read_text()
    assert with_tree(page) == page, "run: python -m tools.rooms --write"
