"""Off-screen OpenGL is checked before anything long starts, and the mend is one line."""

from posedive_lib.body import opengl


def test_a_missing_library_is_named_with_the_line_that_installs_it(monkeypatch, capsys):
    monkeypatch.setattr(opengl, "LIBRARIES", ("libNoSuchThing.so.9",))
    assert opengl.main(["--libraries"]) == 1
    printed = capsys.readouterr().err.strip()
    assert "libNoSuchThing.so.9" in printed and f"apt-get install -y {' '.join(opengl.PACKAGES)}" in printed and "\n" not in printed


def test_this_machine_draws():
    assert opengl.check_libraries() is None
    assert opengl.check_render() is None
