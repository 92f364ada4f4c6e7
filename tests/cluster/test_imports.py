"""What tasks are made of is imported by several threads of a fresh worker at the same time."""

import sys
import textwrap

PACKAGE = {
    "__init__.py": """
        import time
        time.sleep(0.3)
        from late_package.core import Thing, work
        """,
    "core.py": """
        import time
        time.sleep(0.3)
        from late_package.base import Base

        class Thing(Base):
            pass

        def work(x):
            return x + 1
        """,
    "base.py": """
        import time
        time.sleep(0.3)

        class Base:
            pass

        def base_work(x):
            return x + 2
        """,
}


def test_threads_that_first_meet_a_package_by_different_names_do_not_break_it(
    start, tmp_path, monkeypatch
):
    package = tmp_path / "late_package"
    package.mkdir()
    for name, text in PACKAGE.items():
        (package / name).write_text(textwrap.dedent(text))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.syspath_prepend(tmp_path)
    from late_package.base import base_work
    from late_package.core import Thing, work

    try:
        client = start(n_workers=1, threads_per_worker=4)
        futures = []
        for _ in range(4):
            futures.append(client.submit(base_work, 1, pure=False))
            futures.append(client.submit(work, 1, pure=False))
            futures.append(client.submit(type, Thing(), pure=False))
        results = client.gather(futures)
        assert results == [3, 2, Thing] * 4
    finally:
        for name in [name for name in sys.modules if name.startswith("late_package")]:
            del sys.modules[name]
