"""How every command refuses what it cannot do."""


def assert_refused(command, status, message, capsys):
    """``command`` ended with one line on standard error that holds ``message``, and no output."""
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert err.startswith(f"{command}: error: ")
    assert message in err
    assert err.count("\n") == 1
