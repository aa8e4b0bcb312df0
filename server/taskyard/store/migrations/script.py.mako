"""${message}."""

import sqlalchemy as sa
from alembic import op
% for line in sorted(imports.splitlines() if imports else []):
${line}
% endfor

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
