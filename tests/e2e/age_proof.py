"""Let a session's last proof be a day ago: ``python -m tests.e2e.age_proof SESSION_KEY``."""

import os
import sys
import time

import django


def main(key: str) -> None:
    """Change it in the database of the environment."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyadmin.settings")
    django.setup()
    from apikeys.sessions import SessionStore  # noqa: PLC0415

    session = SessionStore(key)
    if "proven_at" not in session:
        raise SystemExit("There is no such session.")
    session["proven_at"] = time.time() - 24 * 3600
    session.save()


if __name__ == "__main__":
    main(sys.argv[1])
