"""Put keys with one scope into keyadmin's own database and print their full texts, a line each."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyadmin.settings")

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.db import connection  # noqa: E402

from apikeys import key_secret  # noqa: E402
from apikeys.models import Actor, ApiKey, Environment, KeyScope, Organization, Scope, User  # noqa: E402
from benchmarks.grown.trigrams import index_at_the_end  # noqa: E402

BATCH = 2000


def main(count: int) -> None:
    """Make an organization with so many keys."""
    by = Actor.command()
    admin = User.objects.create_user("benchmark@example.com")
    organization = Organization.objects.found(name="Benchmark", slug="benchmark", admin=admin, by=by)
    scope = Scope.objects.add(Scope(organization=organization, name="orders:read", description="Read"), by=by)
    environment = organization.environments.get(code="prod")
    with index_at_the_end():
        add_keys(organization, environment, scope, count)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def add_keys(organization: Organization, environment: Environment, scope: Scope, count: int) -> None:
    """Make keys in batches, and print them."""
    number, pepper = max(settings.KEY_PEPPERS.items())
    for start in range(0, count, BATCH):
        secrets = [key_secret.make("ka", "prod") for _ in range(min(BATCH, count - start))]
        keys = ApiKey.objects.bulk_create(
            ApiKey(
                organization=organization,
                environment=environment,
                name=f"key {start + position}",
                purpose="To be measured",
                owner_contact="team@example.com",
                prefix=secret.prefix,
                public_id=secret.public_id,
                digest=key_secret.digest(secret, pepper),
                pepper_number=number,
            )
            for position, secret in enumerate(secrets)
        )
        KeyScope.objects.bulk_create(KeyScope(key=key, scope=scope) for key in keys)
        print("\n".join(secret.text for secret in secrets))


if __name__ == "__main__":
    main(int(sys.argv[1]))
